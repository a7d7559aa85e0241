import { invariant } from '../base/guards.js';
import type { Entry, LogPosition, Membership } from './types.js';

/** What an entry costs beside its data: so that empty ones count too. */
const entryOverheadBytes = 32;

/** What an entry counts for in every limit of bytes. */
export const entryBytes = (entry: Entry): number => entry.data.byteLength + entryOverheadBytes;

export function entriesBytes(entries: readonly Entry[]): number {
  let bytes = 0;
  for (const entry of entries) bytes += entryBytes(entry);
  return bytes;
}

export interface SnapshotInstall {
  readonly position: LogPosition;
  readonly membership: Membership;
}

const none: readonly never[] = [];

/**
 * The log since the last snapshot, in memory, and how far it is durable, committed, handed out and applied:
 * `snapshotIndex ≤ appliedIndex ≤ commitIndex ≤ lastIndex` and `stableIndex ≤ lastIndex`.
 */
export class RaftLog {
  /** The entry of index i is at i - snapshotIndex - 1. */
  readonly #entries: Entry[];
  #snapshotIndex: number;
  #snapshotTerm: number;
  #commitIndex: number;
  #appliedIndex: number;
  /** Committed entries up to here were handed out to be applied. */
  #handedOutIndex: number;
  /** Durable up to here. */
  #stableIndex: number;
  /** Being made durable up to here; 0 when nothing is. */
  #persistingIndex = 0;
  /** Stepped in and not durable yet: `#entries` is empty then. */
  #pendingSnapshot: SnapshotInstall | null = null;

  constructor(
    snapshot: LogPosition,
    entries: readonly Entry[],
    at: { readonly commitIndex: number; readonly appliedIndex: number },
  ) {
    this.#snapshotIndex = snapshot.index;
    this.#snapshotTerm = snapshot.term;
    this.#entries = [...entries];
    this.#commitIndex = Math.max(at.commitIndex, snapshot.index);
    this.#appliedIndex = at.appliedIndex;
    this.#handedOutIndex = at.appliedIndex;
    this.#stableIndex = this.lastIndex;
    let { term } = snapshot;
    entries.forEach((entry, at) => {
      invariant(entry.index === snapshot.index + 1 + at, `entry ${entry.index} is out of place in the log`);
      invariant(entry.term >= term, `entry ${entry.index} has a lower term than the one before`);
      term = entry.term;
    });
    invariant(
      this.#commitIndex <= this.lastIndex,
      `commit index ${this.#commitIndex} beyond the log's end ${this.lastIndex}`,
    );
    invariant(
      at.appliedIndex >= snapshot.index && at.appliedIndex <= this.#commitIndex,
      `applied index ${at.appliedIndex} is not between snapshot ${snapshot.index} and commit index ${this.#commitIndex}`,
    );
  }

  get snapshotIndex(): number {
    return this.#snapshotIndex;
  }

  get firstIndex(): number {
    return this.#snapshotIndex + 1;
  }

  get lastIndex(): number {
    return this.#snapshotIndex + this.#entries.length;
  }

  get lastTerm(): number {
    return this.#entries.at(-1)?.term ?? this.#snapshotTerm;
  }

  get commitIndex(): number {
    return this.#commitIndex;
  }

  get appliedIndex(): number {
    return this.#appliedIndex;
  }

  get handedOutIndex(): number {
    return this.#handedOutIndex;
  }

  get stableIndex(): number {
    return this.#stableIndex;
  }

  get pendingSnapshot(): SnapshotInstall | null {
    return this.#pendingSnapshot;
  }

  lastPosition(): LogPosition {
    return { index: this.lastIndex, term: this.lastTerm };
  }

