import { Gauge, Histogram, Registry } from 'prom-client';
import type { KeyStateQueries } from '../keystate/types.js';
import type { ClusterEngine } from '../replication/cluster-engine.js';
import { CollectedGauges } from './collected-gauges.js';
import type { IvReservations } from './iv-reservations.js';
import type { IvWatch } from './iv-watch.js';
import type { MetricsAggregation } from './metrics-aggregation.js';
import type { StatePublication } from './state-publication.js';

export interface ReplicaMetricsOptions {
  readonly engine: Pick<ClusterEngine, 'status' | 'memberId'>;
  /** Boot clock, ms. */
  readonly bootTimeMs: () => number;
  readonly state: () => KeyStateQueries;
  readonly publication: StatePublication;
  readonly aggregation: MetricsAggregation;
  readonly diskSpace: { readonly freeBytes: number | null };
  readonly ivWatch: Pick<IvWatch, 'highest' | 'spent'>;
  readonly ivReservations: Pick<IvReservations, 'unreserved'>;
}

/** What the replica knows of this node. */
export class ReplicaMetrics {
  readonly #registry = new Registry();
  readonly #logSync: Histogram;

  constructor(options: ReplicaMetricsOptions) {
    const { state, publication, aggregation, engine, bootTimeMs, diskSpace } = options;
    const { ivWatch, ivReservations } = options;
    const registers = [this.#registry];
    const gauges = new CollectedGauges(this.#registry);
    const gauge = gauges.add.bind(gauges);
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
    const raft = () => engine.status().raft;
    gauge('xks_raft_term', 'Current term.', () => raft().term);
    gauge('xks_raft_is_leader', '1 while this node leads the cluster, else 0.', () => {
      return raft().role === 'leader' ? 1 : 0;
    });
    gauge('xks_raft_has_leader', '1 while this node knows who leads the cluster, else 0.', () => {
      return raft().leader === null ? 0 : 1;
    });
    gauge('xks_raft_commit_index', 'Index up to which entries are known to be committed.', () => {
      return raft().commitIndex;
    });
    gauge('xks_raft_applied_index', 'Index of the last entry applied.', () => raft().appliedIndex);
    gauge('xks_raft_last_index', 'Index of the last entry in the log.', () => raft().lastIndex);
    gauge('xks_raft_snapshot_index', 'Index of the newest snapshot; 0 before the first.', () => {
      return engine.status().snapshotIndex;
    });
    gauge(
      'xks_raft_halted',
      '1 when replication has stopped on this node for good, else 0: look at its status.',
      () => (engine.status().halted === null ? 0 : 1),
    );
    gauge('xks_cluster_members', 'Members of the cluster that have joined.', () => {
      const { voters, learners } = raft().membership;
      return voters.length + learners.length;
    });
    gauge('xks_cluster_divergent_members', 'Members whose state hash differs from ours.', () => {
      return engine.status().divergent.length;
    });
    gauge(
      'xks_key_state_freshness_age_seconds',
      'Since a quorum last confirmed that this node knew everything; absent before the first time.',
      () => {
        const { freshAsOfMs } = engine.status();
        return freshAsOfMs === null ? null : (bootTimeMs() - freshAsOfMs) / 1_000;
      },
    );
    gauges.addPerMember(
      'xks_raft_peer_lag_entries',
      'Entries that a member lacks, as the leader sees it; absent on other nodes.',
      () => {
        const { progress, lastIndex } = raft();
        return progress.flatMap(({ memberId, matchIndex }) => {
          const member = memberId === engine.memberId ? null : state().member(memberId);
          return member === null ? [] : [[member.name, lastIndex - matchIndex] as const];
        });
      },
    );
    gauge(
      'xks_data_directory_free_bytes',
      'What may still be written to the disk of the data directory; absent while it is not known.',
      () => diskSpace.freeBytes,
    );
    gauges.addPer(
      'key_store',
      'xks_iv_budget_used_ratio',
      'Part of its random IVs that is counted for the key version of a key store of which most is.',
      () => ivWatch.highest,
    );
    gauges.addPer(
      'level',
      'xks_iv_budget_key_versions',
      'Key versions with half (warning), nine tenths (critical), all (exhausted) of their random IVs counted.',
      () =>
        (['warning', 'critical', 'exhausted'] as const).map((level) => {
          return [level, ivWatch.spent.filter((key) => key.level === level).length] as const;
        }),
    );
    gauge(
      'xks_iv_unreserved_encryptions',
      'Encryptions with random IVs on this node that are not counted in key state yet.',
      () => ivReservations.unreserved(),
    );
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
