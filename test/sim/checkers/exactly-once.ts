import type { Verdict } from './verdict.js';

/** A request is executed at one index at most, however often it was sent; one that no log took, at none. */
export class ExactlyOnce {
  readonly #verdict: Verdict;
  readonly #executed = new Map<number, number>();
  readonly #notTaken = new Set<number>();

  constructor(verdict: Verdict) {
    this.#verdict = verdict;
  }

  executed(member: string, request: number, index: number): void {
    const known = this.#executed.get(request);
    if (known === undefined) {
      this.#executed.set(request, index);
      if (this.#notTaken.has(request)) this.#tookAfterAll(request, index);
    } else if (known !== index) {
      this.#verdict.broken(
        'exactly once',
        `${member} executes request ${request} at ${index}; it was executed at ${known}`,
      );
    }
  }

  /** Where it was executed; `null`: nowhere so far. */
  indexOf(request: number): number | null {
    return this.#executed.get(request) ?? null;
  }

  /** A client was told, of every attempt, that it is in no log and never will be. */
  notTaken(request: number): void {
    this.#notTaken.add(request);
    const index = this.#executed.get(request);
    if (index !== undefined) this.#tookAfterAll(request, index);
  }

  #tookAfterAll(request: number, index: number): void {
    this.#verdict.broken(
      'not taken means never',
      `request ${request} was "not taken" and is at index ${index}`,
    );
  }
}
