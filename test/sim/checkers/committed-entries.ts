import type { Entry } from '../../../src/raft/types.js';
import { entryText, sameEntry } from './log-matching.js';
import type { ObservedLog } from './observed-log.js';
import type { Verdict } from './verdict.js';

/**
 * What has been committed, as told by the replicas that applied it. State Machine Safety (paper, figure 3): the same
 * entry at the same index everywhere, for good. Leader Completeness: every leader of a later term has it.
 */
export class CommittedEntries {
  readonly #verdict: Verdict;
  readonly #entries: (Entry | undefined)[] = [];
  /** By index: the entry was committed in this term or an earlier one. Not its own term: that may be much earlier. */
  readonly #terms: number[] = [];
  #lastIndex = 0;

  constructor(verdict: Verdict) {
    this.#verdict = verdict;
  }

  get lastIndex(): number {
    return this.#lastIndex;
  }

  at(index: number): Entry | null {
    return this.#entries[index] ?? null;
  }

  /** A replica, itself in `term`, takes `entry` for committed. @returns whether that is news. */
  committed(member: string, term: number, entry: Entry): boolean {
    const known = this.#entries[entry.index];
    if (known === undefined) {
      this.#entries[entry.index] = entry;
      this.#terms[entry.index] = term;
      if (entry.index > this.#lastIndex) this.#lastIndex = entry.index;
      return true;
    }
    if (!sameEntry(known, entry)) {
      this.#verdict.broken(
        'state machine safety',
        `${member} takes ${entryText(entry)} for committed, where ${entryText(known)} is`,
      );
    }
    return false;
  }

  /** `log` is that of a leader of `term`: it must hold all that was committed in earlier terms. */
  leader(member: string, term: number, log: ObservedLog): void {
    let index = this.#lastIndex;
    while (index > 0 && (this.#terms[index] ?? 0) >= term) index -= 1;
    const entry = this.#entries[index];
    // Log matching covers all before it.
    if (entry !== undefined) this.#holds(member, term, log, entry);
  }

  /** `entry` turns out to be committed: so the leader of `term`, with this log, must hold it. */
  leaderHolds(member: string, term: number, log: ObservedLog, entry: Entry): void {
    if (term > (this.#terms[entry.index] ?? term)) this.#holds(member, term, log, entry);
  }

  #holds(member: string, term: number, log: ObservedLog, entry: Entry): void {
    if (entry.index < log.base.index) return;
    const found = log.termAt(entry.index);
    if (found === entry.term) return;
    this.#verdict.broken(
      'leader completeness',
      `${member} leads term ${term} ${found === null ? 'without' : `with an entry of term ${found} in place of`} committed ${entryText(entry)}`,
    );
  }
}
