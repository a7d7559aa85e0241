import type { Timers } from '../../base/timers.js';
import { acceptedMsMin, reconnectMsMax, reconnectMsMin } from './limits.js';

/** How soon a stream that ended is opened again, and whether the peer listens to us at all. */
export class ReopeningPace {
  readonly #timers: Timers;
  #reopenMs = reconnectMsMin;
  #cancelReopen: (() => void) | null = null;
  #cancelSettled: (() => void) | null = null;
  #refused = false;

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  /** For the time of the next attempt. */
  get waiting(): boolean {
    return this.#cancelReopen !== null;
  }

  /** The last stream ended because the peer refused us, and none has lived long enough since to show that it listens. */
  get refused(): boolean {
    return this.#refused;
  }

  /** The peer has taken a stream as far as TLS goes; whether it listens shows with the first message. */
  accepted(): void {
    this.left();
    this.#cancelSettled = this.#timers.after(acceptedMsMin, () => {
      this.#cancelSettled = null;
      this.#reopenMs = reconnectMsMin;
      this.#refused = false;
    });
  }

  /** The stream is no longer ours to judge by. */
  left(): void {
    this.#cancelSettled?.();
    this.#cancelSettled = null;
  }

  ended(refused: boolean): void {
    this.left();
    this.#refused = refused;
  }

  later(reopen: () => void): void {
    this.stop();
    this.#cancelReopen = this.#timers.after(this.#reopenMs, () => {
      this.#cancelReopen = null;
      reopen();
    });
    this.#reopenMs = Math.min(this.#reopenMs * 2, reconnectMsMax);
  }

  /** A connection has come up: no need to wait, unless it is we who are not wanted. */
  hurry(): void {
    if (!this.#refused) this.stop();
  }

  stop(): void {
    this.#cancelReopen?.();
    this.#cancelReopen = null;
  }
}
