import { Inflights } from './inflights.js';
import type { MemberId, PeerProgress } from './types.js';

/**
 * What a leader knows of another member, and how it sends to it:
 *
 * - `probe`: where the logs match is not known. One append at a time, until one is accepted.
 * - `replicate`: entries are sent without waiting for answers, as far as `inflights` goes.
 * - `snapshot`: it needs entries that are compacted; a snapshot is on its way and no appends are.
 */
export class Progress {
  readonly memberId: MemberId;
  learner: boolean;
  recentlyActive = false;
  /** An answer came since the last append that it could not have come without: send one although there is nothing to send. */
  probeDue = false;
  /** Newest heartbeat round that it answered. */
  ackedRound = 0;
  /** See `answeredRound`. */
  lostAcknowledged = false;
  readonly #inflights: Inflights;
  #state: PeerProgress['state'] = 'probe';
  #matchIndex = 0;
  #nextIndex: number;
  /** Greatest commit index sent, as far as it can have arrived. */
  #sentCommitIndex = 0;
  #paused = false;
  #pendingSnapshotIndex = 0;
  /** A heartbeat round not answered yet, and what was known to match when it was sent. */
  #witnessRound = 0;
  #witnessIndex = 0;

  constructor(
    memberId: MemberId,
    learner: boolean,
    nextIndex: number,
    limits: { readonly inflightMessagesMax: number; readonly inflightBytesMax: number },
  ) {
    this.memberId = memberId;
    this.learner = learner;
    this.#nextIndex = nextIndex;
    this.#inflights = new Inflights(limits);
  }

  get state(): PeerProgress['state'] {
    return this.#state;
  }

  get matchIndex(): number {
    return this.#matchIndex;
  }

  get nextIndex(): number {
    return this.#nextIndex;
  }

  get inflightMessages(): number {
    return this.#inflights.count;
  }

  /** No entries may go out now. */
  get throttled(): boolean {
    return this.#state === 'replicate' && this.#inflights.full;
  }

  get paused(): boolean {
    return this.#state === 'snapshot' || this.#paused || this.lostAcknowledged;
  }

  /** The follower takes over a commit index up to what it has verified; it is of no use to tell it more than once. */
  canRaiseCommit(commitIndex: number): boolean {
    return commitIndex > this.#sentCommitIndex && this.#sentCommitIndex < this.#nextIndex - 1;
  }

  #enter(state: PeerProgress['state']): void {
    this.#state = state;
    this.#paused = false;
    this.#pendingSnapshotIndex = 0;
    this.#inflights.clear();
  }

  becomeProbe(): void {
    const snapshotIndex = this.#pendingSnapshotIndex;
    this.#enter('probe');
    this.#setNext(Math.max(this.#matchIndex, snapshotIndex) + 1);
  }

  becomeReplicate(): void {
    this.#enter('replicate');
    this.#nextIndex = this.#matchIndex + 1;
  }

  becomeSnapshot(index: number): void {
    this.#enter('snapshot');
    this.#pendingSnapshotIndex = index;
    this.#nextIndex = index + 1;
    this.#sentCommitIndex = index;
  }

  #setNext(index: number): void {
    this.#nextIndex = index;
    this.#sentCommitIndex = Math.min(this.#sentCommitIndex, index - 1);
  }

  sentAppend(entries: number, bytes: number, commitIndex: number): void {
    this.probeDue = false;
    this.#sentCommitIndex = commitIndex;
    if (this.#state === 'replicate') {
      if (entries > 0) {
        this.#nextIndex += entries;
        this.#inflights.add(this.#nextIndex - 1, bytes);
      }
      // A full window is a probe: nothing more until something is heard, or all of it could be lost for good.
      this.#paused = this.#inflights.full;
    } else if (entries > 0) {
      this.#paused = true;
    }
  }

  sentHeartbeat(round: number, commitIndex: number): void {
    this.#sentCommitIndex = Math.max(this.#sentCommitIndex, commitIndex);
    if (this.#witnessRound === 0) {
      this.#witnessRound = round;
      this.#witnessIndex = this.#matchIndex;
    }
  }

  /**
   * It answered heartbeat `round`, and its log ended at `lastIndex` then. A log that ends before what was acknowledged
   * when that heartbeat was sent has lost entries: its disk was wiped or rolled back. (Without the round the answer
   * might be older than the acknowledgement, and accuse an honest member.)
   */
  answeredRound(round: number, lastIndex: number): void {
    this.recentlyActive = true;
    this.#paused = false;
    this.ackedRound = Math.max(this.ackedRound, round);
    if (this.#witnessRound === 0 || round < this.#witnessRound) return;
    if (lastIndex < this.#witnessIndex) {
      this.lostAcknowledged = true;
      this.#inflights.clear();
    }
    this.#witnessRound = 0;
  }

  /** Its log matches ours up to `index`. False when that is no news. */
  acknowledged(index: number): boolean {
    if (index <= this.#matchIndex) return false;
    this.#matchIndex = index;
    this.#nextIndex = Math.max(this.#nextIndex, index + 1);
    this.#paused = false;
    return true;
  }

  freeInflights(index: number): void {
    this.#inflights.freeTo(index);
  }

  /**
   * It rejected an append at `index`, and can at best match at `hintIndex`. False when that is no news: answers may be
   * repeated or overtaken, and what is known to match stays so.
   */
  rejected(index: number, hintIndex: number): boolean {
    if (this.#state === 'snapshot') return false;
    if (this.#state === 'replicate') {
      if (index <= this.#matchIndex) return false;
      this.becomeProbe();
      return true;
    }
    if (index !== this.#nextIndex - 1) return false;
    this.#setNext(Math.max(Math.min(index, hintIndex + 1), this.#matchIndex + 1));
    this.#paused = false;
    return true;
  }

  /** The snapshot was carried over, or could not be: wait for a sign of life before the next append. */
  snapshotDone(delivered: boolean): void {
    if (this.#state !== 'snapshot') return;
    if (!delivered) this.#pendingSnapshotIndex = 0;
    this.becomeProbe();
    this.#paused = true;
  }

  view(): PeerProgress {
    return {
      memberId: this.memberId,
      learner: this.learner,
      state: this.#state,
      matchIndex: this.#matchIndex,
      nextIndex: this.#nextIndex,
      recentlyActive: this.recentlyActive,
      inflightMessages: this.#inflights.count,
      lostAcknowledged: this.lostAcknowledged,
    };
  }
}
