import { invariant } from '../base/guards.js';

/**
 * GCM's AAD with the lengths of its parts in it (X-E3): `len16be(aad) ‖ aad ‖ len8(metadata) ‖ metadata`. An absent
 * part has length 0, so no metadata can be passed off as aad or the other way round. `aad` is at most 65,535 bytes,
 * `ciphertextMetadata` at most 255 (the protocol allows 20).
 */
export function frameAad(aad: Uint8Array, ciphertextMetadata: Uint8Array | null): Uint8Array {
  const metadataLength = ciphertextMetadata?.byteLength ?? 0;
  invariant(
    aad.byteLength <= 0xffff && metadataLength <= 0xff,
    'the parts of the AAD fit their length fields',
  );
  // Every byte is written; memory of its own, zeroed, would cost more than the rest.
  const framed = Buffer.allocUnsafe(3 + aad.byteLength + metadataLength);
  framed[0] = aad.byteLength >>> 8;
  framed[1] = aad.byteLength & 0xff;
  framed.set(aad, 2);
  framed[2 + aad.byteLength] = metadataLength;
  if (ciphertextMetadata !== null) framed.set(ciphertextMetadata, 3 + aad.byteLength);
  return framed;
}
