import type { Entry, HardState, LogPosition } from '../../../src/raft/types.js';

/** What a replica holds after recovery. */
export interface RecoveredState {
  readonly hardState: HardState;
  readonly snapshot: LogPosition;
  readonly entries: readonly Entry[];
}

export const emptyState: RecoveredState = {
  hardState: { term: 0, votedFor: null, commitIndex: 0 },
  snapshot: { index: 0, term: 0 },
  entries: [],
};

/** The log of one replica, as seen at its disk: what it handed over, and how much of that is synced. */
export class ObservedLog {
  /** Synced. */
  hardState: HardState;
  /** Handed over. */
  pendingHardState: HardState;
  /** Entries up to here are synced, and none is being replaced. */
  syncedIndex: number;
  /** `entries[i]` has index `base.index + 1 + i`. */
  base: LogPosition;
  entries: Entry[];

  constructor(state: RecoveredState) {
    this.hardState = state.hardState;
    this.pendingHardState = state.hardState;
    this.base = state.snapshot;
    this.entries = [...state.entries];
    this.syncedIndex = this.lastIndex;
  }

  get lastIndex(): number {
    return this.base.index + this.entries.length;
  }

  entry(index: number): Entry | null {
    return this.entries[index - this.base.index - 1] ?? null;
  }

  /** `null`: outside, or forgotten. */
  termAt(index: number): number | null {
    return index === this.base.index ? this.base.term : (this.entry(index)?.term ?? null);
  }

  append(entries: readonly Entry[]): void {
    const first = entries[0];
    if (first === undefined) return;
    this.syncedIndex = Math.min(this.syncedIndex, first.index - 1);
    this.entries.length = Math.max(0, first.index - this.base.index - 1);
    for (const entry of entries) this.entries.push(entry);
  }

  install(at: LogPosition): void {
    this.base = at;
    this.entries = [];
    // Which of the two is on the disk isn't known before it is synced.
    this.syncedIndex = 0;
  }

  synced(): void {
    this.hardState = this.pendingHardState;
    this.syncedIndex = this.lastIndex;
  }
}
