import type { Clock } from '../../base/clock.js';
import type { Result } from '../../base/result.js';
import type { HsmCrypto, HsmFailure } from '../types.js';
import { failoverMsMin } from './failover.js';

/**
 * A token that is alone, and fails now and then. Asked again at once it most likely does what it was asked; one that fails
 * every time is not given four times the work.
 */

/** With 4% of the operations failing (1% of the calls of an Encrypt), of 10^5 operations not one fails four times. */
const repetitionsMax = 3;
/** So many operations that succeed allow a repetition; unused ones are kept up to the burst. */
const successesPerRepetition = 4;
const repetitionsBurstMax = 20;

/** How much may be asked again. Pure: it is told of what succeeds. */
export class RepetitionBudget {
  /** In successes. */
  #saved = successesPerRepetition * repetitionsBurstMax;

  succeeded(): void {
    this.#saved = Math.min(successesPerRepetition * repetitionsBurstMax, this.#saved + 1);
  }

  /** Takes a repetition out of the budget; false when there is none. */
  take(): boolean {
    if (this.#saved < successesPerRepetition) return false;
    this.#saved -= successesPerRepetition;
    return true;
  }
}

/**
 * Whether the same token may do better if it is asked again: it failed in a call, and neither in time nor over the
 * ciphertext; a doubted one it has refused more than once as it is. Pure.
 */
export function isWorthRepeating(failure: HsmFailure, repetitions: number, msLeft: number): boolean {
  const failedInCall = failure.kind === 'failed' || failure.kind === 'token-unavailable';
  return (
    failedInCall &&
    failure.isDoubted !== true &&
    failure.rv !== null &&
    failure.functionName !== null &&
    repetitions < repetitionsMax &&
    msLeft >= failoverMsMin
  );
}

type Run<T> = (hasFailed: boolean) => Promise<Result<T, HsmFailure>>;

/** `crypto` of a token that is alone, asked again where that is worth it. */
export function repeating(crypto: HsmCrypto, clock: Clock): HsmCrypto {
  const budget = new RepetitionBudget();
  /** Of the failures of one operation the first is the answer: a later one may only say that the token is gone. */
  async function repeated<T>(
    first: HsmFailure,
    deadlineMs: number,
    run: Run<T>,
    answer: Result<T, HsmFailure>,
  ): Promise<Result<T, HsmFailure>> {
    let failure = first;
    for (let repetitions = 0; ; repetitions++) {
      const msLeft = deadlineMs - clock.monotonicMs();
      if (!isWorthRepeating(failure, repetitions, msLeft) || !budget.take()) return answer;
      const result = await run(true);
      if (result.ok || result.error.kind === 'bad-ciphertext') return result;
      failure = result.error;
    }
  }
  const asking =
    <T>(deadlineMs: number, run: Run<T>) =>
    (result: Result<T, HsmFailure>): Result<T, HsmFailure> | Promise<Result<T, HsmFailure>> => {
      if (!result.ok) return repeated(result.error, deadlineMs, run, result);
      budget.succeeded();
      return result;
    };
  return {
    encrypt: (operation, deadlineMs) => {
      const run = (): ReturnType<HsmCrypto['encrypt']> => crypto.encrypt(operation, deadlineMs);
      return run().then(asking(deadlineMs, run));
    },
    decrypt: (operation, deadlineMs) => {
      // Else it could call the ciphertext bad with one word, right after it has shown that it fails.
      const run = (hasFailed: boolean): ReturnType<HsmCrypto['decrypt']> =>
        crypto.decrypt(hasFailed ? { ...operation, hasFailed } : operation, deadlineMs);
      return run(false).then(asking(deadlineMs, run));
    },
  };
}
