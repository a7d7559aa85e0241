import { timingSafeEqual } from 'node:crypto';

/**
 * Decodes Base64 as RFC 4648 §4 spells it and nothing else: standard alphabet, padding required, unused bits zero
 * (§3.5), no white space. `null` for anything that does not come out of an encoder.
 */
export function decodeBase64(text: string): Buffer | null {
  if (text.length % 4 !== 0) return null;
  if (text.length <= shortTextMax) return decodeShortBase64(text);
  const decoded = Buffer.from(text, 'base64');
  // Node's decoder skips what it does not know and accepts the URL alphabet; only a canonical text survives the
  // round trip.
  return decoded.toString('base64') === text ? decoded : null;
}

/** Up to so many characters, decoding them here costs less than two calls of Node's. */
const shortTextMax = 192;

/** `text` has whole groups of four. */
function decodeShortBase64(text: string): Buffer | null {
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const characters = text.length - padding;
  const decoded = Buffer.allocUnsafe((text.length / 4) * 3 - padding);
  // Negative once anything was of no sextet.
  let judged = 0;
  let bits = 0;
  let to = 0;
  for (let at = 0; at < characters; at++) {
    const sextet = sextetOf[text.charCodeAt(at)] ?? -1;
    judged |= sextet;
    bits = (bits << 6) | sextet;
    if (at % 4 === 0) continue;
    decoded[to++] = bits >>> (6 - 2 * (at % 4));
  }
  // §3.5: the bits of the last character that no byte holds.
  const unused = padding === 0 ? 0 : bits & (padding === 1 ? 0b11 : 0b1111);
  return judged < 0 || unused !== 0 ? null : decoded;
}

/** Encodes as RFC 4648 §4, padded. */
export function encodeBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

const base64Alphabet = Buffer.from(
  'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/',
  'latin1',
);
const base64Padding = 0x3d;

/** By character code, -1 for what is none of the alphabet. */
const sextetOf = new Int8Array(128).fill(-1);
for (const [sextet, code] of base64Alphabet.entries()) sextetOf[code] = sextet;

/** Characters of the Base64 of so many bytes, padding included. */
export const base64Length = (bytes: number): number => 4 * Math.ceil(bytes / 3);

/**
 * Writes the Base64 of `bytes` (`base64Length` characters) into `target` as ASCII. For plaintext: unlike `encodeBase64`
 * it makes no string, which nobody could wipe. And for the short values of an answer, whose strings would cost more.
 * @returns the offset behind it.
 */
export function writeBase64(target: Uint8Array, offset: number, bytes: Uint8Array): number {
  const whole = bytes.byteLength - (bytes.byteLength % 3);
  let to = offset;
  for (let from = 0; from < whole; from += 3, to += 4) {
    writeSextets(target, to, byteAt(bytes, from), byteAt(bytes, from + 1), byteAt(bytes, from + 2));
  }
  if (whole === bytes.byteLength) return to;
  const second = whole + 1 < bytes.byteLength ? byteAt(bytes, whole + 1) : 0;
  writeSextets(target, to, byteAt(bytes, whole), second, 0);
  if (whole + 1 === bytes.byteLength) target[to + 2] = base64Padding;
  target[to + 3] = base64Padding;
  return to + 4;
}

/** Of a place that is known to be within. */
const byteAt = (bytes: Uint8Array, at: number): number => bytes[at] as number;

function writeSextets(target: Uint8Array, to: number, first: number, second: number, third: number): void {
  target[to] = byteAt(base64Alphabet, first >>> 2);
  target[to + 1] = byteAt(base64Alphabet, ((first & 0x03) << 4) | (second >>> 4));
  target[to + 2] = byteAt(base64Alphabet, ((second & 0x0f) << 2) | (third >>> 6));
  target[to + 3] = byteAt(base64Alphabet, third & 0x3f);
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
