import t from 'tap';
import { type LoopCluster, loopCluster } from '../../support/loop-cluster.js';
import { setCommand, timingCommand } from '../../support/loop-machine.js';
import { type LoopNode, loopLimits } from '../../support/loop-node.js';

/** A tick of the cluster's clock is `loopLimits.tickMs` long whatever they say: it is not theirs to move. */
const other = { tickMs: 50, electionTicks: 30, heartbeatTicks: 5, freshnessIntervalMs: 1_500 } as const;

const timesOf = ({ loop }: LoopNode): object => {
  const { tickMs, electionTicks, heartbeatTicks, freshnessIntervalMs } = loop.timing;
  return { tickMs, electionTicks, heartbeatTicks, freshnessIntervalMs };
};

const { tickMs, electionTicks, heartbeatTicks, freshnessIntervalMs } = loopLimits;
const unlessSaid = { tickMs, electionTicks, heartbeatTicks, freshnessIntervalMs };

/** Ticks until `done`. */
function ticksUntil(cluster: LoopCluster, done: () => boolean): number {
  const { nowMs } = cluster;
  cluster.until(done, 'done');
  return (cluster.nowMs - nowMs) / tickMs;
}

function heartbeatsIn(cluster: LoopCluster, from: LoopNode, ticks: number): number {
  let heartbeats = 0;
  const { network } = cluster;
  cluster.network = (envelope) => {
    const { message } = envelope;
    if (envelope.from === from.memberId && envelope.to === 'b' && message.kind === 'raft') {
      // Freshness rounds have heartbeats of their own.
      if (message.message.kind === 'heartbeat') heartbeats += 1;
    }
    return network(envelope);
  };
  cluster.tick(ticks);
  cluster.network = network;
  return heartbeats;
}

t.test('times that are applied are in force from then on, at every member', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const a = cluster.node('a');
  t.strictSame(timesOf(a), unlessSaid);
  const before = heartbeatsIn(cluster, a, 60);
  cluster.propose(a, 'times', timingCommand(other));
  cluster.until(
    () => [...cluster.nodes.values()].every(({ machine }) => machine.index === a.machine.index),
    'all have it',
  );
  for (const node of cluster.nodes.values()) t.strictSame(timesOf(node), other);

  t.test('the leader sends fewer heartbeats', async (t) => {
    const after = heartbeatsIn(cluster, a, 60);
    // Each member asks for freshness every 500 ms before and every 1500 ms after.
    t.ok(before >= 60 / heartbeatTicks, `${before} in 60 ticks`);
    t.ok(after <= 60 / other.heartbeatTicks + 3 * 5, `${after} in 60 ticks`);
    t.equal(cluster.leader, a, 'and leads on');
  });

  t.test('freshness is asked for less often', async (t) => {
    const b = cluster.node('b');
    b.fresh.length = 0;
    cluster.tick(60);
    t.ok(b.fresh.length >= 3 && b.fresh.length <= 5, `${b.fresh.length} rounds in 6 s`);
  });

  t.test('a dead leader is missed after the new election timeout', async (t) => {
    cluster.partition(['b', 'c']);
    const ticks = ticksUntil(cluster, () => ['b', 'c'].some((name) => cluster.node(name).role === 'leader'));
    t.ok(ticks >= other.electionTicks - other.heartbeatTicks, `${ticks} ticks`);
  });
});

t.test('shorter times work at once, too, without an election', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const a = cluster.node('a');
  const { term } = a.loop.status().raft;
  cluster.propose(a, 'times', timingCommand({ ...other, electionTicks: 4, heartbeatTicks: 1 }));
  cluster.tick(100);
  t.equal(cluster.leader, a);
  t.equal(a.loop.status().raft.term, term);
  cluster.partition(['b', 'c']);
  const ticks = ticksUntil(cluster, () => ['b', 'c'].some((name) => cluster.node(name).role === 'leader'));
  t.ok(ticks < electionTicks, `${ticks} ticks`);
});

t.test('a start goes by the times in the log, or in the snapshot', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c'], { snapshotEntries: 20 });
  const [a, c] = [cluster.node('a'), cluster.node('c')];
  cluster.propose(a, 'times', timingCommand(other));
  cluster.tick(10);
  t.equal(a.snapshot.index, 0);
  a.restart();
  t.strictSame(timesOf(a), other, 'applied from the log');
  cluster.elect();
  for (let entry = 0; entry < 25; entry += 1) {
    cluster.propose(c, `p${entry}`, setCommand('x', `${entry}`));
  }
  cluster.tick(10);
  t.ok(a.snapshot.index > 0);
  a.restart();
  t.strictSame(timesOf(a), other, 'restored');
});

t.test('a snapshot from the leader brings its times', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c'], { snapshotEntries: 20 });
  const [a, c] = [cluster.node('a'), cluster.node('c')];
  cluster.partition(['a', 'b']);
  cluster.propose(a, 'times', timingCommand(other));
  for (let entry = 0; entry < 60; entry += 1) {
    cluster.propose(a, `p${entry}`, setCommand('x', `${entry}`));
  }
  cluster.heal();
  cluster.until(() => c.restored.length > 0, 'a snapshot');
  t.strictSame(timesOf(c), other);
});
