import { equalInConstantTime, wipe } from '../base/bytes.js';
import { invariant } from '../base/guards.js';
import type { RandomSource } from '../base/random.js';
import { type Credential, type KeyStateQueries, limits, type SealedBytes } from '../keystate/types.js';
import { clusterSecretBytes, clusterSecretCheckValue, openSecret, sealSecret } from './sealing.js';

/** Secret access keys held open: every credential that key state may hold. */
const openedMax = limits.keyStoresMax * limits.credentialsPerKeyStoreMax;

interface Opened {
  readonly keyStore: string;
  readonly sealed: SealedBytes;
  readonly secretAccessKey: Uint8Array;
}

/**
 * The tag depends on key, nonce, owner and secret: with the same owner, tag and nonce it is the same secret. Key state
 * replaces its objects, it never changes one, so most often it is the very same seal.
 */
const isSameSeal = (known: SealedBytes, sealed: SealedBytes): boolean =>
  known === sealed ||
  (equalInConstantTime(known.tag, sealed.tag) && equalInConstantTime(known.nonce, sealed.nonce));

/** The cluster secret and what it has opened, in this process's memory only. */
export class SecretStore {
  readonly #random: RandomSource;
  readonly #opened = new Map<string, Opened>();
  #clusterSecret: Uint8Array | null = null;

  constructor(random: RandomSource) {
    this.#random = random;
  }

  /** Whether secrets can be opened. Once they can, a token that fails later does not matter. */
  get available(): boolean {
    return this.#clusterSecret !== null;
  }

  /** Tells the cluster secret from another one; `null` when there is none. */
  checkValue(): Uint8Array | null {
    return this.withClusterSecret(clusterSecretCheckValue);
  }

  /** Takes over the cluster secret (32 bytes). */
  install(clusterSecret: Uint8Array): void {
    invariant(clusterSecret.byteLength === clusterSecretBytes, 'the cluster secret has 32 bytes');
    this.wipe();
    this.#clusterSecret = clusterSecret;
  }

  /** Lends the cluster secret; `null` when there is none. Not to be kept. */
  withClusterSecret<T>(use: (clusterSecret: Uint8Array) => T): T | null {
    return this.#clusterSecret === null ? null : use(this.#clusterSecret);
  }

  /** Seals a new secret access key; `null` without a cluster secret. */
  seal(
    owner: { readonly keyStore: string; readonly accessKeyId: string },
    secretAccessKey: Uint8Array,
  ): SealedBytes | null {
    return this.withClusterSecret((secret) => sealSecret(secret, owner, secretAccessKey, this.#random));
  }

  /**
   * The secret access key's bytes, which stay this store's; `null` when it was sealed under another cluster secret or
   * for another owner, or there is no cluster secret.
   */
  secretOf(credential: Credential): Uint8Array | null {
    const { accessKeyId, sealedSecret } = credential;
    const known = this.#opened.get(accessKeyId);
    if (known !== undefined) {
      if (known.keyStore === credential.keyStore && isSameSeal(known.sealed, sealedSecret)) {
        return known.secretAccessKey;
      }
      this.forget(accessKeyId);
    }
    const secretAccessKey = this.withClusterSecret((secret) => openSecret(secret, credential, sealedSecret));
    if (secretAccessKey === null) return null;
    for (const oldest of this.#opened.keys()) {
      if (this.#opened.size < openedMax) break;
      this.forget(oldest);
    }
    this.#opened.set(accessKeyId, { keyStore: credential.keyStore, sealed: sealedSecret, secretAccessKey });
    return secretAccessKey;
  }

  /** To be called when a credential is retired. */
  forget(accessKeyId: string): void {
    const opened = this.#opened.get(accessKeyId);
    if (opened === undefined) return;
    wipe(opened.secretAccessKey);
    this.#opened.delete(accessKeyId);
  }

  /** Forgets what key state has no more. @returns the access key ids forgotten. */
  retain(state: KeyStateQueries): readonly string[] {
    const gone = [...this.#opened.keys()].filter((accessKeyId) => state.credential(accessKeyId) === null);
    for (const accessKeyId of gone) this.forget(accessKeyId);
    return gone;
  }

  /** Leaves nothing behind. */
  wipe(): void {
    for (const accessKeyId of [...this.#opened.keys()]) this.forget(accessKeyId);
    if (this.#clusterSecret !== null) wipe(this.#clusterSecret);
    this.#clusterSecret = null;
  }
}
