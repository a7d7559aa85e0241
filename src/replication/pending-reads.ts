/** Reads that wait at once. */
export const pendingReadsMax = 1_024;

interface PendingRead {
  readonly deadlineMs: number;
  /** Of the last question; `null` once answered, and between an answer of `null` and the next question. */
  raftReadId: string | null;
  askAgainAtTick: number;
  /** The confirmed index, which is not applied yet. */
  index: number | null;
}

export interface PendingReadsOptions {
  /** Before asking anew when no answer came. */
  readonly silenceTicks: number;
  /** Before asking anew when the answer was that there is none. */
  readonly refusalTicks: number;
  /** Asks the consensus core; the id of the question, never used before (etcd #20418: a late answer to a reused id). */
  readonly ask: () => string;
  /** Each read's outcome, once. */
  readonly settle: (readId: string, index: number | null) => void;
}

/** Reads asked here: confirmed by a quorum, then waiting until what they saw is applied (thesis §6.4). */
export class PendingReads {
  readonly #options: PendingReadsOptions;
  readonly #reads = new Map<string, PendingRead>();
  readonly #asked = new Map<string, string>();
  #tick = 0;

  constructor(options: PendingReadsOptions) {
    this.#options = options;
  }

  add(readId: string, deadlineMs: number): void {
    if (this.#reads.size >= pendingReadsMax) {
      this.#options.settle(readId, null);
      return;
    }
    const read: PendingRead = { deadlineMs, raftReadId: null, askAgainAtTick: 0, index: null };
    this.#reads.set(readId, read);
    this.#ask(readId, read);
  }

  answered(raftReadId: string, index: number | null, appliedIndex: number): void {
    const readId = this.#asked.get(raftReadId);
    const read = readId === undefined ? undefined : this.#reads.get(readId);
    if (readId === undefined || read === undefined) return;
    this.#asked.delete(raftReadId);
    read.raftReadId = null;
    read.index = index;
    if (index === null) read.askAgainAtTick = this.#tick + this.#options.refusalTicks;
    else if (index <= appliedIndex) this.#settle(readId, read, index);
  }

  applied(appliedIndex: number): void {
    if (this.#reads.size === 0) return;
    for (const [readId, read] of [...this.#reads]) {
      if (read.index !== null && read.index <= appliedIndex) this.#settle(readId, read, read.index);
    }
  }

  tick(nowMs: number): void {
    this.#tick += 1;
    if (this.#reads.size === 0) return;
    for (const [readId, read] of [...this.#reads]) {
      if (nowMs >= read.deadlineMs) this.#settle(readId, read, null);
      else if (read.index === null && this.#tick >= read.askAgainAtTick) this.#ask(readId, read);
    }
  }

  close(): void {
    for (const [readId, read] of [...this.#reads]) this.#settle(readId, read, null);
  }

  #ask(readId: string, read: PendingRead): void {
    if (read.raftReadId !== null) this.#asked.delete(read.raftReadId);
    read.askAgainAtTick = this.#tick + this.#options.silenceTicks;
    read.raftReadId = this.#options.ask();
    this.#asked.set(read.raftReadId, readId);
  }

  #settle(readId: string, read: PendingRead, index: number | null): void {
    // Those settled meanwhile, from within another's outcome.
    if (!this.#reads.delete(readId)) return;
    if (read.raftReadId !== null) this.#asked.delete(read.raftReadId);
    this.#options.settle(readId, index);
  }
}
