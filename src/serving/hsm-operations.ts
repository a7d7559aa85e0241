import { encodeHex, wipe } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { errorText, unreachable } from '../base/guards.js';
import type { Logger } from '../base/logger.js';
import type { RandomSource } from '../base/random.js';
import { err, ok, type Result } from '../base/result.js';
import type { Token } from '../hsm/token.js';
import { type HsmFailure, type KeyObject, objectId, type Witness } from '../hsm/types.js';
import { makeWitness } from '../hsm/witness.js';
import type { KeyStateQueries, SealedBytes } from '../keystate/types.js';
import type {
  HsmErrorCode,
  HsmOperation,
  HsmReply,
  HsmReplyValues,
  ObjectDescription,
  WitnessJson,
} from '../ops/state-link.js';
import { mintAccessKeyId, mintSecretAccessKey } from '../sigv4/credentials.js';
import { wrapClusterSecret } from './cluster-secret.js';
import { parseHsmRequest } from './hsm-request.js';
import { clusterSecretBytes } from './sealing.js';
import type { SecretStore } from './secret-store.js';

/** Names of the objects that `xksctl hsm prepare` finds or makes. */
export const testKeyLabel = 'xksd-test-key';
export const wrappingKeyLabel = 'xksd-wrapping-key';

const objectIdBytes = 16;
/** People wait for these; the replica for 20 s. */
const cryptoDeadlineMs = 5_000;
/** Requests under way. The replica asks for at most as many. */
const requestsMax = 32;

interface Fault {
  readonly code: HsmErrorCode;
  readonly message: string;
}

type Outcome<T> = Result<T, Fault>;

export interface HsmOperationsOptions {
  readonly token: Pick<Token, 'crypto' | 'management' | 'status' | 'retryLogin'>;
  readonly secrets: SecretStore;
  readonly state: () => KeyStateQueries | null;
  readonly random: RandomSource;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What administration asks of the HSM, done here because only serving processes load PKCS#11 modules. */
export class HsmOperations {
  readonly #options: HsmOperationsOptions;
  #underWay = 0;

  constructor(options: HsmOperationsOptions) {
    this.#options = options;
  }

  /** Answers a request off the state link; `null` for one without an id, which nobody could be told about. */
  async answer(payload: Readonly<Record<string, unknown>>): Promise<HsmReply | null> {
    const request = parseHsmRequest(payload);
    if (request === null) return null;
    const { id } = request;
    if (!request.ok) return { id, ok: false, code: 'failed', message: request.message };
    if (this.#underWay >= requestsMax) {
      return { id, ok: false, code: 'failed', message: `${requestsMax} requests are under way already` };
    }
    this.#underWay += 1;
    try {
      const outcome = await this.#run(request.operation);
      return outcome.ok ? { id, ok: true, value: outcome.value } : { id, ok: false, ...outcome.error };
    } catch (thrown) {
      this.#options.logger.error('a bug ended an HSM operation', { op: request.operation.op, error: thrown });
      return { id, ok: false, code: 'failed', message: `a bug of xksd: ${errorText(thrown)}` };
    } finally {
      this.#underWay -= 1;
    }
  }

  #run(operation: HsmOperation): Promise<Outcome<HsmReplyValues[HsmOperation['op']]>> {
    switch (operation.op) {
      case 'list-objects':
        return this.#listObjects();
      case 'prepare-token':
        return this.#prepareToken();
      case 'generate-key':
        return this.#generateKey(operation.label);
      case 'inspect-key':
        return this.#inspectKey(operation.objectId, operation.label);
      case 'mint-credential':
        return this.#mintCredential(operation.keyStore);
      case 'retry-login':
        return this.#retryLogin(operation.forgive);
      default:
        return unreachable(operation);
    }
  }

