import { invariant } from '../base/guards.js';

/** X-E2a: `0x01 ‖ uint32be(key version)`. Ciphertexts live for ever, so this format does too. */
const formatKeyVersion = 0x01;
const formatLength = 5;

const keyVersionMax = 0xffff_ffff;

/** The ciphertextMetadata (5 bytes) of what the version of a key encrypts. `keyVersion`: 1 to 2^32 - 1. */
export function encodeCiphertextMetadata(keyVersion: number): Uint8Array {
  invariant(
    Number.isInteger(keyVersion) && keyVersion >= 1 && keyVersion <= keyVersionMax,
    'a key version is an integer from 1 to 2^32 - 1',
  );
  const metadata = new Uint8Array(formatLength);
  metadata[0] = formatKeyVersion;
  // Without a DataView: that would move these few bytes out of V8's heap.
  metadata[1] = keyVersion >>> 24;
  metadata[2] = keyVersion >>> 16;
  metadata[3] = keyVersion >>> 8;
  metadata[4] = keyVersion;
  return metadata;
}

/**
 * The key version that made a ciphertext. Without metadata (`null`) it is version 1; `null` for a format or a number
 * that we never write: 400 `InvalidCiphertextException` without asking the HSM.
 */
export function decodeCiphertextMetadata(metadata: Uint8Array | null): number | null {
  if (metadata === null) return 1;
  if (metadata.byteLength !== formatLength || metadata[0] !== formatKeyVersion) return null;
  const keyVersion = new DataView(metadata.buffer, metadata.byteOffset, formatLength).getUint32(1);
  return keyVersion === 0 ? null : keyVersion;
}
