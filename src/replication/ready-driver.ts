import { invariant } from '../base/guards.js';
import type { RaftNode } from '../raft/raft-node.js';
import type { Entry, HardState, Message, Ready } from '../raft/types.js';
import type { PersistBatch } from './loop-contract.js';

type ReadySnapshot = NonNullable<Ready['snapshot']>;

export interface ReadyDriverOptions {
  readonly raft: () => RaftNode;
  /** Both answer with `persisted(ticket)`, at once or later. */
  readonly persist: (ticket: number, batch: PersistBatch) => void;
  readonly persistSnapshot: (ticket: number, snapshot: ReadySnapshot, hardState: HardState | null) => void;
  /** All three: false when this replica can't go on. */
  readonly restore: (snapshot: ReadySnapshot) => boolean;
  readonly apply: (entry: Entry) => boolean;
  readonly send: (message: Message) => void;
  /** After what came with them is applied. */
  readonly finished: (reads: Ready['reads']) => void;
}

/**
 * Does what `ready` says, in its order: makes durable, restores, sends, applies. Nothing leaves this member before what
 * it rests upon is on the disk (paper §5, figure 2: "before responding to RPCs"), and no step is taken twice.
 */
export class ReadyDriver {
  readonly #options: ReadyDriverOptions;
  #driving = false;
  #stopped = false;
  /** Being done; `null` between two. */
  #ready: Ready | null = null;
  /** Of `#ready`: the next. */
  #step: 'snapshot' | 'restore' | 'batch' | 'finish' = 'finish';
  #ticketsIssued = 0;
  #persisting: number | null = null;
  #term: number;
  #commitIndex: number;

  constructor(options: ReadyDriverOptions, hardState: HardState) {
    this.#options = options;
    this.#term = hardState.term;
    this.#commitIndex = hardState.commitIndex;
  }

  /** As of the last `ready`. */
  get term(): number {
    return this.#term;
  }

  get commitIndex(): number {
    return this.#commitIndex;
  }

  /** The ticket of what the disk is at. */
  get persisting(): number | null {
    return this.#persisting;
  }

  /** Nothing is under way. */
  get idle(): boolean {
    return !this.#driving && this.#ready === null;
  }

  /** Never used before. */
  nextTicket(): number {
    this.#ticketsIssued += 1;
    return this.#ticketsIssued;
  }

  persisted(ticket: number): void {
    invariant(ticket === this.#persisting, `ticket ${ticket} is not what the disk is at`);
    this.#persisting = null;
  }

  /** Until nothing is to be done, or the disk is at it. */
  drive(): void {
    // A port may call back in; what that left is done by who is at it already.
    if (this.#driving || this.#stopped) return;
    this.#driving = true;
    try {
      while (!this.#stopped && this.#persisting === null) {
        if (this.#ready !== null) this.#continue(this.#ready);
        else if (this.#options.raft().hasReady()) this.#take(this.#options.raft().ready());
        else break;
      }
    } finally {
      this.#driving = false;
    }
  }

  stop(): void {
    this.#stopped = true;
  }

  #take(ready: Ready): void {
    this.#ready = ready;
    if (ready.hardState !== null) {
      this.#term = ready.hardState.term;
      this.#commitIndex = ready.hardState.commitIndex;
    }
    if (ready.snapshot !== null) this.#step = 'snapshot';
    else if (ready.entries.length > 0 || ready.hardState !== null) this.#step = 'batch';
    else this.#step = 'finish';
  }

  #continue(ready: Ready): void {
    const { snapshot, entries, hardState } = ready;
    switch (this.#step) {
      case 'snapshot':
        invariant(snapshot !== null, 'no snapshot to persist');
        this.#step = 'restore';
        this.#persisting = this.nextTicket();
        this.#options.persistSnapshot(this.#persisting, snapshot, hardState);
        return;
      case 'restore':
        invariant(snapshot !== null, 'no snapshot to restore');
        this.#step = entries.length > 0 ? 'batch' : 'finish';
        if (!this.#options.restore(snapshot)) this.stop();
        return;
      case 'batch':
        this.#step = 'finish';
        this.#persisting = this.nextTicket();
        // What came with a snapshot is durable with it.
        this.#options.persist(this.#persisting, { entries, hardState: snapshot === null ? hardState : null });
        return;
      case 'finish':
        this.#finish(ready);
        return;
    }
  }

  #finish(ready: Ready): void {
    for (const message of ready.messages) this.#options.send(message);
    for (const entry of ready.committed) {
      if (this.#stopped) return;
      if (!this.#options.apply(entry)) {
        this.stop();
        return;
      }
    }
    if (this.#stopped) return;
    this.#ready = null;
    this.#options.raft().advance();
    this.#options.finished(ready.reads);
  }
}
