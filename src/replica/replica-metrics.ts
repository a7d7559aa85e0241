import { Gauge, Histogram, Registry } from 'prom-client';
import type { KeyStateQueries } from '../keystate/types.js';
import type { MetricsAggregation } from './metrics-aggregation.js';
import type { StatePublication } from './state-publication.js';

export interface ReplicaMetricsOptions {
  readonly state: () => KeyStateQueries;
  readonly publication: StatePublication;
  readonly aggregation: MetricsAggregation;
}

/** What the replica knows of this node. */
export class ReplicaMetrics {
  readonly #registry = new Registry();
  readonly #logSync: Histogram;

  constructor({ state, publication, aggregation }: ReplicaMetricsOptions) {
    const registers = [this.#registry];
    const gauge = (name: string, help: string, value: () => number): void => {
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(value());
        },
      });
    };
    gauge('xks_key_state_applied_index', 'Index of the last key state change applied by the replica.', () => {
      return state().appliedIndex;
    });
    gauge('xks_serving_processes_connected', 'Serving processes linked to the replica.', () => {
      return publication.links().length;
    });
    gauge(
      'xks_serving_applied_index_min',
      'Lowest key state index that a linked serving process has applied.',
      () => {
        const indexes = publication.links().map(({ appliedIndex }) => appliedIndex);
        return indexes.length === 0 ? 0 : Math.min(...indexes);
      },
    );
    gauge('xks_key_stores', 'Key stores in key state.', () => state().counts().keyStores);
    gauge('xks_keys', 'Keys in key state.', () => state().counts().keys);
    gauge('xks_metric_series_left_out', 'Reports of series left out because there were too many.', () => {
      return aggregation.leftOut;
    });
    new Gauge({
      name: 'xks_credential_created_timestamp_seconds',
      help: 'When each live credential was created, in seconds since the epoch.',
      labelNames: ['key_store', 'access_key_id'],
      registers,
      collect() {
        this.reset();
        for (const { name } of state().keyStores()) {
          for (const { accessKeyId, createdAtMs } of state().credentials(name)) {
            this.set({ key_store: name, access_key_id: accessKeyId }, createdAtMs / 1_000);
          }
        }
      },
    });
    this.#logSync = new Histogram({
      name: 'xks_log_sync_duration_seconds',
      help: 'Time to make entries of the durable log durable (fdatasync).',
      buckets: [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
      registers,
    });
  }

  observeLogSync(durationMs: number): void {
    this.#logSync.observe(durationMs / 1_000);
  }

  /** As `MetricsAggregation.families` takes them. */
  async json(): Promise<readonly unknown[]> {
    return this.#registry.getMetricsAsJSON();
  }
}
