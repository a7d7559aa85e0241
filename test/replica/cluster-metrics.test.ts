import t, { type Test } from 'tap';
import { ClusterMetrics } from '../../src/replica/cluster-metrics.js';
import { expose } from '../../src/replica/exposition.js';
import { MetricsAggregation } from '../../src/replica/metrics-aggregation.js';
import { ReplicaMetrics } from '../../src/replica/replica-metrics.js';
import { TransportTally } from '../../src/replication/transport/transport-counters.js';
import { makeReplica } from './replica-at-seams.js';
import { foundCluster, hear, joinMember, peerStats } from './replica-in-cluster.js';

/** `series` yields what Prometheus would get: the value of a series, `null` where it is absent. */
async function measured(t: Test) {
  const replica = await makeReplica(t);
  const { log, cluster, publication, now, diskSpace, ivWatch, ivReservations } = replica;
  const aggregation = new MetricsAggregation();
  const state = () => log.machine.state;
  const node = new ReplicaMetrics({
    state,
    publication,
    aggregation,
    engine: cluster,
    bootTimeMs: () => cluster.nowMs,
    diskSpace,
    ivWatch,
    ivReservations,
  });
  const clock = { monotonicMs: () => 0, wallMs: () => now.wallMs };
  const among = new ClusterMetrics({ cluster, state, clock, version: '0.0.0' });
  const text = async (): Promise<string> =>
    expose(aggregation.families([...(await node.json()), ...(await among.json())], []));
  const series = async (name: string): Promise<number | null> => {
    const line = (await text()).split('\n').find((each) => each.startsWith(`${name} `));
    return line === undefined ? null : Number(line.slice(name.length + 1));
  };
  return { ...replica, text, series };
}

t.test('what was never confirmed has no age: 0 would say that it is fresh', async (t) => {
  const { cluster, series, text } = await measured(t);
  const age = 'xks_key_state_freshness_age_seconds';
  cluster.loop = { freshAsOfMs: null };
  t.equal(await series(age), null);
  t.notMatch(await text(), /freshness_age/);
  cluster.loop = { freshAsOfMs: cluster.nowMs - 2_500 };
  t.equal(await series(age), 2.5);
  cluster.loop = { freshAsOfMs: null };
  t.equal(await series(age), null, 'not what it was either');
});

t.test('whether this node may serve, and whether that is for good', async (t) => {
  const { cluster, series } = await measured(t);
  t.equal(await series('xks_may_serve'), 1);
  t.equal(await series('xks_fenced'), 0);
  cluster.standingNow = { mayServe: false, reason: 'removed', fleetSize: 1, fenced: true };
  t.equal(await series('xks_may_serve'), 0);
  t.equal(await series('xks_fenced'), 1);
});

t.test(
  'the end of the cluster certificate, and still that one when the files have become unusable',
  async (t) => {
    const { cluster, series } = await measured(t);
    const name = 'xks_cluster_certificate_not_after_timestamp_seconds';
    t.equal(await series(name), null);
    cluster.notAfterMs = 86_400_000;
    t.equal(await series(name), 86_400);
    cluster.notAfterMs = null;
    t.equal(await series(name), 86_400);
  },
);

t.test('how a member drifts, by its name', async (t) => {
  const replica = await measured(t);
  const { cluster, now, series, text } = replica;
  await foundCluster(replica);
  const memberId = await joinMember(replica, 'node-2');
  const of = (what: string) => series(`xks_cluster_member_${what}{member="node-2"}`);
  t.equal(await of('heard_age_seconds'), null);
  t.equal(await of('clock_offset_seconds'), null);
  t.equal(await of('version_differs'), null);
  t.equal(await of('lost_log'), null, 'only a leader can tell');
  t.equal(await of('refuses'), 0);
  hear(replica, memberId, {});
  t.equal(await of('version_differs'), 0);
  t.equal(await of('configuration_differs'), 0);
  hear(replica, memberId, { version: '0.0.1', configHash: 'other', wallMs: now.wallMs - 9_500 });
  cluster.nowMs += 2_000;
  cluster.refusing.set(memberId, { reason: 'unknown', detail: '' });
  cluster.raft = {
    progress: [
      {
        memberId,
        learner: true,
        state: 'probe',
        matchIndex: 0,
        nextIndex: 1,
        recentlyActive: true,
        inflightMessages: 0,
        lostAcknowledged: true,
      },
    ],
  };
  t.equal(await of('heard_age_seconds'), 2);
  t.equal(await of('clock_offset_seconds'), -7.5);
  t.equal(await of('version_differs'), 1);
  t.equal(await of('configuration_differs'), 1);
  t.equal(await of('lost_log'), 1);
  t.equal(await of('refuses'), 1);
  t.equal(await series('xks_raft_peer_lag_entries{member="node-2"}'), 3);
  t.notMatch(await text(), new RegExp(memberId), 'ids change with every joining');
});

t.test('the way to the others, and what went over it', async (t) => {
  const replica = await measured(t);
  const { cluster, series, text } = replica;
  await foundCluster(replica);
  const memberId = await joinMember(replica, 'node-2');
  t.notMatch(await text(), /xks_peer/, 'a cluster of one has none');
  const tally = new TransportTally();
  tally.sent.raft = 7;
  tally.received.report = 3;
  const known = { memberId, connected: true };
  cluster.stats = peerStats([known, { memberId: 'id-unheard-of', connected: false }], tally);
  t.equal(await series('xks_peer_connected{member="node-2"}'), 1);
  t.notMatch(await text(), /id-unheard-of/);
  const sent = 'xks_peer_messages_total{direction="sent",kind="raft"}';
  t.equal(await series(sent), 7, 'however often it was asked for');
  t.equal(await series('xks_peer_messages_total{direction="received",kind="report"}'), 3);
  tally.sent.raft = 9;
  tally.dropped.raft = 1;
  cluster.stats = peerStats([{ ...known, connected: false }], tally);
  t.equal(await series('xks_peer_connected{member="node-2"}'), 0);
  t.equal(await series(sent), 9);
  t.equal(await series('xks_peer_messages_dropped_total{kind="raft"}'), 1);
  cluster.stats = null;
  t.equal(await series(sent), 9, 'a counter only grows');
});

t.test('the room left on the disk, absent while it is not known', async (t) => {
  const { diskSpace, series } = await measured(t);
  diskSpace.freeBytes = 4_096;
  t.equal(await series('xks_data_directory_free_bytes'), 4_096);
  diskSpace.freeBytes = null;
  t.equal(await series('xks_data_directory_free_bytes'), null);
});
