import { Counter, Registry } from 'prom-client';
import type { Clock } from '../base/clock.js';
import type { KeyStateQueries } from '../keystate/types.js';
import type { PeerTransportStats } from '../replication/transport/peer-transport.js';
import type { ClusterControl } from './cluster-control.js';
import { CollectedGauges, type MemberValues } from './collected-gauges.js';
import { type MemberDrift, memberDrift } from './member-drift.js';

export interface ClusterMetricsOptions {
  readonly cluster: ClusterControl;
  readonly state: () => KeyStateQueries;
  readonly clock: Clock;
  /** Of this node. */
  readonly version: string;
}

const flag = (value: boolean | null): number | null => (value === null ? null : Number(value));

/** What this node knows of the other members, and of its own standing among them. */
export class ClusterMetrics {
  readonly #options: ClusterMetricsOptions;
  readonly #registry = new Registry();
  #certificateNotAfterMs: number | null = null;

  constructor(options: ClusterMetricsOptions) {
    this.#options = options;
    const { cluster } = options;
    const gauges = new CollectedGauges(this.#registry);
    gauges.add('xks_may_serve', '1 while this node may serve by the key state it has, else 0.', () => {
      return Number(cluster.standing().mayServe);
    });
    gauges.add(
      'xks_fenced',
      '1 when this node has stopped serving for good, having been told to or its state being in doubt, else 0.',
      () => Number(cluster.standing().fenced),
    );
    gauges.add(
      'xks_cluster_certificate_not_after_timestamp_seconds',
      "When this node's certificate for the other members ends to be valid; absent without one.",
      () => this.#notAfterSeconds(),
    );
    this.#addDrift(gauges);
    gauges.addPerMember(
      'xks_peer_connected',
      '1 while a member is connected and does not refuse this node, else 0.',
      () => {
        return this.#connections();
      },
    );
    this.#addMessages();
  }

  /** As `MetricsAggregation.families` takes them. */
  async json(): Promise<readonly unknown[]> {
    return this.#registry.getMetricsAsJSON();
  }

  #notAfterSeconds(): number | null {
    // Files that have become unusable, having ended for one, must not take away what would tell of it.
    this.#certificateNotAfterMs =
      this.#options.cluster.certificateNotAfterMs() ?? this.#certificateNotAfterMs;
    return this.#certificateNotAfterMs === null ? null : this.#certificateNotAfterMs / 1_000;
  }

  #addDrift(gauges: CollectedGauges): void {
    const add = (name: string, help: string, value: (drift: MemberDrift) => number | null): void => {
      gauges.addPerMember(name, help, () => this.#drifts(value));
    };
    add(
      'xks_cluster_member_heard_age_seconds',
      'Since the last report of a member; absent before its first since this replica started.',
      ({ heardMsAgo }) => (heardMsAgo === null ? null : heardMsAgo / 1_000),
    );
    add(
      'xks_cluster_member_clock_offset_seconds',
      "A member's wall clock less this node's.",
      ({ clockOffsetMs }) => (clockOffsetMs === null ? null : clockOffsetMs / 1_000),
    );
    add(
      'xks_cluster_member_version_differs',
      '1 while a member runs another version than this node, else 0.',
      ({ versionDiffers }) => flag(versionDiffers),
    );
    add(
      'xks_cluster_member_configuration_differs',
      '1 while a member is configured otherwise in what should be the same on all nodes, else 0.',
      ({ configurationDiffers }) => flag(configurationDiffers),
    );
    add(
      'xks_cluster_member_lost_log',
      "1 when a member's log ends before what it once acknowledged, else 0; absent unless this node leads.",
      ({ lostLog }) => flag(lostLog),
    );
    add(
      'xks_cluster_member_refuses',
      '1 while a member does not listen to this node, else 0.',
      ({ refuses }) => flag(refuses),
    );
  }

  *#drifts(value: (drift: MemberDrift) => number | null): MemberValues {
    const { cluster, clock, state, version } = this.#options;
    for (const member of state().members()) {
      if (member.status === 'invited' || member.memberId === cluster.memberId) continue;
      yield [member.name, value(memberDrift({ cluster, clock, node: { version } }, member))];
    }
  }

  *#connections(): MemberValues {
    const { cluster, state } = this.#options;
    for (const { memberId, connected } of cluster.peerStats()?.peers ?? []) {
      // One that is joining knows whom to connect to before key state has their names.
      const member = state().member(memberId);
      if (member !== null) yield [member.name, Number(connected)];
    }
  }

  #addMessages(): void {
    const { cluster } = this.#options;
    const registers = [this.#registry];
    const grown = new Growth();
    const count = (key: string, total: Readonly<Record<string, number>>, add: Addition): void => {
      for (const [kind, value] of Object.entries(total)) add(kind, grown.by(`${key} ${kind}`, value));
    };
    const stats = (use: (now: PeerTransportStats) => void): void => {
      const now = cluster.peerStats();
      if (now !== null) use(now);
    };
    new Counter({
      name: 'xks_peer_messages_total',
      help: 'Messages sent to and received from other members, by kind.',
      labelNames: ['direction', 'kind'] as const,
      registers,
      collect() {
        stats(({ sent, received }) => {
          count('sent', sent, (kind, more) => this.inc({ direction: 'sent', kind }, more));
          count('received', received, (kind, more) => this.inc({ direction: 'received', kind }, more));
        });
      },
    });
    new Counter({
      name: 'xks_peer_messages_dropped_total',
      help: 'Messages to other members that were not sent: no connection, or no room in the queue.',
      labelNames: ['kind'] as const,
      registers,
      collect() {
        stats(({ dropped }) => count('dropped', dropped, (kind, more) => this.inc({ kind }, more)));
      },
    });
  }
}

type Addition = (kind: string, more: number) => void;

/** By how much totals have grown since they were last asked for. */
class Growth {
  readonly #last = new Map<string, number>();

  by(key: string, total: number): number {
    const more = Math.max(0, total - (this.#last.get(key) ?? 0));
    this.#last.set(key, total);
    return more;
  }
}
