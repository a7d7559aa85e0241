/** Values below this have a bucket of their own; above, each doubling has half as many buckets. */
const exactBelow = 256;
const bucketsPerDoubling = exactBelow / 2;
const exactBits = Math.log2(exactBelow);
/** Two minutes and more count as this. */
const microsMax = 2 ** 27 - 1;
const buckets = exactBelow + (27 - exactBits) * bucketsPerDoubling;

/** The filled buckets of a histogram, as they travel between processes: bucket numbers and their counts. */
export type SparseCounts = readonly (readonly [bucket: number, count: number])[];

/**
 * Durations in whole microseconds, counted in buckets no wider than 1/128 of their value, in the manner of
 * HdrHistogram: what is read back is at most 0.8 % above what was recorded, whatever the size.
 */
export class LatencyHistogram {
  readonly #counts = new Uint32Array(buckets);
  #count = 0;
  #maxMicros = 0;

  get count(): number {
    return this.#count;
  }

  /** Exact (up to two minutes), 0 of none. */
  get maxMicros(): number {
    return this.#maxMicros;
  }

  record(micros: number): void {
    const value = Math.min(microsMax, Math.max(0, Math.round(micros)));
    const bucket = bucketOf(value);
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#count += 1;
    if (value > this.#maxMicros) this.#maxMicros = value;
  }

  add(other: LatencyHistogram): void {
    for (const [bucket, count] of other.sparse()) this.#counts[bucket] = (this.#counts[bucket] ?? 0) + count;
    this.#count += other.count;
    this.#maxMicros = Math.max(this.#maxMicros, other.maxMicros);
  }

  /**
   * The value that `fraction` (0 to 1) of all values do not exceed, in microseconds: the upper end of its bucket, and
   * the exact maximum for 1. `NaN` of none.
   */
  percentile(fraction: number): number {
    if (this.#count === 0) return Number.NaN;
    const rank = Math.max(1, Math.ceil(fraction * this.#count - 1e-9));
    let seen = 0;
    for (let bucket = 0; bucket < buckets; bucket++) {
      seen += this.#counts[bucket] ?? 0;
      if (seen >= rank) return Math.min(this.#maxMicros, upperEnd(bucket));
    }
    return this.#maxMicros;
  }

  sparse(): SparseCounts {
    return [...this.#counts].flatMap((count, bucket) => (count === 0 ? [] : [[bucket, count] as const]));
  }

  static of(counts: SparseCounts, maxMicros: number): LatencyHistogram {
    const histogram = new LatencyHistogram();
    for (const [bucket, count] of counts) {
      histogram.#counts[bucket] = count;
      histogram.#count += count;
    }
    histogram.#maxMicros = maxMicros;
    return histogram;
  }
}

function bucketOf(value: number): number {
  if (value < exactBelow) return value;
  const shift = 32 - Math.clz32(value) - exactBits;
  return exactBelow + (shift - 1) * bucketsPerDoubling + ((value >> shift) - bucketsPerDoubling);
}

function upperEnd(bucket: number): number {
  if (bucket < exactBelow) return bucket;
  const above = bucket - exactBelow;
  const shift = 1 + Math.floor(above / bucketsPerDoubling);
  return ((bucketsPerDoubling + (above % bucketsPerDoubling) + 1) << shift) - 1;
}
