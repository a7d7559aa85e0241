import { invariant } from '../base/guards.js';
import { decodeCommand } from './command-codec.js';
import { KeyState } from './key-state.js';
import { SnapshotReader, snapshotRecords } from './snapshot-codec.js';
import { Tables } from './tables.js';
import type { CommandResult } from './types.js';

/** A replica makes a snapshot every few thousand entries, and one for each serving process. */
const tablesOptions = { keepRecords: true } as const;

/** Key state behind the ordered log: its `StateMachine<CommandResult>`, in shape. */
export class KeyStateMachine {
  #state = new KeyState(new Tables(tablesOptions));

  /** As of the last entry. A restore replaces it: don't keep it over a turn of the event loop. */
  get state(): KeyState {
    return this.#state;
  }

  /**
   * @throws Error for bytes that are no command. They were committed, and other nodes may have understood them: to
   * skip them would be to diverge, so whoever drives this must stop here.
   */
  apply(index: number, command: Uint8Array): CommandResult {
    const decoded = decodeCommand(command);
    if (!decoded.ok) throw new Error(`the command at index ${index} can't be decoded: ${decoded.error}`);
    return this.#state.apply(index, decoded.value);
  }

  skip(index: number): void {
    this.#state.skip(index);
  }

  stateHash(): string {
    return this.#state.hash();
  }

  membership(): ReturnType<KeyState['membership']> {
    return this.#state.membership();
  }

  /** The times among the settings, as the engine asks for them. */
  timing(): ReturnType<KeyState['settings']> {
    return this.#state.settings();
  }

  snapshot(): Iterable<Uint8Array> {
    return snapshotRecords(this.#state);
  }

  /** @throws Error when `records` are no snapshot as of `index`. */
  restore(index: number, records: Iterable<Uint8Array>): void {
    const restoration = this.beginRestore();
    for (const record of records) restoration.take(record);
    restoration.finish(index);
  }

  /** A snapshot taken in beside the state, which `finish` replaces. @throws Error from `finish`, as `restore` does. */
  beginRestore(): { take(record: Uint8Array): void; finish(index: number): void } {
    const reader = new SnapshotReader(tablesOptions);
    return {
      take: (record) => reader.push(record),
      finish: (index) => {
        const restored = reader.finish();
        if (!restored.ok) throw new Error(restored.error);
        const { appliedIndex } = restored.value;
        invariant(appliedIndex === index, `a snapshot as of index ${appliedIndex}, not ${index}`);
        this.#state = restored.value;
      },
    };
  }
}
