import { randomFillSync } from 'node:crypto';

/** A source of cryptographically strong random bytes. Injected, so that tests and the simulator can replay. */
export interface RandomSource {
  /** `length` fresh random bytes in a buffer of the caller's own. */
  bytes(length: number): Uint8Array;
}

export const systemRandom: RandomSource = {
  bytes: (length) => randomFillSync(new Uint8Array(length)),
};
