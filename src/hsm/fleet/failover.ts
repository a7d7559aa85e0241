import type { HsmFailure } from '../types.js';

/**
 * What follows when a token has failed an operation. Pure: the fleet tells, this decides.
 */

/** With less time left another token could not answer either. */
export const failoverMsMin = 40;
/** Tokens that may fail an operation in their own way and still leave it another one. */
const retriesMax = 1;

export interface FailedAttempt {
  readonly operation: 'encrypt' | 'decrypt';
  readonly failure: HsmFailure;
  /** Retries that this operation has had already; refusals are none. */
  readonly retries: number;
  /** Whether another token has refused the same ciphertext already. */
  readonly refusedElsewhere: boolean;
  readonly msLeft: number;
}

export type NextStep =
  /** No other token would say anything else, or there is no time. */
  | 'answer'
  /** Any other token. `retry` counts as one, `refused` does not: no time was lost with it. */
  | 'retry'
  | 'refused'
  /** A token that is well, if there is one: where none is, the first one's word stands, as with a single token. */
  | 'second-opinion';

export function nextStep({ operation, failure, retries, refusedElsewhere, msLeft }: FailedAttempt): NextStep {
  switch (failure.kind) {
    case 'bad-ciphertext':
      // What an encrypt made and could not decrypt again is the token's own.
      if (operation === 'encrypt') return retry(retries, msLeft);
      // X-D2: a value of a wrong length, for which no token was asked.
      if (failure.functionName === null) return 'answer';
      // X-X2: the token's canary has vouched for it. A second token makes sure; no time limit but the deadline, since
      // without it there is no truthful answer.
      return refusedElsewhere ? 'answer' : 'second-opinion';
    case 'too-large':
      return 'answer';
    case 'overloaded':
      return 'refused';
    case 'key-lost':
      // However many have lost it, the one that holds it is found, while there is time: each of them is remembered,
      // so this happens once.
      return msLeft >= failoverMsMin ? 'refused' : 'answer';
    case 'token-unavailable':
      // Without a call there is nobody logged in, or nothing free: it refused at once.
      return failure.functionName === null ? 'refused' : retry(retries, msLeft);
    case 'deadline':
    case 'unsafe-iv':
    case 'failed':
      return retry(retries, msLeft);
  }
}

const retry = (retries: number, msLeft: number): NextStep =>
  retries < retriesMax && msLeft >= failoverMsMin ? 'retry' : 'answer';

/**
 * Which of two failures of the same operation is the answer. What a token did when it was asked weighs more than what
 * it refused; a ciphertext is bad only when no token failed otherwise over it (X-X2); a key is lost only when no
 * token's illness can explain it; 429 only where none had room.
 */
export function tellingFailure(one: HsmFailure | null, other: HsmFailure): HsmFailure {
  return one !== null && weight(one) > weight(other) ? one : other;
}

function weight(failure: HsmFailure): number {
  switch (failure.kind) {
    case 'too-large':
      return 6;
    case 'failed':
      // That token has no opinion; another one's verdict stands on its own.
      return failure.isDoubted === true ? 2 : 5;
    case 'deadline':
    case 'unsafe-iv':
      return 5;
    case 'token-unavailable':
      return failure.functionName === null ? 1 : 5;
    case 'overloaded':
      return 4;
    case 'bad-ciphertext':
      return 3;
    case 'key-lost':
      return 0;
  }
}

/**
 * Whether a failure speaks against the token, for its breaker. Not what its callers cause or may have caused (a bad
 * ciphertext, a doubted one, overload), and not a lost key: the others on it are served. A token that refuses whatever it is
 * given does not hide behind that: it refuses witnesses, too, and what the health check has just encrypted.
 *
 * @param tookMs how long the token had.
 */
export function isTokenFault(
  operation: FailedAttempt['operation'],
  failure: HsmFailure,
  tookMs: number,
): boolean {
  switch (failure.kind) {
    case 'failed':
      return failure.isDoubted !== true;
    case 'unsafe-iv':
    case 'token-unavailable':
      return true;
    case 'deadline':
      // Who comes too late has waited elsewhere.
      return tookMs >= failoverMsMin;
    case 'bad-ciphertext':
      return operation === 'encrypt';
    case 'overloaded':
    case 'key-lost':
    case 'too-large':
      return false;
  }
}
