import { ok } from '../../src/base/result.js';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import type { CommandResult } from '../../src/keystate/types.js';
import type { AppliedEntry, OrderedLog } from '../../src/replication/ordered-log.js';

/** An ordered log in memory with key state above it. */
export class MemoryLog implements OrderedLog<CommandResult> {
  readonly machine = new KeyStateMachine();
  readonly #subscribers = new Set<(entry: AppliedEntry<CommandResult>) => void>();

  get appliedIndex(): number {
    return this.machine.state.appliedIndex;
  }

  snapshot(): Iterable<Uint8Array> {
    return this.machine.snapshot();
  }

  async propose(command: Uint8Array) {
    const index = this.appliedIndex + 1;
    const entry = { index, command, result: this.machine.apply(index, command) };
    for (const onEntry of this.#subscribers) onEntry(entry);
    return ok(entry);
  }

  subscribe(onEntry: (entry: AppliedEntry<CommandResult>) => void): () => void {
    this.#subscribers.add(onEntry);
    return () => this.#subscribers.delete(onEntry);
  }

  async close(): Promise<void> {}
}
