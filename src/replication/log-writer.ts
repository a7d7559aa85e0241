import { errorText } from '../base/guards.js';
import type { Result } from '../base/result.js';
import type { HardState, LogPosition } from '../raft/types.js';
import type { DurableLog } from './durable-log.js';
import type { PersistBatch } from './replication-loop.js';

/**
 * Does what the loop asks of the disk: one thing at a time in the log, a snapshot of our own beside it. After the first
 * failure nothing is written and nothing is reported as done any more.
 */
export class LogWriter {
  readonly #log: DurableLog;
  readonly #onFailure: (message: string) => void;
  /** The end of what is queued for the log. */
  #tail: Promise<void> = Promise.resolve();
  #snapshotting: Promise<void> = Promise.resolve();
  #underWay = 0;

  /** @param onFailure may be called more than once. */
  constructor(log: DurableLog, onFailure: (message: string) => void) {
    this.#log = log;
    this.#onFailure = onFailure;
  }

  persist(batch: PersistBatch, done: () => void): void {
    this.#enqueue(() => this.#log.append(batch), done);
  }

  installSnapshot(
    at: LogPosition,
    records: readonly Uint8Array[],
    hardState: HardState | null,
    done: () => void,
  ): void {
    this.#enqueue(() => this.#log.installSnapshot(at, records, hardState), done);
  }

  /** `records` are of this turn; they are read while the log goes on. */
  saveSnapshot(at: LogPosition, records: Iterable<Uint8Array>, done: () => void): void {
    const saved = this.#run(this.#log.saveSnapshot(at, records), () => {
      this.#enqueue(() => this.#log.markSnapshot(at), done);
    });
    this.#snapshotting = Promise.all([this.#snapshotting, saved]).then(() => {});
  }

  #enqueue(write: () => Promise<Result<null, string>>, done: () => void): void {
    this.#underWay += 1;
    this.#tail = this.#tail.then(async () => {
      await this.#run(write(), done);
      this.#underWay -= 1;
    });
  }

  async #run(operation: Promise<Result<null, string>>, done: () => void): Promise<void> {
    try {
      const result = await operation;
      if (result.ok) done();
      else this.#onFailure(result.error);
    } catch (thrown) {
      this.#onFailure(errorText(thrown));
    }
  }

  /** Once all is done that was asked for, and what came of it. */
  async idle(): Promise<void> {
    do {
      await this.#snapshotting;
      await this.#tail;
    } while (this.#underWay > 0);
  }
}
