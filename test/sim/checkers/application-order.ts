import type { Verdict } from './verdict.js';

/** Each replica applies every index once, in order, and none before it is committed at all. */
export class ApplicationOrder {
  readonly #verdict: Verdict;
  readonly #appliedIndex = new Map<string, number>();
  readonly #announcedIndex = new Map<string, number>();

  constructor(verdict: Verdict) {
    this.#verdict = verdict;
  }

  /** The state of `member` is now as of `index`, by a restart or a snapshot. */
  starts(member: string, index: number): void {
    this.#appliedIndex.set(member, index);
    this.#announcedIndex.set(member, index);
  }

  applies(member: string, index: number): void {
    const last = this.#appliedIndex.get(member) ?? 0;
    if (index !== last + 1) {
      this.#verdict.broken('application order', `${member} applies ${index} after ${last}`);
    }
    this.#appliedIndex.set(member, index);
  }

  /** `member` tells its subscribers of entry `index`. */
  announces(member: string, index: number): void {
    const last = this.#announcedIndex.get(member) ?? 0;
    const applied = this.#appliedIndex.get(member) ?? 0;
    if (index !== last + 1 || index > applied) {
      this.#verdict.broken(
        'application order',
        `${member} announces ${index} after ${last}, having applied ${applied}`,
      );
    }
    this.#announcedIndex.set(member, index);
  }
}
