import type { Entry } from '../../../src/raft/types.js';
import type { ObservedLog } from './observed-log.js';
import type { Verdict } from './verdict.js';

interface Known {
  readonly entry: Entry;
  readonly previousTerm: number | null;
}

export const sameEntry = (left: Entry, right: Entry): boolean =>
  left === right ||
  (left.index === right.index &&
    left.term === right.term &&
    left.kind === right.kind &&
    (left.data === right.data || Buffer.compare(left.data, right.data) === 0));

export const entryText = (entry: Entry): string =>
  `${entry.index}/${entry.term} ${entry.kind} ${Buffer.from(entry.data.subarray(0, 12)).toString('hex')}`;

/**
 * Log Matching (paper, figure 3): two logs with an entry of the same index and term are the same up to it. By
 * induction: the entry and the term of the one before it are the same wherever it is appended.
 */
export class LogMatching {
  readonly #verdict: Verdict;
  /** By index, then term. */
  readonly #known: Map<number, Known>[] = [];

  constructor(verdict: Verdict) {
    this.#verdict = verdict;
  }

  /** `entries` were just appended to `log`. */
  appended(member: string, log: ObservedLog, entries: readonly Entry[]): void {
    let previousTerm = log.termAt((entries[0]?.index ?? 1) - 1);
    for (const entry of entries) {
      this.#one(member, entry, previousTerm);
      previousTerm = entry.term;
    }
  }

  #one(member: string, entry: Entry, previousTerm: number | null): void {
    if (previousTerm !== null && previousTerm > entry.term) {
      this.#verdict.broken(
        'log matching',
        `${member} has entry ${entryText(entry)} after one of term ${previousTerm}`,
      );
    }
    let terms = this.#known[entry.index];
    if (terms === undefined) {
      terms = new Map();
      this.#known[entry.index] = terms;
    }
    const known = terms.get(entry.term);
    if (known === undefined) {
      terms.set(entry.term, { entry, previousTerm });
      return;
    }
    if (!sameEntry(known.entry, entry)) {
      this.#verdict.broken(
        'log matching',
        `${member} has entry ${entryText(entry)}, another has ${entryText(known.entry)}`,
      );
    }
    if (known.previousTerm === null) {
      terms.set(entry.term, { entry, previousTerm });
    } else if (previousTerm !== null && previousTerm !== known.previousTerm) {
      this.#verdict.broken(
        'log matching',
        `${member} has entry ${entryText(entry)} after one of term ${previousTerm}, another after one of ${known.previousTerm}`,
      );
    }
  }
}
