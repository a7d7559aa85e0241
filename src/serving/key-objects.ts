import { encodeHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import type { RandomSource } from '../base/random.js';
import { err, ok, type Result } from '../base/result.js';
import type { Token } from '../hsm/token.js';
import { type HsmFailure, objectId, type Witness } from '../hsm/types.js';
import { makeWitness } from '../hsm/witness.js';
import type { HsmErrorCode, ObjectDescription, WitnessJson } from '../ops/state-link.js';

const objectIdBytes = 16;
/** People wait for these; the replica for 20 s. */
export const cryptoDeadlineMs = 5_000;

export interface Fault {
  readonly code: HsmErrorCode;
  readonly message: string;
}

export type Outcome<T> = Result<T, Fault>;

/** What administration needs of a token. */
export type AdministeredToken = Pick<
  Token,
  'crypto' | 'management' | 'status' | 'retryLogin' | 'canary' | 'probe' | 'firstAttempt'
>;

/** The label, or what else the operator knows the token by. */
export const tokenName = (token: Pick<Token, 'status'>): string => {
  const { label, serial, uri } = token.status();
  return label === null ? uri : `${label}${serial === null ? '' : ` (serial ${serial})`}`;
};

/** The key objects of one token. */
export class KeyObjects {
  readonly #token: AdministeredToken;
  readonly #random: RandomSource;
  readonly #clock: Clock;

  constructor(token: AdministeredToken, random: RandomSource, clock: Clock) {
    this.#token = token;
    this.#random = random;
    this.#clock = clock;
  }

  /** Makes a key and its witness. A key whose witness failed stays on the token, and the message says so. */
  async make(label: string): Promise<Outcome<{ object: ObjectDescription; witness: Witness }>> {
    const id = encodeHex(this.#random.bytes(objectIdBytes));
    const generated = await this.#token.management.generateKey({ objectId: id, label });
    if (!generated.ok) return fault(generated.error);
    const witness = await this.witnessOf(generated.value);
    if (witness.ok) return ok({ object: generated.value, witness: witness.value });
    const { code, message } = witness.error;
    return fault({ code, message: `the key was made (CKA_ID ${id}, label ${label}) and stays; ${message}` });
  }

  /** Key state names objects by CKA_ID alone: it must lead to one object, however the operator named it. */
  async find(wanted: {
    readonly objectId: string | null;
    readonly label: string | null;
  }): Promise<Outcome<ObjectDescription>> {
    const { management } = this.#token;
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

  async witnessOf(object: ObjectDescription): Promise<Outcome<Witness>> {
    const deadlineMs = this.#clock.monotonicMs() + cryptoDeadlineMs;
    const witness = await makeWitness(this.#token.crypto, objectId(object.objectId), deadlineMs);
    return witness.ok
      ? witness
      : fault(cryptoFault(`a test encryption with ${describe(object)}`, witness.error));
  }
}

export function fault({ code, message }: Fault): { readonly ok: false; readonly error: Fault } {
  return err({ code, message });
}

export function cryptoFault(what: string, failure: HsmFailure): Fault {
  const call = failure.rv === null ? '' : `, ${failure.rv} from ${failure.functionName ?? 'the module'}`;
  const waits = ['token-unavailable', 'deadline', 'overloaded'].includes(failure.kind);
  return { code: waits ? 'token-unavailable' : 'failed', message: `${what} failed: ${failure.kind}${call}` };
}

export const describe = (object: ObjectDescription): string =>
  `the object ${object.label === '' ? '' : `"${object.label}" `}(CKA_ID ${object.objectId === '' ? 'none' : object.objectId})`;

export function whyNotAes256(object: ObjectDescription): string | null {
  if (object.keyType !== 'CKK_AES') return `${describe(object)} is ${object.keyType}, not CKK_AES`;
  if (object.keyBits === 256) return null;
  return object.keyBits === null
    ? `the token does not say how long the key of ${describe(object)} is; XKS wants AES-256`
    : `${describe(object)} is AES-${object.keyBits}; XKS wants AES-256`;
}

export const canEncryptAndDecrypt = ({ usage }: ObjectDescription): boolean =>
  usage.includes('ENCRYPT') && usage.includes('DECRYPT');

export const witnessJson = ({ iv, ciphertext, tag }: Witness): WitnessJson => ({
  iv: encodeHex(iv),
  ciphertext: encodeHex(ciphertext),
  tag: encodeHex(tag),
});