  committedPosition(): LogPosition {
    return { index: this.#commitIndex, term: this.#termOf(this.#commitIndex) };
  }

  entry(index: number): Entry | null {
    return this.#entries[index - this.#snapshotIndex - 1] ?? null;
  }

  /** `null` where nothing is known: beyond the end, or before the snapshot. */
  term(index: number): number | null {
    if (index === this.#snapshotIndex) return this.#snapshotTerm;
    return this.#entries[index - this.#snapshotIndex - 1]?.term ?? null;
  }

  /** Of an index that must be held. */
  #termOf(index: number): number {
    const term = this.term(index);
    invariant(term !== null, `no term is known of index ${index}`);
    return term;
  }

  matches(position: LogPosition): boolean {
    return this.term(position.index) === position.term;
  }

  /** Whether a log that ends there is at least as up-to-date as ours (paper §5.4.1). */
  isUpToDate(last: LogPosition): boolean {
    return last.term > this.lastTerm || (last.term === this.lastTerm && last.index >= this.lastIndex);
  }

  /** The first of `entries` from `from` on that ours lacks or has of another term; `entries.length` if none. */
  firstMissing(entries: readonly Entry[], from: number): number {
    for (let at = from; at < entries.length; at += 1) {
      const entry = entries[at];
      if (entry !== undefined && this.term(entry.index) !== entry.term) return at;
    }
    return entries.length;
  }

  /**
   * The greatest index up to `index` whose term is at most `term`: all above can't be in a log that ends with `term`
   * at or before `index`. Term 0 when it lies before what is held.
   */
  lastWithTermUpTo(index: number, term: number): LogPosition {
    let at = Math.min(index, this.lastIndex);
    for (; at > this.#snapshotIndex; at -= 1) {
      const ours = this.#termOf(at);
      if (ours <= term) return { index: at, term: ours };
    }
    if (at === this.#snapshotIndex && this.#snapshotTerm <= term)
      return { index: at, term: this.#snapshotTerm };
    return { index: at, term: 0 };
  }

  /** Appends `entries` from `from` on, in place of all that stands at the first one's index and after it. */
  append(entries: readonly Entry[], from = 0): void {
    const first = entries[from];
    if (first === undefined) return;
    invariant(first.index > this.#commitIndex, `entry ${first.index} would replace a committed one`);
    invariant(first.index <= this.lastIndex + 1, `entry ${first.index} would leave a gap`);
    const kept = first.index - this.#snapshotIndex - 1;
    if (kept < this.#entries.length) {
      this.#entries.length = kept;
      // What is being written there is not ours any more, so its arrival on the disk tells nothing of these: durable is
      // known by index and term together (etcd-io/etcd#14370 and thesis §10.2.1).
      this.#stableIndex = Math.min(this.#stableIndex, first.index - 1);
      this.#persistingIndex = Math.min(this.#persistingIndex, first.index - 1);
    }
    for (let at = from; at < entries.length; at += 1) {
      const entry = entries[at];
      if (entry !== undefined) this.#entries.push(entry);
    }
  }

  /** Never backward. */
  commitTo(index: number): boolean {
    if (index <= this.#commitIndex) return false;
    invariant(index <= this.lastIndex, `commit index ${index} beyond the log's end ${this.lastIndex}`);
    this.#commitIndex = index;
    return true;
  }

  appliedTo(index: number): void {
    invariant(
      index >= this.#appliedIndex && index <= this.#handedOutIndex,
      `applied ${index} of what was handed out up to ${this.#handedOutIndex} (before: ${this.#appliedIndex})`,
    );
    this.#appliedIndex = index;
  }

  /** Entries from `index` on, at least one if there is any, of `bytesMax` or less if more than one. */
  slice(index: number, lastIndex: number, bytesMax: number): readonly Entry[] {
    const start = index - this.#snapshotIndex - 1;
    const endMax = lastIndex - this.#snapshotIndex;
    if (start >= endMax) return none;
    let bytes = 0;
    let end = start;
    for (; end < endMax; end += 1) {
      const entry = this.#entries[end];
      if (entry === undefined) break;
      bytes += entryBytes(entry);
      if (bytes > bytesMax && end > start) break;
    }
    return this.#entries.slice(start, end);
  }

  bytesBetween(afterIndex: number, lastIndex: number): number {
    let bytes = 0;
    for (let index = afterIndex + 1; index <= lastIndex; index += 1) {
      const entry = this.entry(index);
      if (entry !== null && entry.kind !== 'noop') bytes += entryBytes(entry);
    }
    return bytes;
  }

  /** Committed and not applied yet: who the members are is about to change. */
  hasUnappliedMembership(): boolean {
    for (let index = this.#appliedIndex + 1; index <= this.#commitIndex; index += 1) {
      if (this.entry(index)?.kind === 'membership') return true;
    }
    return false;
  }

  get hasUnstable(): boolean {
    return this.#stableIndex < this.lastIndex;
  }

  get hasNextCommitted(): boolean {
    return this.#handedOutIndex < this.#commitIndex;
  }

  /** What is to be made durable now. `persisted` says that it is. */
  takeUnstable(): readonly Entry[] {
    if (!this.hasUnstable) return none;
    this.#persistingIndex = this.lastIndex;
    return this.#entries.slice(this.#stableIndex - this.#snapshotIndex);
  }

  takeCommitted(bytesMax: number): readonly Entry[] {
    if (!this.hasNextCommitted) return none;
    const entries = this.slice(this.#handedOutIndex + 1, this.#commitIndex, bytesMax);
    this.#handedOutIndex += entries.length;
    return entries;
  }

  /** What `takeUnstable` gave is durable: as far as it still stands in the log. */
  persisted(): void {
    this.#stableIndex = Math.max(this.#stableIndex, this.#persistingIndex);
    this.#persistingIndex = 0;
  }

  /** The snapshot takes the place of the whole log. */
  restore(snapshot: SnapshotInstall): void {
    const { index, term } = snapshot.position;
    invariant(index > this.#commitIndex, `snapshot ${index} would go back behind ${this.#commitIndex}`);
    this.#entries.length = 0;
    this.#snapshotIndex = index;
    this.#snapshotTerm = term;
    this.#commitIndex = index;
    this.#handedOutIndex = index;
    this.#stableIndex = index;
    this.#persistingIndex = 0;
    this.#pendingSnapshot = snapshot;
  }

  /** `snapshot` is durable and the state machine restored to it. */
  restored(snapshot: SnapshotInstall): void {
    this.#appliedIndex = Math.max(this.#appliedIndex, snapshot.position.index);
    // Another one may have come in meanwhile.
    if (this.#pendingSnapshot === snapshot) this.#pendingSnapshot = null;
  }

  /** Forgets the entries up to `index`, which a durable snapshot covers. */
  compact(index: number): void {
    if (index <= this.#snapshotIndex) return;
    invariant(index <= this.#appliedIndex, `${index} is not applied and can't be compacted`);
    const term = this.#termOf(index);
    this.#entries.splice(0, index - this.#snapshotIndex);
    this.#snapshotIndex = index;
    this.#snapshotTerm = term;
    this.#stableIndex = Math.max(this.#stableIndex, index);
  }
}
