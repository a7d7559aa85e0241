import type { Ready } from '../raft/types.js';
import { Freshness, type FreshnessOptions } from './freshness.js';
import { PendingReads, type PendingReadsOptions } from './pending-reads.js';
import type { Timing } from './timing.js';

export interface ConfirmedReadsOptions extends Pick<PendingReadsOptions, 'ask' | 'settle'> {
  /** Changes over time. */
  readonly timing: Timing;
  readonly fresh: FreshnessOptions['confirmed'];
  /** False: the state here is not to be trusted; it is not fresh then, however much of the log it has. */
  readonly isTrusted: () => boolean;
  /** Of the last entry applied. */
  readonly appliedIndex: () => number;
}

/** What a quorum is asked to confirm: reads that somebody waits for, and how fresh the state here is. */
export class ConfirmedReads {
  readonly #options: ConfirmedReadsOptions;
  readonly #pending: PendingReads;
  readonly #freshness: Freshness;

  constructor(options: ConfirmedReadsOptions) {
    this.#options = options;
    const { timing, ask, settle, fresh } = options;
    this.#pending = new PendingReads({
      get silenceTicks() {
        return timing.electionTicks;
      },
      get refusalTicks() {
        return timing.heartbeatTicks;
      },
      ask,
      settle,
    });
    this.#freshness = new Freshness({
      get intervalMs() {
        return timing.freshnessIntervalMs;
      },
      get refusalMs() {
        return timing.tickMs * timing.heartbeatTicks;
      },
      ask,
      confirmed: fresh,
    });
  }

  /** The newest freshness confirmed and applied; `null` before the first. */
  get freshAsOfMs(): number | null {
    return this.#freshness.asOfMs;
  }

  add(readId: string, deadlineMs: number): void {
    this.#pending.add(readId, deadlineMs);
  }

  tick(nowMs: number): void {
    this.#pending.tick(nowMs);
    if (this.#options.isTrusted()) this.#freshness.tick(nowMs);
  }

  /** After what came with them is applied. */
  answered(reads: Ready['reads'], nowMs: number): void {
    const { isTrusted, appliedIndex } = this.#options;
    const applied = appliedIndex();
    this.#pending.applied(applied);
    if (isTrusted()) this.#freshness.applied(applied);
    for (const { readId, index } of reads) {
      this.#pending.answered(readId, index, applied);
      if (isTrusted()) this.#freshness.answered(readId, index, applied, nowMs);
    }
  }

  close(): void {
    this.#pending.close();
  }
}
