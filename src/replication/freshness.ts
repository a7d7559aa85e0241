/** Questions without an answer, and answers not applied yet, that are remembered. */
export const freshnessRoundsMax = 32;

export interface FreshnessOptions {
  readonly intervalMs: number;
  /** Before the next round when a round's answer was that there is none. */
  readonly refusalMs: number;
  /** Asks the consensus core; the id of the question, never used before. */
  readonly ask: () => string;
  readonly confirmed: (asOfMs: number, index: number) => void;
}

/**
 * How fresh the state here is known to be: t0 is noted, a quorum is asked for a read index, and once that is applied,
 * nothing acknowledged anywhere before t0 is missing here (replication.md, the kill switch contract). Never persisted.
 */
export class Freshness {
  readonly #options: FreshnessOptions;
  /** Question → its t0, oldest first. */
  readonly #asked = new Map<string, number>();
  /** Oldest first. */
  #confirmed: { readonly asOfMs: number; readonly index: number }[] = [];
  #nextAtMs = Number.NEGATIVE_INFINITY;
  #asOfMs: number | null = null;
  #index = 0;

  constructor(options: FreshnessOptions) {
    this.#options = options;
  }

  /** The newest t0 confirmed and applied; `null` before the first. */
  get asOfMs(): number | null {
    return this.#asOfMs;
  }

  tick(nowMs: number): void {
    if (nowMs < this.#nextAtMs) return;
    this.#nextAtMs = nowMs + this.#options.intervalMs;
    this.#asked.set(this.#options.ask(), nowMs);
    if (this.#asked.size <= freshnessRoundsMax) return;
    for (const oldest of this.#asked.keys()) {
      this.#asked.delete(oldest);
      break;
    }
  }

  answered(raftReadId: string, index: number | null, appliedIndex: number, nowMs: number): void {
    const asOfMs = this.#asked.get(raftReadId);
    if (asOfMs === undefined) return;
    this.#asked.delete(raftReadId);
    if (index === null) {
      this.#nextAtMs = Math.min(this.#nextAtMs, nowMs + this.#options.refusalMs);
      return;
    }
    if (this.#asOfMs !== null && asOfMs <= this.#asOfMs) return;
    // Where so much waits, the newest can't be the next to be applied.
    if (this.#confirmed.length >= freshnessRoundsMax) return;
    this.#confirmed.push({ asOfMs, index });
    this.applied(appliedIndex);
  }

  applied(appliedIndex: number): void {
    if (this.#confirmed.length === 0) return;
    let newest: { readonly asOfMs: number; readonly index: number } | null = null;
    for (const round of this.#confirmed) {
      if (round.index <= appliedIndex && (newest === null || round.asOfMs > newest.asOfMs)) newest = round;
    }
    if (newest === null) return;
    const { asOfMs } = newest;
    this.#confirmed = this.#confirmed.filter((round) => round.asOfMs > asOfMs);
    this.#asOfMs = asOfMs;
    // A later round may have been answered with a lesser index than an earlier one; the greater holds for both.
    this.#index = Math.max(this.#index, newest.index);
    this.#options.confirmed(asOfMs, this.#index);
  }
}
