import { invariant, isJsonObject } from '../base/guards.js';
import { err, type Result } from '../base/result.js';
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
import { preparedTokenField, sealedBytesField } from './object-fields.js';
import { type Command, type CommandEnvelope, type CommandType, limits } from './types.js';

/** First byte of every command. What follows is JSON with the fields of its type, in the order of `commandFields`. */
const format = 1;

type CommandOf<T extends CommandType> = Extract<Command, { readonly type: T }>;

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

const commandFields: { readonly [T in CommandType]: FieldCodec<CommandOf<T>> } = {
  'cluster.init': commandField('cluster.init', { clusterId: stringField, nodeName: stringField }),
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
};

const isCommandType = (type: unknown): type is CommandType =>
  typeof type === 'string' && Object.hasOwn(commandFields, type);

/** Dispatches on `type`. */
const anyCommandField: FieldCodec<Command> = {
  toJson: (command, path) => (commandFields[command.type] as FieldCodec<Command>).toJson(command, path),
  fromJson: (json, path) => {
    const type = isJsonObject(json) ? json['type'] : null;
    if (typeof type !== 'string') throw new FieldError('type is missing');
    if (!isCommandType(type)) {
      throw new FieldError(`type ${JSON.stringify(type.slice(0, 64))} is not known to this version of xksd`);
    }
    return commandFields[type].fromJson(json, path);
  },
};

/**
 * A command as the log carries it: at most `commandBytesMax` bytes, the same for the same command.
 *
 * @throws FieldError or InvariantViolation for what could not be decoded again: the proposer bounds its inputs first
 * (4,096 characters a string).
 */
export function encodeCommand(command: Command): Uint8Array {
  const bytes = Buffer.concat([Uint8Array.of(format), encodeJson(anyCommandField, command)]);
  invariant(bytes.byteLength <= limits.commandBytesMax, `command of ${bytes.byteLength} bytes`);
  return bytes;
}

/** The command in `bytes`, which it does not keep; else what is wrong with them. */
export function decodeCommand(bytes: Uint8Array): Result<Command, string> {
  if (bytes.byteLength > limits.commandBytesMax) {
    return err(`it is longer than ${limits.commandBytesMax} bytes`);
  }
  if (bytes[0] !== format) {
    return err(`its format is ${bytes[0] ?? 'missing'}; this version of xksd reads format ${format}`);
  }
  return decodeJson(anyCommandField, bytes.subarray(1));
}
