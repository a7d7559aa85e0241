import { invariant, isJsonObject } from '../base/guards.js';
import { err, type Result } from '../base/result.js';
import { clusterLimits } from './cluster-types.js';
import { commandFormatMax, formatOf } from './command-format.js';
import { ivLimits } from './iv-budget.js';
import {
  booleanField,
  countField,
  decodeJson,
  encodeJson,
  type FieldCodec,
  type FieldCodecs,
  FieldError,
  listField,
  nullableField,
  objectField,
  stringField,
  wordField,
} from './json-fields.js';
import {
  ivReservationField,
  ivRuleField,
  onIsolationField,
  preparedTokenField,
  sealedBytesField,
  settingsField,
  unconfirmedGrantField,
} from './object-fields.js';
import { type Command, type CommandEnvelope, type CommandOf, type CommandType, limits } from './types.js';

/*
 * The first byte of a command is its format: that in which it first was there. What follows is JSON with the fields of
 * its type, in the order named here.
 */

const envelopeFields: FieldCodecs<CommandEnvelope> = {
  requestId: stringField,
  atMs: countField,
  by: stringField,
};

/** The codec of one command type: `type`, the envelope, then its own fields. */
function commandField<T extends CommandType>(
  type: T,
  fields: FieldCodecs<Omit<CommandOf<T>, keyof CommandEnvelope | 'type'>>,
): FieldCodec<CommandOf<T>> {
  const all = { type: wordField([type]), ...envelopeFields, ...fields };
  // The three parts have exactly the fields of the command between them; the compiler can't add up generic types.
  return objectField(all as unknown as FieldCodecs<CommandOf<T>>);
}

const listElementsMax = 64;

/**
 * A format that is to be active. That of a later release stops this one here, like a command that it does not know:
 * to refuse it would be to diverge from those that can do it.
 */
const activeFormatField: FieldCodec<number> = {
  write: (format) => countField.write(checkFormat(format)),
  fromJson: checkFormat,
  read: () => undefined,
};

function checkFormat(json: unknown): number {
  const format = countField.fromJson(json);
  if (format <= commandFormatMax) return format;
  throw new FieldError(`is ${format}; this version of xksd knows formats up to ${commandFormatMax}`, '');
}

const foundingField: FieldCodec<CommandOf<'cluster.init'>> = objectField({
  type: wordField(['cluster.init']),
  ...envelopeFields,
  clusterId: stringField,
  nodeName: stringField,
  memberId: stringField,
  address: stringField,
  format: activeFormatField,
} as FieldCodecs<CommandOf<'cluster.init'>>);

const firstInitField: FieldCodec<CommandOf<'cluster.init'>> = commandField('cluster.init', {
  clusterId: stringField,
  nodeName: stringField,
} as FieldCodecs<Omit<CommandOf<'cluster.init'>, keyof CommandEnvelope | 'type'>>);

const reserveFields = {
  holder: stringField,
  reservations: listField(ivReservationField, ivLimits.reservationsPerCommandMax),
};
const bareReserveField: FieldCodec<CommandOf<'iv.reserve'>> = commandField(
  'iv.reserve',
  reserveFields as FieldCodecs<Omit<CommandOf<'iv.reserve'>, keyof CommandEnvelope | 'type'>>,
);
const reserveField: FieldCodec<CommandOf<'iv.reserve'>> = commandField('iv.reserve', {
  ...reserveFields,
  sequence: countField,
} as FieldCodecs<Omit<CommandOf<'iv.reserve'>, keyof CommandEnvelope | 'type'>>);

const memberPlaceFields = { memberId: stringField, name: stringField, address: stringField };

