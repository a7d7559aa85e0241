import { err, ok, type Result } from '../../src/base/result.js';
import type {
  AppliedEntry,
  LogSubscriber,
  OrderedLog,
  ProposeOptions,
  ReadFailure,
  StateMachine,
} from '../../src/replication/ordered-log.js';
import { raftLogLimits } from '../../src/replication/raft-log-limits.js';

/** An ordered log that keeps nothing: what it applied is all there is. */
export class MemoryLog<R> implements OrderedLog<R> {
  readonly #stateMachine: StateMachine<R>;
  readonly #subscribers = new Set<LogSubscriber<R>>();
  #waiting = 0;
  #closed = false;
  appliedIndex = 0;

  constructor(stateMachine: StateMachine<R>) {
    this.#stateMachine = stateMachine;
  }

  async propose(command: Uint8Array, _options?: ProposeOptions): ReturnType<OrderedLog<R>['propose']> {
    if (this.#closed) return err({ kind: 'closed', reason: 'the log is closed' });
    if (command.byteLength > raftLogLimits.commandBytesMax) return err({ kind: 'too-large' });
    if (this.#waiting >= raftLogLimits.proposalsMax) return err({ kind: 'overloaded' });
    const copy = Uint8Array.from(command);
    this.#waiting += 1;
    await null;
    this.#waiting -= 1;
    const index = this.appliedIndex + 1;
    const entry = { index, command: copy, result: this.#stateMachine.apply(index, copy) };
    this.#applied(entry);
    return ok(entry);
  }

  /** What an engine does at times: an entry of its own. */
  appendOwn(): void {
    const index = this.appliedIndex + 1;
    this.#stateMachine.skip(index);
    this.#applied({ index, command: new Uint8Array(0), result: null });
  }

  /** What an engine does when this member was too far behind. */
  restore(index: number, records: Iterable<Uint8Array>): void {
    this.#stateMachine.restore(index, records);
    this.appliedIndex = index;
    for (const subscriber of this.#subscribers) subscriber.onRestore?.(index);
  }

  /** What a quorum confirmed. */
  refresh(asOfMs: number): void {
    for (const subscriber of this.#subscribers) subscriber.onFresh?.(asOfMs, this.appliedIndex);
  }

  #applied(entry: AppliedEntry<R>): void {
    this.appliedIndex = entry.index;
    for (const subscriber of this.#subscribers) subscriber.onEntry(entry);
  }

  async readIndex(): Promise<Result<number, ReadFailure>> {
    return this.#closed ? err({ kind: 'closed', reason: 'the log is closed' }) : ok(this.appliedIndex);
  }

  subscribe(subscriber: LogSubscriber<R>): () => void {
    this.#subscribers.add(subscriber);
    return () => {
      this.#subscribers.delete(subscriber);
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
  }
}
