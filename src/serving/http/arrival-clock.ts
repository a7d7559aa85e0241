import type { Clock } from '../../base/clock.js';
import type { Timers } from '../../base/timers.js';

/** How finely waiting is seen: less than two of these go unnoticed. */
const tickMs = 10;

/**
 * When what is being read now had arrived. While the event loop is busy requests wait unseen, and that time is part of
 * their deadline (X-T5). A tick that is overdue tells: whatever is read before it comes was there in the turn in which
 * it should have come. And what is read in the turn after a late tick waited for the one before to end: from when is
 * not known, so all of it counts.
 */
export class ArrivalClock {
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #afterReading: (run: () => void) => void;
  #tickDueMs = Number.POSITIVE_INFINITY;
  #busySinceMs = Number.POSITIVE_INFINITY;
  #cancel: () => void = () => {};

  /** `afterReading`: calls once all that can be read now has been read, `setImmediate`. */
  constructor(clock: Clock, timers: Timers, afterReading: (run: () => void) => void) {
    this.#clock = clock;
    this.#timers = timers;
    this.#afterReading = afterReading;
  }

  start(): void {
    this.#tickDueMs = this.#clock.monotonicMs() + tickMs;
    this.#cancel = this.#timers.after(tickMs, () => this.#tick());
  }

  stop(): void {
    this.#cancel();
    this.#tickDueMs = Number.POSITIVE_INFINITY;
  }

  /** Monotonic milliseconds, not later than now. */
  arrivedAtMs(): number {
    return Math.min(this.#clock.monotonicMs(), this.#tickDueMs, this.#busySinceMs);
  }

  #tick(): void {
    const dueMs = this.#tickDueMs;
    if (this.#clock.monotonicMs() - dueMs >= tickMs) {
      this.#busySinceMs = dueMs;
      this.#afterReading(() => {
        this.#busySinceMs = Number.POSITIVE_INFINITY;
      });
    }
    this.start();
  }
}
