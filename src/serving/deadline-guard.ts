import type { Clock } from '../base/clock.js';
import type { Timers } from '../base/timers.js';

interface Watched {
  readonly deadlineMs: number;
  readonly expire: () => void;
}

/**
 * Ends waiting at the deadline, should what is waited for not do so itself. One timer for all: requests come nearly in
 * the order of their deadlines, so the oldest tells when to look next.
 */
export class DeadlineGuard {
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #watched = new Set<Watched>();
  #disarm: (() => void) | null = null;

  constructor(clock: Clock, timers: Timers) {
    this.#clock = clock;
    this.#timers = timers;
  }

  /**
   * What `work` resolves with, or `null` once `deadlineMs` (monotonic) has passed. What comes later goes to `onLate`:
   * it may hold plaintext to wipe.
   */
  within<T>(work: Promise<T>, deadlineMs: number, onLate: (value: T) => void): Promise<T | null> {
    return new Promise((resolve, reject) => {
      let ended = false;
      const watched: Watched = {
        deadlineMs,
        expire: () => {
          ended = true;
          resolve(null);
        },
      };
      this.#watched.add(watched);
      this.#arm();
      work.then(
        (value) => {
          this.#forget(watched);
          if (ended) onLate(value);
          else resolve(value);
        },
        (thrown: unknown) => {
          this.#forget(watched);
          reject(thrown);
        },
      );
    });
  }

  /** While nothing waits no timer runs: none keeps a process alive. */
  #forget(watched: Watched): void {
    this.#watched.delete(watched);
    if (this.#watched.size > 0) return;
    this.#disarm?.();
    this.#disarm = null;
  }

  #arm(): void {
    if (this.#disarm !== null) return;
    for (const { deadlineMs } of this.#watched) {
      const delayMs = Math.max(0, Math.ceil(deadlineMs - this.#clock.monotonicMs()));
      this.#disarm = this.#timers.after(delayMs, () => {
        this.#disarm = null;
        this.#expire();
        this.#arm();
      });
      return;
    }
  }

  #expire(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const watched of this.#watched) {
      if (watched.deadlineMs > nowMs) return;
      this.#watched.delete(watched);
      watched.expire();
    }
  }
}
