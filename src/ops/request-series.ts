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
  readonly observeDuration: (seconds: number) => void;
  /** As many as there are exceptions, at most. */
  readonly outcomes: OutcomeCount[];
}

/**
 * Counts requests between two collections without making a label set for each. As many series as operations times key
 * stores, which is what the metrics have too.
 */
export class RequestSeries {
  readonly #durationOf: (labels: { operation: string; key_store: string }) => (seconds: number) => void;
  readonly #byOperation = new Map<string, Map<string, Series>>();

  /** @param durationOf the observer of a series' durations; asked once for each. */
  constructor(durationOf: (labels: { operation: string; key_store: string }) => (seconds: number) => void) {
    this.#durationOf = durationOf;
  }

  observe(observation: RequestObservation): void {
    const { operation, keyStore, exception, errorType } = observation;
    const series = this.#byOperation.get(operation)?.get(keyStore) ?? this.#begin(operation, keyStore);
    series.observeDuration(observation.durationSeconds);
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
    for (const byKeyStore of this.#byOperation.values()) {
      for (const { outcomes } of byKeyStore.values()) {
        for (const outcome of outcomes) {
          if (outcome.count > 0) take(outcome.labels, outcome.count);
          outcome.count = 0;
        }
      }
    }
  }

  #begin(operation: string, keyStore: string): Series {
    const byKeyStore = this.#byOperation.get(operation) ?? new Map<string, Series>();
    this.#byOperation.set(operation, byKeyStore);
    const observeDuration = this.#durationOf({ operation, key_store: keyStore });
    const series = { observeDuration, outcomes: [] };
    byKeyStore.set(keyStore, series);
    return series;
  }
}
