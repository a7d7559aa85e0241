const samples = 128;
/** Sorting for each sample would cost more than the call. */
const samplesPerUpdate = 32;

/** The 95th percentile of what a token took lately, over its last 128 answers. */
export class RecentLatency {
  readonly #recent = new Float64Array(samples);
  #count = 0;
  #p95Ms: number | null = null;

  /** `null` before the first 32. */
  get p95Ms(): number | null {
    return this.#p95Ms;
  }

  took(ms: number): void {
    this.#recent[this.#count % samples] = ms;
    this.#count += 1;
    if (this.#count % samplesPerUpdate !== 0) return;
    const sorted = this.#recent.slice(0, Math.min(samples, this.#count)).sort();
    this.#p95Ms = sorted[Math.ceil(0.95 * sorted.length) - 1] ?? null;
  }
}
