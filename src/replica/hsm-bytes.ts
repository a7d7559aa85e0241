import { decodeHex, encodeHex } from '../base/bytes.js';
import { invariant } from '../base/guards.js';
import type { SealedBytes } from '../keystate/types.js';
import type { WitnessJson } from '../ops/state-link.js';

/** Hexadecimal that came over the link and was checked there. */
function bytesOf(hex: string): Uint8Array {
  const bytes = decodeHex(hex);
  invariant(bytes !== null, 'hexadecimal was checked at the link');
  return bytes;
}

export const sealedBytesOf = (sealed: {
  readonly nonce: string;
  readonly ciphertext: string;
  readonly tag: string;
}): SealedBytes => ({
  nonce: bytesOf(sealed.nonce),
  ciphertext: bytesOf(sealed.ciphertext),
  tag: bytesOf(sealed.tag),
});

/** A witness as it goes to a serving process. */
export const witnessJson = ({ nonce, ciphertext, tag }: SealedBytes): WitnessJson => ({
  iv: encodeHex(nonce),
  ciphertext: encodeHex(ciphertext),
  tag: encodeHex(tag),
});

/** A witness as key state keeps it. */
export const sealedWitness = ({ iv, ciphertext, tag }: WitnessJson): SealedBytes => ({
  nonce: bytesOf(iv),
  ciphertext: bytesOf(ciphertext),
  tag: bytesOf(tag),
});
