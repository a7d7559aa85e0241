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

  /** A replica takes `entry` for committed. @returns whether that is news. */
  committed(member: string, entry: Entry): boolean {
    const known = this.#entries[entry.index];
    if (known === undefined) {
      this.#entries[entry.index] = entry;
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

  /** `log` is that of a leader of `term`: it must hold all that is committed and older. */
  leader(member: string, term: number, log: ObservedLog): void {
    // Of its own term or a later one, entries may be committed that this leader is yet to append or never will.
    let index = this.#lastIndex;
    while (index > 0 && (this.#entries[index]?.term ?? 0) >= term) index -= 1;
    const entry = this.#entries[index];
    // Log matching covers all before it.
    if (entry !== undefined) this.#holds(member, term, log, entry);
  }

  /** `entry` turns out to be committed: so the leader of `term`, with this log, must hold it. */
  leaderHolds(member: string, term: number, log: ObservedLog, entry: Entry): void {
    if (term > entry.term) this.#holds(member, term, log, entry);
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
