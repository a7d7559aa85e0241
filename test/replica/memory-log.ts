import { ok, type Result } from '../../src/base/result.js';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import type { CommandResult } from '../../src/keystate/types.js';
import type {
  AppliedEntry,
  LogSubscriber,
  OrderedLog,
  ProposeFailure,
} from '../../src/replication/ordered-log.js';

/** An ordered log in memory with key state above it. */
export class MemoryLog implements OrderedLog<CommandResult> {
  readonly machine = new KeyStateMachine();
  readonly #subscribers = new Set<LogSubscriber<CommandResult>>();

  get appliedIndex(): number {
    return this.machine.state.appliedIndex;
  }

  snapshot(): Iterable<Uint8Array> {
    return this.machine.snapshot();
  }

  async propose(command: Uint8Array): Promise<Result<AppliedEntry<CommandResult>, ProposeFailure>> {
    const index = this.appliedIndex + 1;
    const entry = { index, command, result: this.machine.apply(index, command) };
    for (const { onEntry } of this.#subscribers) onEntry(entry);
    return ok(entry);
  }

  /** An entry of the log's own, as an engine makes them. */
  skip(): void {
    const index = this.appliedIndex + 1;
    this.machine.skip(index);
    for (const { onEntry } of this.#subscribers) onEntry({ index, command: new Uint8Array(0), result: null });
  }

  /** The state is another one, as of `index`. */
  restore(index: number, records: Iterable<Uint8Array>): void {
    this.machine.restore(index, records);
    for (const { onRestore } of this.#subscribers) onRestore?.(index);
  }

  /** A quorum has confirmed the state as of `asOfMs`. */
  confirm(asOfMs: number): void {
    for (const { onFresh } of this.#subscribers) onFresh?.(asOfMs, this.appliedIndex);
  }

  async readIndex() {
    return ok(this.appliedIndex);
  }

  subscribe(subscriber: LogSubscriber<CommandResult>): () => void {
    // Its methods are called as functions above.
    const { onEntry, onRestore, onFresh } = subscriber;
    const bound: LogSubscriber<CommandResult> = {
      onEntry: (entry) => onEntry.call(subscriber, entry),
      onRestore: (index) => onRestore?.call(subscriber, index),
      onFresh: (asOfMs, index) => onFresh?.call(subscriber, asOfMs, index),
    };
    this.#subscribers.add(bound);
    return () => this.#subscribers.delete(bound);
  }

  async close(): Promise<void> {}
}
