import { invariant } from '../base/guards.js';
import { ok, type Result } from '../base/result.js';
import type { HsmCrypto, HsmFailure, ObjectId, Witness } from './types.js';

/**
 * The AAD of every witness. No framed XKS request can form it: it starts with the length ff ff, and then is shorter
 * than the 65,535 bytes that this announces (X-E3: `len16be(aad) ‖ aad ‖ len8(metadata) ‖ metadata`).
 */
export const witnessAad: Uint8Array = Uint8Array.from([
  0xff,
  0xff,
  ...Buffer.from('xksd key witness 1', 'latin1'),
]);

/** What every witness decrypts to: 32 bytes, no secret. */
export const witnessPlaintext: Uint8Array = Uint8Array.from(
  Buffer.from('xksd: this handle is that key. 1', 'latin1'),
);

/**
 * Encrypts the witness of a key object that can encrypt and decrypt, and has the token decrypt it again.
 * `deadlineMs` in `Clock.monotonicMs()`.
 */
export async function makeWitness(
  crypto: HsmCrypto,
  objectId: ObjectId,
  deadlineMs: number,
): Promise<Result<Witness, HsmFailure>> {
  const encrypted = await crypto.encrypt(
    {
      key: { objectId, witness: null },
      plaintext: witnessPlaintext,
      gcmAad: witnessAad,
      integrityPrefix: null,
      verify: true,
    },
    deadlineMs,
  );
  if (!encrypted.ok) return encrypted;
  const { iv, ciphertext, tag } = encrypted.value;
  invariant(ciphertext.byteLength === witnessPlaintext.byteLength, 'GCM keeps the length');
  return ok({ iv, ciphertext, tag });
}