const commandFields: { readonly [T in CommandType]: FieldCodec<CommandOf<T>> } = {
  'cluster.init': {
    write: (command) => (command.format === undefined ? firstInitField : foundingField).write(command),
    fromJson: (json) =>
      (isJsonObject(json) && Object.hasOwn(json, 'format') ? foundingField : firstInitField).fromJson(json),
    read: () => undefined,
  },
  'token.prepare': commandField('token.prepare', { token: preparedTokenField }),
  'keystore.create': commandField('keystore.create', {
    name: stringField,
    uriPathPrefix: stringField,
    regions: listField(stringField, listElementsMax),
    adopted: booleanField,
  }),
  'keystore.enable': commandField('keystore.enable', { name: stringField, revision: countField }),
  'keystore.disable': commandField('keystore.disable', { name: stringField }),
  'credential.create': commandField('credential.create', {
    keyStore: stringField,
    accessKeyId: stringField,
    sealedSecret: sealedBytesField,
  }),
  'credential.retire': commandField('credential.retire', {
    keyStore: stringField,
    accessKeyId: stringField,
  }),
  'key.create': commandField('key.create', {
    keyStore: stringField,
    externalKeyId: stringField,
    objectId: stringField,
    witness: nullableField(sealedBytesField),
    checkValue: nullableField(stringField),
    usage: listField(stringField, listElementsMax),
    description: stringField,
  }),
  'key.enable': commandField('key.enable', {
    keyStore: stringField,
    externalKeyId: stringField,
    revision: countField,
  }),
  'key.disable': commandField('key.disable', { keyStore: stringField, externalKeyId: stringField }),
  'key.set': commandField('key.set', {
    keyStore: stringField,
    externalKeyId: stringField,
    ivBudget: ivRuleField,
  }),
  'iv.reserve': {
    write: (command) => (command.sequence === undefined ? bareReserveField : reserveField).write(command),
    fromJson: (json) =>
      (isJsonObject(json) && Object.hasOwn(json, 'sequence') ? reserveField : bareReserveField).fromJson(
        json,
      ),
    read: () => undefined,
  },
  'keystore.set': commandField('keystore.set', {
    name: stringField,
    onIsolation: onIsolationField,
    revision: countField,
  }),
  'cluster.upgrade': commandField('cluster.upgrade', { format: activeFormatField }),
  'cluster.settings': commandField('cluster.settings', { settings: settingsField }),
  'cluster.recover': commandField('cluster.recover', {
    newClusterId: stringField,
    survivor: objectField(memberPlaceFields),
    formerMembers: listField(
      objectField({ memberId: stringField, name: stringField }),
      clusterLimits.membersMax,
    ),
    pending: listField(unconfirmedGrantField, clusterLimits.pendingPerCommandMax),
  }),
  'member.register': commandField('member.register', memberPlaceFields),
  'member.add': commandField('member.add', {
    ...memberPlaceFields,
    joinSecretDigest: stringField,
    expiresAtMs: countField,
  }),
  'member.join': commandField('member.join', {
    memberId: stringField,
    joinSecretDigest: stringField,
    address: stringField,
  }),
  'member.promote': commandField('member.promote', { memberId: stringField }),
  'member.remove': commandField('member.remove', { memberId: stringField }),
  'member.forget': commandField('member.forget', { member: stringField, destroyed: booleanField }),
  'member.update': commandField('member.update', { memberId: stringField, address: stringField }),
  'pending.confirm': commandField('pending.confirm', { index: countField }),
  'pending.drop': commandField('pending.drop', { index: countField }),
};

const isCommandType = (type: unknown): type is CommandType =>
  typeof type === 'string' && Object.hasOwn(commandFields, type);

/** Dispatches on `type`. */
const anyCommandField: FieldCodec<Command> = {
  write: (command) => (commandFields[command.type] as FieldCodec<Command>).write(command),
  fromJson: (json) => {
    const type = isJsonObject(json) ? json['type'] : null;
    if (typeof type !== 'string') throw new FieldError('type is missing');
    if (!isCommandType(type)) {
      throw new FieldError(`type ${JSON.stringify(type.slice(0, 64))} is not known to this version of xksd`);
    }
    return commandFields[type].fromJson(json);
  },
  read: (cursor) => {
    const type = cursor.peekAfter('{"type":');
    return isCommandType(type) ? commandFields[type].read(cursor) : undefined;
  },
};

/**
 * A command as the log carries it: at most `commandBytesMax` bytes, the same for the same command.
 *
 * @throws FieldError or InvariantViolation for what could not be decoded again: the proposer bounds its inputs first
 * (4,096 characters a string).
 */
export function encodeCommand(command: Command): Uint8Array {
  const bytes = Buffer.concat([Uint8Array.of(formatOf(command)), encodeJson(anyCommandField, command)]);
  invariant(bytes.byteLength <= limits.commandBytesMax, `command of ${bytes.byteLength} bytes`);
  return bytes;
}

/** The command in `bytes`, which it does not keep; else what is wrong with them. */
export function decodeCommand(bytes: Uint8Array): Result<Command, string> {
  if (bytes.byteLength > limits.commandBytesMax) {
    return err(`it is longer than ${limits.commandBytesMax} bytes`);
  }
  const [format] = bytes;
  if (format === undefined || format < 1 || format > commandFormatMax) {
    return err(
      `its format is ${format ?? 'missing'}; this version of xksd reads formats 1 to ${commandFormatMax}`,
    );
  }
  const decoded = decodeJson(anyCommandField, bytes.subarray(1));
  if (!decoded.ok || formatOf(decoded.value) === format) return decoded;
  // Each command is encoded in one way only.
  return err(`its format is ${format}, and ${decoded.value.type} is of format ${formatOf(decoded.value)}`);
}
