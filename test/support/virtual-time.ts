import type { Clock } from '../../src/base/clock.js';
import type { Timers } from '../../src/base/timers.js';

/** A clock and timers that move only when a test says so. */
export class VirtualTime implements Clock, Timers {
  #nowMs = 0;
  readonly #wallOffsetMs: number;
  #timers: { readonly atMs: number; readonly run: () => void }[] = [];
  #onArmed: () => void = () => {};

  /** @param wallMs what `wallMs()` says at the start. */
  constructor(wallMs: number = Date.UTC(2026, 0, 15, 12)) {
    this.#wallOffsetMs = wallMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#wallOffsetMs + this.#nowMs;
  }

  after(delayMs: number, run: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, run };
    this.#timers.push(timer);
    this.#onArmed();
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Timers that wait. */
  get pending(): number {
    return this.#timers.length;
  }

  advance(ms: number): void {
    const endMs = this.#nowMs + ms;
    for (;;) {
      const due = this.#timers.filter(({ atMs }) => atMs <= endMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== due);
      this.#nowMs = Math.max(this.#nowMs, due.atMs);
      due.run();
    }
    // A timer may have moved time on itself.
    this.#nowMs = Math.max(this.#nowMs, endMs);
  }

  /** Moves on to the next timer and rings it; waits for one when there is none. */
  async ringNext(): Promise<void> {
    if (this.#timers.length === 0) {
      await new Promise<void>((resolve) => {
        this.#onArmed = resolve;
      });
    }
    const nextMs = Math.min(...this.#timers.map(({ atMs }) => atMs));
    this.advance(Math.max(0, nextMs - this.#nowMs));
  }
}
