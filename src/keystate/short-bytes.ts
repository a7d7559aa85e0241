/**
 * Memory of short byte strings, which key state holds by the 100,000 and for long: an array of its own costs each some
 * 130 bytes more than a view. A slab stays for as long as one of its strings does.
 */
const slabBytes = 16 * 1024;
/** Longer ones are few. */
const shortBytesMax = 256;

let slab = new ArrayBuffer(slabBytes);
let used = 0;

/** An array of zeros whose `buffer` may be others' too. */
export function allocateShortBytes(length: number): Uint8Array {
  if (length > shortBytesMax) return new Uint8Array(length);
  if (used + length > slabBytes) {
    slab = new ArrayBuffer(slabBytes);
    used = 0;
  }
  const bytes = new Uint8Array(slab, used, length);
  used += length;
  return bytes;
}
