import { createHash } from 'node:crypto';

/**
 * The first part of what a CDIV covers (X-E4): `aad ‖ metadata`, without lengths. Whoever encrypts goes on with
 * `iv ‖ ciphertext ‖ tag`, before the verifying decrypt.
 */
export function integrityPrefix(aad: Uint8Array, ciphertextMetadata: Uint8Array | null): Uint8Array {
  if (ciphertextMetadata === null) return aad;
  const prefix = Buffer.allocUnsafe(aad.byteLength + ciphertextMetadata.byteLength);
  prefix.set(aad);
  prefix.set(ciphertextMetadata, aad.byteLength);
  return prefix;
}

/** What the ciphertextDataIntegrityValue covers, decoded; absent parts are empty. */
export interface CdivParts {
  readonly aad: Uint8Array;
  readonly ciphertextMetadata: Uint8Array | null;
  readonly iv: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly tag: Uint8Array;
}

/** X-E4: SHA-256(`aad ‖ metadata ‖ iv ‖ ciphertext ‖ tag`), 32 bytes. */
export function computeCdiv(parts: CdivParts): Uint8Array {
  return createHash('sha256')
    .update(integrityPrefix(parts.aad, parts.ciphertextMetadata))
    .update(parts.iv)
    .update(parts.ciphertext)
    .update(parts.tag)
    .digest();
}
