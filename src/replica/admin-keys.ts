import { createHash } from 'node:crypto';
import { encodeHex } from '../base/bytes.js';
import { invariant } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import { checkCommand } from '../keystate/command-checks.js';
import type { Key } from '../keystate/types.js';
import type { HsmReplyValues, KeyOnToken, ObjectDescription, WitnessJson } from '../ops/state-link.js';
import type { AdminContext, NounHandlers } from './admin-context.js';
import { type AdminRequest, type AdminResponse, keysPerPageMax } from './admin-contract.js';
import { compareText, describeKey, noSuchKeyStore } from './admin-descriptions.js';
import type { AdminError } from './admin-error.js';
import type { AdminCaller, Change } from './change-proposer.js';
import { sealedWitness, witnessJson } from './hsm-bytes.js';

type NewKey = Pick<AdminRequest<'key.generate'>, 'keyStore' | 'externalKeyId' | 'description'>;
type KeyAnswer = Result<AdminResponse<'key.add'>, AdminError>;

/** Stands for what the HSM has yet to say, so that the rest of a command can be checked before it is asked. */
const unknownYet = {
  objectId: '00',
  witness: null,
  checkValue: null,
  usage: [],
  requestId: 'unknown yet',
  atMs: 0,
  by: '',
} as const;