  async #listObjects(): Promise<Outcome<HsmReplyValues['list-objects']>> {
    const { token } = this.#options;
    const listing = await token.management.listObjects();
    if (!listing.ok && listing.error.code !== 'token-unavailable') return fault(listing.error);
    // That a token cannot be looked at must not read as if nothing were on it.
    const shown = listing.ok
      ? { objects: listing.value.objects, unlisted: null }
      : { objects: null, unlisted: listing.error.message };
    return ok({ tokens: [{ token: token.status(), ...shown }] });
  }

  async #generateKey(label: string): Promise<Outcome<HsmReplyValues['generate-key']>> {
    const made = await this.#makeKey(label);
    if (!made.ok) return made;
    const { object, witness } = made.value;
    return ok({ object, witness: witnessJson(witness) });
  }

  /** Makes a key and its witness. A key whose witness failed stays on the token, and the message says so. */
  async #makeKey(label: string): Promise<Outcome<{ object: ObjectDescription; witness: Witness }>> {
    const { token, random } = this.#options;
    const id = encodeHex(random.bytes(objectIdBytes));
    const generated = await token.management.generateKey({ objectId: id, label });
    if (!generated.ok) return fault(generated.error);
    const witness = await this.#witnessOf(generated.value);
    if (witness.ok) return ok({ object: generated.value, witness: witness.value });
    const { code, message } = witness.error;
    return fault({ code, message: `the key was made (CKA_ID ${id}, label ${label}) and stays; ${message}` });
  }

  async #inspectKey(
    wantedId: string | null,
    wantedLabel: string | null,
  ): Promise<Outcome<HsmReplyValues['inspect-key']>> {
    const found = await this.#findUnambiguous({ objectId: wantedId, label: wantedLabel });
    if (!found.ok) return found;
    const object = found.value;
    const unsuitable = whyNotAes256(object);
    if (unsuitable !== null) return fault({ code: 'object-unsuitable', message: unsuitable });
    if (!canEncryptAndDecrypt(object)) return ok({ object, witness: null });
    const witness = await this.#witnessOf(object);
    return witness.ok ? ok({ object, witness: witnessJson(witness.value) }) : witness;
  }

  /** Key state names objects by CKA_ID alone: it must lead to one object, however the operator named it. */
  async #findUnambiguous(wanted: {
    readonly objectId: string | null;
    readonly label: string | null;
  }): Promise<Outcome<ObjectDescription>> {
    const { management } = this.#options.token;
    const found = await management.findObject(wanted);
    if (!found.ok) return fault(found.error);
    if (found.value.objectId === '') {
      const message = `${describe(found.value)} has no CKA_ID, by which xksd names objects: give it one (pkcs11-tool --set-id)`;
      return fault({ code: 'object-unsuitable', message });
    }
    if (wanted.label === null) return found;
    const byId = await management.findObject({ objectId: found.value.objectId, label: null });
    return byId.ok ? found : fault(byId.error);
  }

  async #mintCredential(keyStore: string): Promise<Outcome<HsmReplyValues['mint-credential']>> {
    const { secrets, random } = this.#options;
    const accessKeyId = mintAccessKeyId(random);
    const secretAccessKey = mintSecretAccessKey(random);
    const bytes = Buffer.from(secretAccessKey, 'latin1');
    const sealed = secrets.seal({ keyStore, accessKeyId }, bytes);
    wipe(bytes);
    return sealed === null
      ? fault(this.#noSecret())
      : ok({ accessKeyId, secretAccessKey, sealed: sealedJson(sealed) });
  }

  /** A token that is not there after the login is a failure: the replica must not go on to the next process. */
  async #retryLogin(forgive: boolean): Promise<Outcome<HsmReplyValues['retry-login']>> {
    const token = await this.#options.token.retryLogin(forgive);
    if (token.state !== 'UNAVAILABLE') return ok({ token });
    return fault({ code: 'token-unavailable', message: token.reason ?? 'the token is not available' });
  }

  /**
   * Finds or makes the test key and the wrapping key, and wraps the cluster secret. Nothing of it is in force before
   * key state says so: asked twice, it finds what it made the first time.
   */
  async #prepareToken(): Promise<Outcome<HsmReplyValues['prepare-token']>> {
    const state = this.#options.state();
    if (state === null) return fault({ code: 'failed', message: 'key state has not arrived yet; try again' });
    const { serial, label, reason } = this.#options.token.status();
    if (serial === null || label === null) {
      return fault({ code: 'token-unavailable', message: reason ?? 'the token has not been reached yet' });
    }
    const known = state.preparedToken(serial);
    if (known !== null) {
      const present = await this.#areBothPresent(known.testKey.objectId, known.wrappingKey.objectId);
      if (!present.ok) return present;
      if (present.value) {
        return ok({
          token: this.#options.token.status(),
          serial,
          label,
          testKey: { objectId: known.testKey.objectId, witness: sealedWitnessJson(known.testKey.witness) },
          wrappingKey: {
            objectId: known.wrappingKey.objectId,
            witness: sealedWitnessJson(known.wrappingKey.witness),
          },
          wrappedSecret: null,
          created: [],
        });
      }
    }
    const secret = this.#secretToWrap(state);
    if (!secret.ok) return secret;
    try {
      return await this.#prepareAnew(state, serial, label, secret.value);
    } finally {
      wipe(secret.value);
    }
  }

  async #prepareAnew(
    state: KeyStateQueries,
    serial: string,
    label: string,
    secret: Uint8Array,
  ): Promise<Outcome<HsmReplyValues['prepare-token']>> {
    const { token, clock } = this.#options;
    const created: string[] = [];
    const testKey = await this.#findOrMake(state, testKeyLabel, created);
    if (!testKey.ok) return testKey;
    const wrappingKey = await this.#findOrMake(state, wrappingKeyLabel, created);
    if (!wrappingKey.ok) return wrappingKey;
    const deadlineMs = clock.monotonicMs() + cryptoDeadlineMs;
    const wrap = await wrapClusterSecret(token.crypto, wrappingKey.value, serial, secret, deadlineMs);
    if (!wrap.ok) return fault(cryptoFault('wrapping the cluster secret', wrap.error));
    const { nonce, ciphertext, tag } = wrap.value.wrapped;
    return ok({
      token: token.status(),
      serial,
      label,
      testKey: preparedKeyJson(testKey.value),
      wrappingKey: preparedKeyJson(wrappingKey.value),
      wrappedSecret: {
        ...witnessJson({ iv: nonce, ciphertext, tag }),
        checkValue: encodeHex(wrap.value.checkValue),
      },
      created,
    });
  }

  /** False when the token has lost one of them. */
  async #areBothPresent(...objectIds: readonly string[]): Promise<Outcome<boolean>> {
    for (const id of objectIds) {
      const found = await this.#options.token.management.findObject({ objectId: id, label: null });
      if (!found.ok) return found.error.code === 'object-not-found' ? ok(false) : fault(found.error);
    }
    return ok(true);
  }

  async #findOrMake(
    state: KeyStateQueries,
    label: string,
    created: string[],
  ): Promise<Outcome<KeyObject & { readonly witness: Witness }>> {
    const found = await this.#findUnambiguous({ objectId: null, label });
    if (!found.ok) {
      if (found.error.code !== 'object-not-found') return found;
      const made = await this.#makeKey(label);
      if (!made.ok) return made;
      const { object, witness } = made.value;
      created.push(describe(object));
      return ok({ objectId: objectId(object.objectId), witness });
    }
    const object = found.value;
    const unsuitable =
      whyNotAes256(object) ??
      (canEncryptAndDecrypt(object) ? null : `${describe(object)} may not both encrypt and decrypt`) ??
      whyTaken(object, state.objectUser(object.objectId));
    if (unsuitable !== null) return fault({ code: 'object-unsuitable', message: unsuitable });
    const witness = await this.#witnessOf(object);
    return witness.ok ? ok({ objectId: objectId(object.objectId), witness: witness.value }) : witness;
  }

  /** A copy of the cluster secret, the caller's to wipe: the one in memory, or, where there is none yet, a new one. */
  #secretToWrap(state: KeyStateQueries): Outcome<Uint8Array> {
    const { secrets, random } = this.#options;
    const copy = secrets.withClusterSecret((secret) => Uint8Array.from(secret));
    if (copy !== null) return ok(copy);
    // As key state sees it: a new secret may come while nothing is sealed under an old one.
    for (const prepared of state.preparedTokens()) {
      if (prepared.serial !== this.#options.token.status().serial || state.counts().credentials > 0) {
        return fault(this.#noSecret());
      }
    }
    return ok(random.bytes(clusterSecretBytes));
  }

  #noSecret(): Fault {
    const prepared = [...(this.#options.state()?.preparedTokens() ?? [])];
    if (prepared.length === 0) {
      return { code: 'not-prepared', message: 'no token is prepared yet; run: xksctl hsm prepare' };
    }
    const tokens = prepared.map(({ label, serial }) => `${label} (serial ${serial})`).join(', ');
    return {
      code: 'token-unavailable',
      message: `the cluster secret is not in memory: it is wrapped for ${tokens}, and no such token has unwrapped it here. Bring it back, or run the command on a node that has the secret`,
    };
  }

  async #witnessOf(object: ObjectDescription): Promise<Outcome<Witness>> {
    const { token, clock } = this.#options;
    const deadlineMs = clock.monotonicMs() + cryptoDeadlineMs;
    const witness = await makeWitness(token.crypto, objectId(object.objectId), deadlineMs);
    return witness.ok
      ? witness
      : fault(cryptoFault(`a test encryption with ${describe(object)}`, witness.error));
  }
}

