import { DurationCounts } from './counted-histogram.js';
import type { RequestObservation } from './metrics.js';

interface OutcomeLabels {
  readonly operation: string;
  readonly key_store: string;
  readonly exception: string;
  readonly error_type: string;
}

interface OutcomeCount {
  readonly labels: OutcomeLabels;
  /** Since they were last taken. */
  count: number;
}

/** Requests of one operation on one key store. */
interface Series {
  readonly durations: DurationCounts;
  /** As many as there are exceptions, at most. */
  readonly outcomes: OutcomeCount[];
}

/**
 * Counts requests between two collections without making a label set for each. As many series as operations times key
 * stores, which is what the metrics have too.
 */
export class RequestSeries {
  readonly #boundsSeconds: readonly number[];
  readonly #byOperation = new Map<string, Map<string, Series>>();

  /** @param boundsSeconds of durations, ascending. */
  constructor(boundsSeconds: readonly number[]) {
    this.#boundsSeconds = boundsSeconds;
  }

  observe({ operation, keyStore, exception, errorType, durationSeconds }: RequestObservation): void {
    const series = this.#byOperation.get(operation)?.get(keyStore) ?? this.#begin(operation, keyStore);
    series.durations.observe(durationSeconds);
    for (const outcome of series.outcomes) {
      if (outcome.labels.exception === exception && outcome.labels.error_type === errorType) {
        outcome.count++;
        return;
      }
    }
    const labels = { operation, key_store: keyStore, exception, error_type: errorType };
    series.outcomes.push({ labels, count: 1 });
  }

  /** Hands over what was counted since the last time. */
  takeCounts(take: (labels: OutcomeLabels, count: number) => void): void {
    for (const { outcomes } of this.#all()) {
      for (const outcome of outcomes) {
        if (outcome.count > 0) take(outcome.labels, outcome.count);
        outcome.count = 0;
      }
    }
  }

  *durations(): Iterable<DurationCounts> {
    for (const { durations } of this.#all()) yield durations;
  }

  *#all(): Iterable<Series> {
    for (const byKeyStore of this.#byOperation.values()) yield* byKeyStore.values();
  }

  #begin(operation: string, keyStore: string): Series {
    const byKeyStore = this.#byOperation.get(operation) ?? new Map<string, Series>();
    this.#byOperation.set(operation, byKeyStore);
    const durations = new DurationCounts({ operation, key_store: keyStore }, this.#boundsSeconds);
    const series: Series = { durations, outcomes: [] };
    byKeyStore.set(keyStore, series);
    return series;
  }
}
