import { err, ok } from '../../src/base/result.js';
import { logOfOneLimits } from '../../src/replication/log-of-one.js';
import type { AppliedEntry, OrderedLog, StateMachine } from '../../src/replication/ordered-log.js';

/** An ordered log that keeps nothing: what it applied is all there is. */
export class MemoryLog<R> implements OrderedLog<R> {
  readonly #stateMachine: StateMachine<R>;
  readonly #subscribers = new Set<(entry: AppliedEntry<R>) => void>();
  #waiting = 0;
  #closed = false;
  appliedIndex = 0;

  constructor(stateMachine: StateMachine<R>) {
    this.#stateMachine = stateMachine;
  }

  async propose(command: Uint8Array): ReturnType<OrderedLog<R>['propose']> {
    if (this.#closed) return err({ kind: 'closed', reason: 'the log is closed' });
    if (command.byteLength > logOfOneLimits.commandBytesMax) return err({ kind: 'too-large' });
    if (this.#waiting >= logOfOneLimits.proposalsMax) return err({ kind: 'overloaded' });
    const copy = Uint8Array.from(command);
    this.#waiting += 1;
    await null;
    this.#waiting -= 1;
    this.appliedIndex += 1;
    const result = this.#stateMachine.apply(this.appliedIndex, copy);
    const entry = { index: this.appliedIndex, command: copy, result };
    for (const onEntry of this.#subscribers) onEntry(entry);
    return ok(entry);
  }

  subscribe(onEntry: (entry: AppliedEntry<R>) => void): () => void {
    this.#subscribers.add(onEntry);
    return () => {
      this.#subscribers.delete(onEntry);
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
  }
}