function fault({ code, message }: Fault): { readonly ok: false; readonly error: Fault } {
  return err({ code, message });
}

function cryptoFault(what: string, failure: HsmFailure): Fault {
  const call = failure.rv === null ? '' : `, ${failure.rv} from ${failure.functionName ?? 'the module'}`;
  const waits = ['token-unavailable', 'deadline', 'overloaded'].includes(failure.kind);
  return { code: waits ? 'token-unavailable' : 'failed', message: `${what} failed: ${failure.kind}${call}` };
}

const describe = (object: ObjectDescription): string =>
  `the object ${object.label === '' ? '' : `"${object.label}" `}(CKA_ID ${object.objectId === '' ? 'none' : object.objectId})`;

function whyNotAes256(object: ObjectDescription): string | null {
  if (object.keyType !== 'CKK_AES') return `${describe(object)} is ${object.keyType}, not CKK_AES`;
  if (object.keyBits === 256) return null;
  return object.keyBits === null
    ? `the token does not say how long the key of ${describe(object)} is; XKS wants AES-256`
    : `${describe(object)} is AES-${object.keyBits}; XKS wants AES-256`;
}

const canEncryptAndDecrypt = ({ usage }: ObjectDescription): boolean =>
  usage.includes('ENCRYPT') && usage.includes('DECRYPT');

/** Its own former test or wrapping key is welcome; a customer's key is not. */
const whyTaken = (object: ObjectDescription, user: string | null): string | null =>
  user === null || !user.startsWith('key ') ? null : `${describe(object)} is ${user}: give it another label`;

const witnessJson = ({ iv, ciphertext, tag }: Witness): WitnessJson => ({
  iv: encodeHex(iv),
  ciphertext: encodeHex(ciphertext),
  tag: encodeHex(tag),
});

const sealedWitnessJson = ({ nonce, ciphertext, tag }: SealedBytes): WitnessJson =>
  witnessJson({ iv: nonce, ciphertext, tag });

const sealedJson = ({
  nonce,
  ciphertext,
  tag,
}: SealedBytes): HsmReplyValues['mint-credential']['sealed'] => ({
  nonce: encodeHex(nonce),
  ciphertext: encodeHex(ciphertext),
  tag: encodeHex(tag),
});

const preparedKeyJson = (key: { readonly objectId: string; readonly witness: Witness }) => ({
  objectId: key.objectId,
  witness: witnessJson(key.witness),
});
