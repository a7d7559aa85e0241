import { type Arrival, ArrivalList } from '../base/arrival-list.js';
import type { Clock } from '../base/clock.js';
import type { Timers } from '../base/timers.js';

interface Watched extends Arrival<Watched> {
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
  readonly #watched = new ArrivalList<Watched>();
  #armed = false;

  constructor(clock: Clock, timers: Timers) {
    this.#clock = clock;
    this.#timers = timers;
  }

  /**
   * What `work` resolves with, or what `expired` gives once `deadlineMs` (monotonic) has passed. `onEnd` gets what `work`
   * resolved with as soon as it does: `late` when nobody waits for it any more, and it may hold plaintext to wipe.
   */
  within<T>(
    work: Promise<T>,
    deadlineMs: number,
    expired: () => T,
    onEnd: (value: T, late: boolean) => void,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      let late = false;
      const watched: Watched = {
        deadlineMs,
        expire: () => {
          late = true;
          resolve(expired());
        },
        before: null,
        after: null,
      };
      this.#watched.add(watched);
      this.#arm();
      work.then(
        (value) => {
          if (!late) this.#watched.remove(watched);
          onEnd(value, late);
          resolve(value);
        },
        (thrown: unknown) => {
          if (!late) this.#watched.remove(watched);
          reject(thrown);
        },
      );
    });
  }

  /**
   * A timer that is left with nothing to wait for is left to run out, at most a deadline later: where requests come one
   * at a time, each would take down one timer and put up another.
   */
  #arm(): void {
    const oldest = this.#watched.first;
    if (this.#armed || oldest === null) return;
    const delayMs = Math.max(0, Math.ceil(oldest.deadlineMs - this.#clock.monotonicMs()));
    this.#armed = true;
    this.#timers.after(delayMs, () => {
      this.#armed = false;
      this.#expire();
      this.#arm();
    });
  }

  #expire(): void {
    const nowMs = this.#clock.monotonicMs();
    for (let oldest = this.#watched.first; oldest !== null; oldest = this.#watched.first) {
      if (oldest.deadlineMs > nowMs) return;
      this.#watched.remove(oldest);
      oldest.expire();
    }
  }
}
