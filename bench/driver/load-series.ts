import { LatencyHistogram } from './latency-histogram.js';

/** One stretch of a run. Latencies in microseconds, `null` where nothing was answered. */
export interface SeriesPoint {
  readonly atSeconds: number;
  readonly answeredPerSecond: number;
  readonly failedPerSecond: number;
  readonly p50Micros: number | null;
  readonly p99Micros: number | null;
  readonly maxMicros: number | null;
}

const pointsMax = 120;

/** Throughput and latency over the time of a run, in at most 120 stretches of a second or more. */
export class LoadSeries {
  readonly #stretchMs: number;
  readonly #stretches: { readonly latencies: LatencyHistogram; failed: number }[];

  constructor(seconds: number) {
    const count = Math.max(1, Math.min(pointsMax, Math.floor(seconds)));
    this.#stretchMs = (seconds * 1_000) / count;
    this.#stretches = Array.from({ length: count }, () => ({ latencies: new LatencyHistogram(), failed: 0 }));
  }

  /** `elapsedMs`: since the start of the run, when the request was due. */
  answered(elapsedMs: number, micros: number): void {
    this.#stretch(elapsedMs)?.latencies.record(micros);
  }

  failed(elapsedMs: number): void {
    const stretch = this.#stretch(elapsedMs);
    if (stretch !== undefined) stretch.failed += 1;
  }

  points(): readonly SeriesPoint[] {
    const perSecond = (count: number): number => (count * 1_000) / this.#stretchMs;
    return this.#stretches.map(({ latencies, failed }, index) => {
      const at = (fraction: number): number | null =>
        latencies.count === 0 ? null : latencies.percentile(fraction);
      return {
        atSeconds: (index * this.#stretchMs) / 1_000,
        answeredPerSecond: perSecond(latencies.count),
        failedPerSecond: perSecond(failed),
        p50Micros: at(0.5),
        p99Micros: at(0.99),
        maxMicros: at(1),
      };
    });
  }

  #stretch(elapsedMs: number) {
    const index = Math.floor(Math.max(0, elapsedMs) / this.#stretchMs);
    return this.#stretches[Math.min(index, this.#stretches.length - 1)];
  }
}
