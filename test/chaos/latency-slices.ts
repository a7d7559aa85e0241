/** Wide enough that a line for each can be read, narrow enough to tell a start of a process from what follows it. */
export const sliceMs = 50;
/** What KMS waits for an answer. */
export const lateAfterMs = 250;

/** The requests that were sent within one slice of time. */
export interface LatencySlice {
  /** Its start: wall clock, a whole multiple of `sliceMs`. */
  readonly atMs: number;
  readonly answered: number;
  /** Answered later than `lateAfterMs`. */
  readonly late: number;
  readonly worstMs: number;
  /** The longest that the process which sends them was kept from its turn: what it measures is not less than that. */
  readonly senderStallMs: number;
}

/** Collects the latencies of answers by when their requests were sent. */
export class LatencySlices {
  readonly #open = new Map<
    number,
    { answered: number; late: number; worstMs: number; senderStallMs: number }
  >();

  answered(sentMs: number, endedMs: number): void {
    const slice = this.#at(sentMs);
    const tookMs = endedMs - sentMs;
    slice.answered += 1;
    if (tookMs > lateAfterMs) slice.late += 1;
    slice.worstMs = Math.max(slice.worstMs, tookMs);
  }

  /** The process was to have its turn at `dueMs`. */
  stalled(dueMs: number, stallMs: number): void {
    const slice = this.#at(dueMs);
    slice.senderStallMs = Math.max(slice.senderStallMs, stallMs);
  }

  /** Takes out those that began before `beforeMs`. A late answer may open one of them again: they are to be added up. */
  take(beforeMs: number): readonly LatencySlice[] {
    const taken: LatencySlice[] = [];
    for (const [atMs, slice] of this.#open) {
      if (atMs >= beforeMs) continue;
      taken.push({ atMs, ...slice });
      this.#open.delete(atMs);
    }
    return taken;
  }

  #at(ms: number): { answered: number; late: number; worstMs: number; senderStallMs: number } {
    const atMs = Math.floor(ms / sliceMs) * sliceMs;
    let slice = this.#open.get(atMs);
    if (slice === undefined) {
      slice = { answered: 0, late: 0, worstMs: 0, senderStallMs: 0 };
      this.#open.set(atMs, slice);
    }
    return slice;
  }
}
