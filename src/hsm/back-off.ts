import type { RandomSource } from '../base/random.js';

export const backOffFirstMs = 500;
/** Requests fail while no token is open: one that is back must not be left waiting for longer. */
export const backOffMaxMs = 1_500;

/**
 * How long to wait before attempt `failures + 1`: doubles from `backOffFirstMs` to `backOffMaxMs`, less up to a
 * quarter at random, so that a host's processes don't come all at once.
 *
 * @param failures attempts that failed in a row, ≥ 1.
 */
export function backOffMs(failures: number, random: RandomSource): number {
  const full = Math.min(backOffMaxMs, backOffFirstMs * 2 ** Math.min(failures - 1, 16));
  const [low = 0, high = 0] = random.bytes(2);
  return Math.round(full * (1 - (0.25 * (high * 256 + low)) / 65_536));
}
