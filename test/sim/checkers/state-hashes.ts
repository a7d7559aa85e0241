import type { Verdict } from './verdict.js';

/** Replicas that have applied the same entries have the same state. */
export class StateHashes {
  readonly #verdict: Verdict;
  readonly #hashes: (number | undefined)[] = [];
  readonly #members: string[] = [];

  constructor(verdict: Verdict) {
    this.#verdict = verdict;
  }

  /** @param hash of the state of `member` as of `index`. */
  reached(member: string, index: number, hash: number): void {
    const known = this.#hashes[index];
    if (known === undefined) {
      this.#hashes[index] = hash;
      this.#members[index] = member;
    } else if (known !== hash) {
      this.#verdict.broken(
        'equal state at equal index',
        `${member} has another state as of index ${index} than ${this.#members[index]}`,
      );
    }
  }
}
