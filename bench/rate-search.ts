/** How close the two ends of a search come before it ends. */
const precision = 1.04;
const attemptsMax = 16;

/**
 * Looks for the highest rate that is still good: downwards from a guess until one is, then between the two. What is
 * good below one rate is taken to be good at all lower ones.
 */
export class RateSearch {
  readonly #guess: number;
  #good: number | null = null;
  #bad: number | null = null;
  #attempts = 0;

  /** `guess`: requests a second, best a little above what is expected. */
  constructor(guess: number) {
    this.#guess = guess;
  }

  /** Highest rate seen to be good, `null` before. */
  get best(): number | null {
    return this.#good;
  }

  /** What is known of the highest good rate where that is not within `precision`, for people; else `null`. */
  get doubt(): string | null {
    if (this.#good === null) return 'no rate was good';
    if (this.#bad === null) return `${Math.round(this.#good)}/s was good, and nothing higher was bad`;
    return this.#isPrecise
      ? null
      : `it lies between ${Math.round(this.#good)}/s and ${Math.round(this.#bad)}/s, which was as near as ${attemptsMax} tries came`;
  }

  get #isPrecise(): boolean {
    return this.#good !== null && this.#bad !== null && this.#bad / this.#good <= precision;
  }

  /** The rate to try next, `null` when it is known well enough. */
  next(): number | null {
    if (this.#attempts >= attemptsMax) return null;
    if (this.#good === null) return this.#bad === null ? this.#guess : this.#bad * 0.75;
    if (this.#bad === null) return this.#good * 1.25;
    if (this.#isPrecise) return null;
    return Math.sqrt(this.#good * this.#bad);
  }

  record(rate: number, good: boolean): void {
    this.#attempts += 1;
    if (good) this.#good = Math.max(rate, this.#good ?? 0);
    else this.#bad = Math.min(rate, this.#bad ?? Number.POSITIVE_INFINITY);
  }
}
