import { invariant } from '../base/guards.js';
import type { LogPosition } from '../raft/types.js';

/** When the next snapshot of our own state is due. One at a time. */
export class SnapshotSchedule {
  readonly #entriesMax: number;
  readonly #bytesMax: number;
  #entries = 0;
  #bytes = 0;
  #saving: { readonly ticket: number; readonly at: LogPosition } | null = null;
  /** Of the newest durable snapshot. */
  #index: number;

  constructor(entriesMax: number, bytesMax: number, snapshotIndex: number) {
    this.#entriesMax = entriesMax;
    this.#bytesMax = bytesMax;
    this.#index = snapshotIndex;
  }

  get index(): number {
    return this.#index;
  }

  get due(): boolean {
    return this.#saving === null && (this.#entries >= this.#entriesMax || this.#bytes >= this.#bytesMax);
  }

  applied(bytes: number): void {
    this.#entries += 1;
    this.#bytes += bytes;
  }

  begin(ticket: number, at: LogPosition): void {
    this.#saving = { ticket, at };
    this.#entries = 0;
    this.#bytes = 0;
  }

  /** It is durable: its position, or `null` when a newer one came from another member meanwhile. */
  saved(ticket: number): LogPosition | null {
    const saving = this.#saving;
    invariant(saving !== null && saving.ticket === ticket, `no snapshot has the ticket ${ticket}`);
    this.#saving = null;
    if (saving.at.index <= this.#index) return null;
    this.#index = saving.at.index;
    return saving.at;
  }

  /** A snapshot from another member is durable here. */
  restored(index: number): void {
    this.#entries = 0;
    this.#bytes = 0;
    this.#index = index;
  }
}