/** A UUID (RFC 9562 §5.8, version 8) made of the request id, so that a repetition means the same key. Meets X-U3. */
function keyIdOf(requestId: string): string {
  const bytes = createHash('sha256').update(`external key id of ${requestId}`).digest().subarray(0, 16);
  bytes.set([((bytes[6] ?? 0) & 0x0f) | 0x80], 6);
  bytes.set([((bytes[8] ?? 0) & 0x3f) | 0x80], 8);
  return encodeHex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

const objectName = ({ objectId, label }: ObjectDescription): string =>
  `the object ${objectId}${label === '' ? '' : ` (label ${label})`}`;

/** Why an object cannot be a key of KMS; `null` when it can. */
function unsuitability(object: ObjectDescription): string | null {
  const { keyType, keyBits } = object;
  // X-K1: keySpec is AES_256 and nothing else.
  if (keyType !== 'CKK_AES')
    return `${objectName(object)} is a ${keyType}; KMS takes AES keys of 256 bits only`;
  if (keyBits === null) {
    return `the token does not say how long ${objectName(object)} is (CKA_VALUE_LEN); KMS takes AES keys of 256 bits only`;
  }
  if (keyBits !== 256) {
    return `${objectName(object)} is an AES key of ${keyBits} bits; KMS takes AES keys of 256 bits only`;
  }
  return null;
}

function warningsAbout(object: ObjectDescription): string[] {
  const warnings: string[] = [];
  for (const usage of ['ENCRYPT', 'DECRYPT']) {
    if (!object.usage.includes(usage)) {
      warnings.push(
        `The object lacks CKA_${usage}: every ${usage.toLowerCase()} with it fails, and KMS makes no KMS key on it ` +
          '(XksKeyInvalidConfigurationException).',
      );
    }
  }
  if (object.extractable === true) {
    warnings.push('The object is extractable (CKA_EXTRACTABLE): it can leave the HSM wrapped.');
  }
  if (object.sensitive === false) {
    warnings.push(
      'The object is not sensitive (CKA_SENSITIVE is false): whoever has the PIN can read it in clear.',
    );
  }
  return warnings;
}

function warningAboutToken({ token, holds, reason }: KeyOnToken): string[] {
  if (holds === 'no') {
    return [
      `The key is not on ${token}, which cannot serve it: copy it there with the HSM's own tools. It is seen by itself within ten minutes.`,
    ];
  }
  if (holds === 'unknown')
    return [`Whether the key is on ${token} is not known: ${reason ?? 'no reason given'}.`];
  return [];
}

export function keyHandlers(context: AdminContext): NounHandlers<'key'> {
  const { proposer, hsm } = context;

  const find = (keyStore: string, externalKeyId: string): Result<Key, AdminError> => {
    if (context.state.keyStore(keyStore) === null) return err(noSuchKeyStore(keyStore));
    const key = context.state.key(keyStore, externalKeyId);
    if (key !== null) return ok(key);
    return err({
      byState: true,
      code: 'not-found',
      message: `key store "${keyStore}" has no key "${externalKeyId}" (xksctl key list ${keyStore})`,
    });
  };

  /** Before the HSM is asked for anything: the name must be free. */
  const claim = (
    { keyStore, externalKeyId, description }: NewKey,
    { requestId }: AdminCaller,
  ): Result<string, AdminError> => {
    if (context.state.keyStore(keyStore) === null) return err(noSuchKeyStore(keyStore));
    const id = externalKeyId ?? keyIdOf(requestId);
    const invalid = checkCommand({
      type: 'key.create',
      keyStore,
      externalKeyId: id,
      description: description ?? '',
      ...unknownYet,
    });
    if (invalid !== null) return err(invalid);
    if (context.state.key(keyStore, id) === null) return ok(id);
    return err({
      byState: true,
      code: 'already-exists',
      message: `key store "${keyStore}" has a key "${id}" already`,
    });
  };

  /** The answer to a request that was carried out before; `null` to a new one. */
  const repeatOf = ({ keyStore, externalKeyId }: NewKey, { requestId }: AdminCaller): KeyAnswer | null => {
    const outcome = context.state.outcomeOf(requestId);
    if (outcome === null || !outcome.ok) return null;
    const key = context.state.key(keyStore, externalKeyId ?? keyIdOf(requestId));
    if (key === null) return null;
    const change = { index: outcome.revision, repeated: true, applied: true, unconfirmed: [] };
    return ok({ key: describeKey(key, context), change, warnings: [] });
  };

  /** The object that an earlier attempt of this request made, or else a new one. */
  const generatedBefore = async (
    label: string,
    generate: () => Promise<Result<HsmReplyValues['generate-key'], AdminError>>,
  ): Promise<Result<HsmReplyValues['generate-key'], AdminError>> => {
    const found = await hsm.ask<'inspect-key'>({ op: 'inspect-key', objectId: null, label });
    if (!found.ok) return found.error.code === 'object-not-found' ? generate() : found;
    const { object, witness } = found.value;
    return witness === null ? generate() : ok({ object, witness });
  };

  const changed = async (
    keyStore: string,
    externalKeyId: string,
    change: Change,
    caller: AdminCaller,
    warnings: string[],
  ): Promise<KeyAnswer> => {
    const report = await proposer.propose(change, caller);
    if (!report.ok) return report;
    const key = context.state.key(keyStore, externalKeyId);
    invariant(key !== null, 'a key that was changed exists');
    return ok({ key: describeKey(key, context), change: report.value, warnings });
  };

  const create = (
    { keyStore, description }: NewKey,
    externalKeyId: string,
    object: ObjectDescription,
    witness: WitnessJson | null,
    caller: AdminCaller,
    tokens: readonly KeyOnToken[] = [],
  ): Promise<KeyAnswer> =>
    changed(
      keyStore,
      externalKeyId,
      {
        type: 'key.create',
        keyStore,
        externalKeyId,
        objectId: object.objectId,
        witness: witness === null ? null : sealedWitness(witness),
        checkValue: object.checkValue,
        usage: object.usage,
        description: description ?? '',
      },
      caller,
      [...warningsAbout(object), ...tokens.flatMap(warningAboutToken)],
    );

  return {
    'key.generate': async (request, caller) => {
      const before = repeatOf(request, caller);
      if (before !== null) return before;
      const claimed = claim(request, caller);
      if (!claimed.ok) return claimed;
      const externalKeyId = claimed.value;
      // The request id makes the object that a first attempt left behind this request's own.
      const label = `xksd/${request.keyStore}/${externalKeyId}/${caller.requestId}`;
      const generated = await generatedBefore(label, () =>
        hsm.ask<'generate-key'>({ op: 'generate-key', label, singleToken: request.singleToken ?? null }),
      );
      if (!generated.ok) {
        const unknown = generated.error.code === 'outcome-unknown' || generated.error.code === 'timeout';
        if (!unknown) return generated;
        return err({
          code: 'outcome-unknown',
          message:
            `${generated.error.message} An object labelled ${label} may be on the token: repeat this with ` +
            `--request-id ${caller.requestId}, which takes it; or look with \`xksctl hsm list\` and delete it there.`,
        });
      }
      const { object, witness } = generated.value;
      const created = await create(request, externalKeyId, object, witness, caller);
      if (created.ok) return created;
      return err({
        code: created.error.code,
        message: `${created.error.message}; the object made for it, ${object.objectId} (label ${label}), was left on the token`,
      });
    },

    'key.add': async (request, caller) => {
      const before = repeatOf(request, caller);
      if (before !== null) return before;
      const claimed = claim(request, caller);
      if (!claimed.ok) return claimed;
      const inspected = await hsm.ask<'inspect-key'>({
        op: 'inspect-key',
        objectId: request.objectId?.toLowerCase() ?? null,
        label: request.objectLabel ?? null,
      });
      if (!inspected.ok) return inspected;
      const { object, witness, tokens } = inspected.value;
      const stranger = tokens.find(({ holds }) => holds === 'another');
      if (stranger !== undefined) {
        return err({
          code: 'object-unsuitable',
          message: `refused: ${objectName(object)} is another key on ${stranger.token}; one CKA_ID must be one key on every token`,
        });
      }
      const unsuitable = unsuitability(object);
      if (unsuitable !== null) return err({ code: 'object-unsuitable', message: `refused: ${unsuitable}` });
      const user = context.state.objectUser(object.objectId);
      if (user !== null) {
        return err({
          byState: true,
          code: 'conflict',
          message: `refused: ${objectName(object)} is in use already, as ${user}; a key has an object of its own`,
        });
      }
      return create(request, claimed.value, object, witness, caller, tokens);
    },

    'key.list': async ({ keyStore, after }) => {
      if (context.state.keyStore(keyStore) === null) return err(noSuchKeyStore(keyStore));
      const rest = [...context.state.keys(keyStore)]
        .filter(({ externalKeyId }) => after === undefined || externalKeyId > after)
        .sort((left, right) => compareText(left.externalKeyId, right.externalKeyId));
      const page = rest.slice(0, keysPerPageMax);
      const next = rest.length > page.length ? (page.at(-1)?.externalKeyId ?? null) : null;
      return ok({ keys: page.map((key) => describeKey(key, context)), next });
    },

    'key.show': async ({ keyStore, externalKeyId, tokens }) => {
      const key = find(keyStore, externalKeyId);
      if (!key.ok) return key;
      const described = describeKey(key.value, context);
      if (tokens !== true) return ok({ key: described, tokens: null });
      const located = [];
      for (const { version, objectId, witness, checkValue } of key.value.versions) {
        const asked = await hsm.ask<'locate-key'>({
          op: 'locate-key',
          objectId,
          witness: witness === null ? null : witnessJson(witness),
          checkValue,
        });
        if (!asked.ok) return asked;
        located.push(...asked.value.tokens.map((onToken) => ({ version, ...onToken })));
      }
      return ok({ key: described, tokens: located });
    },

    'key.enable': async ({ keyStore, externalKeyId, revision }, caller) => {
      const key = find(keyStore, externalKeyId);
      if (!key.ok) return key;
      const seen = revision ?? key.value.revision;
      const change: Change = { type: 'key.enable', keyStore, externalKeyId, revision: seen };
      return changed(keyStore, externalKeyId, change, caller, []);
    },

    'key.disable': async ({ keyStore, externalKeyId }, caller) => {
      const key = find(keyStore, externalKeyId);
      if (!key.ok) return key;
      return changed(keyStore, externalKeyId, { type: 'key.disable', keyStore, externalKeyId }, caller, []);
    },

    'key.set': async ({ keyStore, externalKeyId, ivBudget }, caller) => {
      const key = find(keyStore, externalKeyId);
      if (!key.ok) return key;
      const change: Change = { type: 'key.set', keyStore, externalKeyId, ivBudget };
      return changed(keyStore, externalKeyId, change, caller, []);
    },
  };
}
