import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';
import { err, ok, type Result } from '../../src/base/result.js';
import type {
  DecryptOperation,
  EncryptOperation,
  EncryptResult,
  HsmCrypto,
  HsmFailure,
} from '../../src/hsm/types.js';
import { SeededRandom } from './seeded-random.js';

const failure = (kind: HsmFailure['kind']): Result<never, HsmFailure> =>
  err({ kind, rv: null, functionName: null });

/** AES-256-GCM by OpenSSL at the seam of the HSM, with a switch for whatever a token may do. */
export class SoftwareCrypto implements HsmCrypto {
  readonly keys = new Map<string, Uint8Array>();
  readonly encrypts: EncryptOperation[] = [];
  readonly decrypts: DecryptOperation[] = [];
  /** When set, the answer to every operation. */
  failure: HsmFailure | null = null;
  /** When set, what each encrypt tells to have begun. */
  begins: number | null = null;
  /** Runs before an operation is answered. */
  before: () => Promise<void> | void = () => {};
  readonly #random = new SeededRandom(4711);

  add(objectId: string, key: Uint8Array = this.#random.bytes(32)): string {
    this.keys.set(objectId, key);
    return objectId;
  }

  get calls(): number {
    return this.encrypts.length + this.decrypts.length;
  }

  async encrypt(operation: EncryptOperation): Promise<Result<EncryptResult, HsmFailure>> {
    this.encrypts.push({ ...operation, plaintext: Uint8Array.from(operation.plaintext) });
    await this.before();
    if (this.begins !== null) operation.begun?.(this.begins);
    if (this.failure !== null) return err(this.failure);
    const key = this.keys.get(operation.key.objectId);
    if (key === undefined) return failure('key-lost');
    const iv = this.#random.bytes(12);
    const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(operation.gcmAad);
    const ciphertext = Buffer.concat([cipher.update(operation.plaintext), cipher.final()]);
    const tag = cipher.getAuthTag();
    const { integrityPrefix } = operation;
    const integrityValue =
      integrityPrefix === null
        ? null
        : createHash('sha256').update(integrityPrefix).update(iv).update(ciphertext).update(tag).digest();
    return ok({ ciphertext, iv, tag, integrityValue });
  }

  async decrypt(operation: DecryptOperation): Promise<Result<Uint8Array, HsmFailure>> {
    this.decrypts.push(operation);
    await this.before();
    if (this.failure !== null) return err(this.failure);
    const key = this.keys.get(operation.key.objectId);
    if (key === undefined) return failure('key-lost');
    const decipher = createDecipheriv('aes-256-gcm', key, operation.iv, { authTagLength: 16 });
    decipher.setAAD(operation.gcmAad).setAuthTag(operation.tag);
    const plaintext = decipher.update(operation.ciphertext);
    try {
      decipher.final();
      return ok(plaintext);
    } catch {
      return failure('bad-ciphertext');
    }
  }
}
