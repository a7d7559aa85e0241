import { type RefusalsAsked, refusalFlags } from './cells.js';

/**
 * Where a token's code for a bad ciphertext may mean anything (`CKR_GENERAL_ERROR`), it refuses the ciphertext as often,
 * before that is held against the caller: with failures of its own in one C_Decrypt of a hundred, once in 10^6. Where there
 * is no time for the third, two are enough, as long as nothing is known against the token.
 */
const refusalsWanted = 3;
const refusalsLeast = 2;
/** Where the code says what is meant, `CKR_ENCRYPTED_DATA_INVALID`, and it is the first thing that the token says. */
const refusalsOwnWord = 1;
/** Of a token that was seen to give such a code for nothing: once in 10^10. Where there is no time for it, it is the token's. */
const refusalsDistrusted = 5;
/** How long that is held against it. */
export const distrustMs = 60_000;
/** Left for the answer, when the token has been asked again. */
const answerMs = 20;
/** What a cell can say. */
const askedMsMax = 1_800_000;

const trusting = refusalFlags(refusalsWanted, refusalsLeast, refusalsOwnWord);
const afterFailure = refusalFlags(refusalsWanted, refusalsLeast, 0);
const distrusting = refusalFlags(refusalsDistrusted, refusalsDistrusted, refusalsDistrusted);

/**
 * How often a token has to refuse a ciphertext before the caller is told so (X-X2). Pure: it is told of every code that came
 * for nothing (a ciphertext that was opened after all, an encrypt, a witness) and of the time. The key's witness vouches
 * for the token as well, once for each ciphertext; it does not show errors that are rare.
 */
export class CiphertextDoubt {
  readonly #clockOriginMicros: number;
  #spuriousAtMs = Number.NEGATIVE_INFINITY;

  /** @param clockOriginMicros what `NativeBinding.monotonicMicros()` was when `Clock.monotonicMs()` was 0. */
  constructor(clockOriginMicros: number) {
    this.#clockOriginMicros = clockOriginMicros;
  }

  /** A code that may mean a bad ciphertext came where it cannot have meant that. */
  spurious(nowMs: number): void {
    this.#spuriousAtMs = nowMs;
  }

  /** What goes with a decrypt. `hasFailed`: `DecryptOperation.hasFailed`. */
  asked(nowMs: number, deadlineMs: number, hasFailed: boolean): RefusalsAsked {
    const usual = hasFailed ? afterFailure : trusting;
    return {
      flags: this.#isDistrusted(nowMs) ? distrusting : usual,
      untilMicros: this.#clockOriginMicros + 1_000 * Math.min(deadlineMs - answerMs, nowMs + askedMsMax),
    };
  }

  /** Whether a ciphertext that was called bad is, as far as is known by now: what came to light meanwhile counts. */
  isEnough(refusals: number, nowMs: number): boolean {
    return !this.#isDistrusted(nowMs) || refusals >= refusalsDistrusted;
  }

  #isDistrusted(nowMs: number): boolean {
    return nowMs - this.#spuriousAtMs < distrustMs;
  }
}
