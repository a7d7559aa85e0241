import { timingSafeEqual } from 'node:crypto';

/**
 * Decodes Base64 as RFC 4648 §4 spells it and nothing else: standard alphabet, padding required, unused bits zero
 * (§3.5), no white space. `null` for anything that does not come out of an encoder.
 */
export function decodeBase64(text: string): Buffer | null {
  if (text.length % 4 !== 0) return null;
  const decoded = Buffer.from(text, 'base64');
  // Node's decoder skips what it does not know and accepts the URL alphabet; only a canonical text survives the
  // round trip.
  return decoded.toString('base64') === text ? decoded : null;
}

/** Encodes as RFC 4648 §4, padded. */
export function encodeBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

const base64Alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const base64Padding = 0x3d;

/**
 * Writes the Base64 of `bytes` (4 characters for each 3 bytes begun) into `target` as ASCII. For plaintext: unlike
 * `encodeBase64` it makes no string, which nobody could wipe.
 */
export function writeBase64(target: Uint8Array, offset: number, bytes: Uint8Array): void {
  let to = offset;
  for (let from = 0; from < bytes.byteLength; from += 3) {
    const group = ((bytes[from] ?? 0) << 16) | ((bytes[from + 1] ?? 0) << 8) | (bytes[from + 2] ?? 0);
    target[to] = sextetCode(group >>> 18);
    target[to + 1] = sextetCode(group >>> 12);
    target[to + 2] = sextetCode(group >>> 6);
    target[to + 3] = sextetCode(group);
    to += 4;
  }
  const unused = (3 - (bytes.byteLength % 3)) % 3;
  target.fill(base64Padding, to - unused, to);
}

function sextetCode(bits: number): number {
  return base64Alphabet.charCodeAt(bits & 0x3f);
}

/** Decodes lower- or upper-case hexadecimal; `null` unless every character counts. */
export function decodeHex(text: string): Buffer | null {
  return text.length % 2 === 0 && /^[0-9a-fA-F]*$/.test(text) ? Buffer.from(text, 'hex') : null;
}

/** Lower-case hexadecimal. */
export function encodeHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

/** Overwrites with zeroes what must not linger in memory. */
export function wipe(bytes: Uint8Array): void {
  bytes.fill(0);
}

/** Compares in time that depends on the lengths only, which are not secret here. */
export function equalInConstantTime(left: Uint8Array, right: Uint8Array): boolean {
  return left.byteLength === right.byteLength && timingSafeEqual(left, right);
}
