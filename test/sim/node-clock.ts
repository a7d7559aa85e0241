interface Segment {
  readonly trueMs: number;
  readonly localMs: number;
  readonly rate: number;
  /** Of all jumps so far. */
  readonly jumpedMs: number;
}

/**
 * A node's boot clock: it runs up to 5% fast or slow, jumps forward (a suspended machine) and never goes back. What it
 * showed can be told in true time afterwards, which no node could.
 */
export class NodeClock {
  /** Oldest first; each from its `trueMs` on. */
  readonly #segments: Segment[];

  constructor(trueMs: number, localMs: number, rate: number) {
    this.#segments = [{ trueMs, localMs, rate, jumpedMs: 0 }];
  }

  #last(): Segment {
    const last = this.#segments.at(-1);
    if (last === undefined) throw new Error('a clock has a segment');
    return last;
  }

  get rate(): number {
    return this.#last().rate;
  }

  localMs(trueMs: number): number {
    const { trueMs: startMs, localMs, rate } = this.#last();
    return localMs + (trueMs - startMs) * rate;
  }

  /** As a clock shows it that stands still while the machine is suspended. */
  monotonicMs(trueMs: number): number {
    return this.localMs(trueMs) - this.#last().jumpedMs;
  }

  /** How much it has gone on between a moment in the past and now. */
  elapsedMs(sinceTrueMs: number, nowMs: number): number {
    let place = this.#segments.length - 1;
    while (place > 0 && (this.#segments[place]?.trueMs ?? 0) > sinceTrueMs) place -= 1;
    const { trueMs, localMs, rate } = this.#segments[place] ?? this.#last();
    return this.localMs(nowMs) - (localMs + (sinceTrueMs - trueMs) * rate);
  }

  change(trueMs: number, rate: number, jumpMs: number): void {
    const jumpedMs = this.#last().jumpedMs + jumpMs;
    this.#segments.push({ trueMs, localMs: this.localMs(trueMs) + jumpMs, rate, jumpedMs });
  }

  /** The machine is suspended for so long, and this clock goes on. */
  suspend(trueMs: number, lengthMs: number): void {
    const { rate, jumpedMs } = this.#last();
    const localMs = this.localMs(trueMs);
    this.#segments.push({ trueMs, localMs, rate, jumpedMs: jumpedMs + lengthMs * rate });
  }

  /** The latest moment at which the clock showed no more than `localMs`. */
  trueMs(localMs: number): number {
    for (let place = this.#segments.length - 1; place >= 0; place -= 1) {
      const segment = this.#segments[place];
      if (segment === undefined || segment.localMs > localMs) continue;
      const next = this.#segments[place + 1];
      const moment = segment.trueMs + (localMs - segment.localMs) / segment.rate;
      return next === undefined ? moment : Math.min(moment, next.trueMs);
    }
    return this.#segments[0]?.trueMs ?? 0;
  }
}
