import { encodeHex, wipe } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import type { RandomSource } from '../base/random.js';
import { ok } from '../base/result.js';
import { type KeyObject, objectId, type Witness } from '../hsm/types.js';
import type { KeyStateQueries, SealedBytes } from '../keystate/types.js';
import type { HsmReplyValues, ObjectDescription, WitnessJson } from '../ops/state-link.js';
import { unwrapClusterSecret, wrapClusterSecret } from './cluster-secret.js';
import {
  type AdministeredToken,
  canEncryptAndDecrypt,
  cryptoDeadlineMs,
  cryptoFault,
  describe,
  type Fault,
  fault,
  KeyObjects,
  type Outcome,
  whyNotAes256,
  witnessJson,
} from './key-objects.js';
import { clusterSecretBytes } from './sealing.js';
import type { SecretStore } from './secret-store.js';

/** Names of the objects that `xksctl hsm prepare` finds or makes. */
export const testKeyLabel = 'xksd-test-key';
export const wrappingKeyLabel = 'xksd-wrapping-key';

export interface PreparationParts {
  /** Every token of this process: one that is prepared already may have the secret that another one lacks. */
  readonly tokens: readonly AdministeredToken[];
  readonly secrets: SecretStore;
  readonly random: RandomSource;
  readonly clock: Clock;
}

/**
 * Finds or makes a token's test key and wrapping key, and wraps the cluster secret for it. Nothing of it is in force
 * before key state says so: asked twice, it finds what it made the first time.
 */
export class TokenPreparation {
  readonly #parts: PreparationParts;
  readonly #token: AdministeredToken;
  readonly #state: KeyStateQueries;
  readonly #objects: KeyObjects;

  constructor(parts: PreparationParts, token: AdministeredToken, state: KeyStateQueries) {
    this.#parts = parts;
    this.#token = token;
    this.#state = state;
    this.#objects = new KeyObjects(token, parts.random, parts.clock);
  }

  async run(): Promise<Outcome<HsmReplyValues['prepare-token']>> {
    const { serial, label, reason } = this.#token.status();
    if (serial === null || label === null) {
      return fault({ code: 'token-unavailable', message: reason ?? 'the token has not been reached yet' });
    }
    const known = this.#state.preparedToken(serial);
    if (known !== null) {
      const present = await this.#areBothPresent(known.testKey.objectId, known.wrappingKey.objectId);
      if (!present.ok) return present;
      if (present.value) {
        return ok({
          token: this.#token.status(),
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
    const secret = await this.#secretToWrap(serial);
    if (!secret.ok) return secret;
    try {
      return await this.#prepareAnew(serial, label, secret.value);
    } finally {
      wipe(secret.value);
    }
  }

  async #prepareAnew(
    serial: string,
    label: string,
    secret: Uint8Array,
  ): Promise<Outcome<HsmReplyValues['prepare-token']>> {
    const created: string[] = [];
    const testKey = await this.#findOrMake(testKeyLabel, created);
    if (!testKey.ok) return testKey;
    const wrappingKey = await this.#findOrMake(wrappingKeyLabel, created);
    if (!wrappingKey.ok) return wrappingKey;
    const deadlineMs = this.#parts.clock.monotonicMs() + cryptoDeadlineMs;
    const wrap = await wrapClusterSecret(this.#token.crypto, wrappingKey.value, serial, secret, deadlineMs);
    if (!wrap.ok) return fault(cryptoFault('wrapping the cluster secret', wrap.error));
    const { nonce, ciphertext, tag } = wrap.value.wrapped;
    return ok({
      token: this.#token.status(),
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
      const found = await this.#token.management.findObject({ objectId: id, label: null });
      if (!found.ok) return found.error.code === 'object-not-found' ? ok(false) : fault(found.error);
    }
    return ok(true);
  }

  async #findOrMake(
    label: string,
    created: string[],
  ): Promise<Outcome<KeyObject & { readonly witness: Witness }>> {
    const found = await this.#objects.find({ objectId: null, label });
    if (!found.ok) {
      if (found.error.code !== 'object-not-found') return found;
      const made = await this.#objects.make(label);
      if (!made.ok) return made;
      const { object, witness } = made.value;
      created.push(describe(object));
      return ok({ objectId: objectId(object.objectId), witness });
    }
    const object = found.value;
    const unsuitable =
      whyNotAes256(object) ??
      (canEncryptAndDecrypt(object) ? null : `${describe(object)} may not both encrypt and decrypt`) ??
      whyTaken(object, this.#state.objectUser(object.objectId));
    if (unsuitable !== null) return fault({ code: 'object-unsuitable', message: unsuitable });
    const witness = await this.#objects.witnessOf(object);
    return witness.ok ? ok({ objectId: objectId(object.objectId), witness: witness.value }) : witness;
  }

  /**
   * A copy of the cluster secret, the caller's to wipe: the one in memory, or that another token unwraps, or, where
   * there is none yet, a new one.
   */
  async #secretToWrap(ownSerial: string): Promise<Outcome<Uint8Array>> {
    const { secrets, random } = this.#parts;
    const copy = secrets.withClusterSecret((secret) => Uint8Array.from(secret));
    if (copy !== null) return ok(copy);
    // As key state sees it: a new secret may come while nothing is sealed under an old one.
    const prepared = [...this.#state.preparedTokens()];
    const isFirst = prepared.every(({ serial }) => serial === ownSerial);
    if (isFirst && (prepared.length === 0 || this.#state.counts().credentials === 0)) {
      return ok(random.bytes(clusterSecretBytes));
    }
    // One that has just been prepared may not have been asked for it yet.
    for (const token of this.#parts.tokens) {
      const { serial, sessions } = token.status();
      const known = serial === null || serial === ownSerial ? null : this.#state.preparedToken(serial);
      if (known === null || sessions === 0) continue;
      const deadlineMs = this.#parts.clock.monotonicMs() + cryptoDeadlineMs;
      const unwrapped = await unwrapClusterSecret(token.crypto, known, deadlineMs);
      if (unwrapped.ok) return unwrapped;
    }
    return fault(noSecret(this.#state));
  }
}

/** Why there is no cluster secret in memory. */
export function noSecret(state: KeyStateQueries | null): Fault {
  const prepared = [...(state?.preparedTokens() ?? [])];
  if (prepared.length === 0) {
    return { code: 'not-prepared', message: 'no token is prepared yet; run: xksctl hsm prepare' };
  }
  const tokens = prepared.map(({ label, serial }) => `${label} (serial ${serial})`).join(', ');
  return {
    code: 'token-unavailable',
    message: `the cluster secret is not in memory: it is wrapped for ${tokens}, and no such token has unwrapped it here. Bring it back, or run the command on a node that has the secret`,
  };
}

/** Its own former test or wrapping key is welcome; a customer's key is not. */
const whyTaken = (object: ObjectDescription, user: string | null): string | null =>
  user === null || !user.startsWith('key ') ? null : `${describe(object)} is ${user}: give it another label`;

const sealedWitnessJson = ({ nonce, ciphertext, tag }: SealedBytes): WitnessJson =>
  witnessJson({ iv: nonce, ciphertext, tag });

const preparedKeyJson = (key: { readonly objectId: string; readonly witness: Witness }) => ({
  objectId: key.objectId,
  witness: witnessJson(key.witness),
});
