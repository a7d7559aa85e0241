import { encodeHex } from '../base/bytes.js';
import { invariant } from '../base/guards.js';

/**
 * Ids of requests, ordered by time: 12 hexadecimal digits of the milliseconds at which it was minted, a hyphen, 20 of
 * chance. Compared as text they are in order of time.
 */
const pattern = /^([0-9a-f]{12})-[0-9a-f]{20}$/;
const timeMsMax = 2 ** 48 - 1;

export const requestIdRandomBytes = 10;

/** @param random `requestIdRandomBytes` fresh random bytes. */
export function mintRequestId(atMs: number, random: Uint8Array): string {
  invariant(
    Number.isSafeInteger(atMs) && atMs >= 0 && atMs <= timeMsMax,
    `no time for a request id: ${atMs}`,
  );
  invariant(random.byteLength === requestIdRandomBytes, `${random.byteLength} random bytes`);
  return `${atMs.toString(16).padStart(12, '0')}-${encodeHex(random)}`;
}

/** `null` for what `mintRequestId` does not make. */
export function parseRequestId(requestId: string): { readonly mintedAtMs: number } | null {
  const digits = pattern.exec(requestId)?.[1];
  return digits === undefined ? null : { mintedAtMs: Number.parseInt(digits, 16) };
}
