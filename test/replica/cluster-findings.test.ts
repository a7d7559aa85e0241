import t, { type Test } from 'tap';
import type { RefusalReason } from '../../src/replication/transport/refusal.js';
import { activeToken, type FakeServingProcess, readyReport } from './fake-serving-process.js';
import { makeReplica, type ReplicaAtSeams } from './replica-at-seams.js';
import { foundCluster, hear, joinMember, peerStats } from './replica-in-cluster.js';

const dayMs = 86_400_000;

/** What `status` and `cluster status` find, which is the same as far as the cluster goes. */
async function findings({ run }: ReplicaAtSeams): Promise<string> {
  const [node, cluster] = [await run('status', {}), await run('cluster.status', {})];
  if (!node.ok || !cluster.ok) throw new Error('no status');
  const found = node.value.degraded.filter((line) => !/serving process|is prepared/.test(line));
  for (const line of found) t.ok(cluster.value.degraded.includes(line), `cluster status says: ${line}`);
  return found.join('\n');
}

async function replicaOfTwo(t: Test): Promise<ReplicaAtSeams> {
  const replica = await makeReplica(t);
  await foundCluster(replica);
  hear(replica, await joinMember(replica, 'node-2'), {});
  replica.cluster.stats = peerStats([{ memberId: 'id-node-2', connected: true }]);
  replica.cluster.notAfterMs = replica.now.wallMs + 31 * dayMs;
  return replica;
}

t.test('nothing is found where nothing is wrong', async (t) => {
  t.equal(await findings(await replicaOfTwo(t)), '');
});

t.test('who must not serve says so, and why, and does not say that it serves', async (t) => {
  const replica = await replicaOfTwo(t);
  const { cluster } = replica;
  cluster.raft = { role: 'follower', leader: null };
  t.match(await findings(replica), /^no leader is known here: .*, and this node serves by what it has$/m);
  cluster.standingNow = { mayServe: false, reason: 'nobody confirms it', fleetSize: 1, fenced: false };
  const unconfirmed = await findings(replica);
  t.match(unconfirmed, /^this node does not serve: nobody confirms it$/m);
  t.match(unconfirmed, /^no leader is known here: no change can be made$/m);
  cluster.standingNow = { mayServe: false, reason: 'removed; empty it', fleetSize: 1, fenced: true };
  t.match(await findings(replica), /^fenced off: removed; empty it$/m);
  cluster.standingNow = { mayServe: false, reason: 'its state differs', fleetSize: 1, fenced: true };
  cluster.loop = { ...cluster.loop, halted: 'its state differs' };
  const halted = await findings(replica);
  t.match(halted, /^replication has stopped on this node: its state differs; it does not serve$/m);
  t.notMatch(halted, /fenced off/, 'once');
});

t.test('a state that nobody confirms is a finding', async (t) => {
  const replica = await replicaOfTwo(t);
  const { cluster } = replica;
  cluster.loop = { ...cluster.loop, freshAsOfMs: cluster.nowMs - 10_000 };
  t.equal(await findings(replica), '');
  cluster.loop = { ...cluster.loop, freshAsOfMs: cluster.nowMs - 11_000 };
  t.match(await findings(replica), /^no quorum has confirmed the key state of this node for 11 s$/m);
  cluster.loop = { ...cluster.loop, freshAsOfMs: null };
  t.match(await findings(replica), /confirmed the key state of this node since its replica started$/m);
});

t.test('who does not listen to this node, and what to do about it', async (t) => {
  const replica = await replicaOfTwo(t);
  const expected: Readonly<Record<RefusalReason, RegExp>> = {
    removed:
      /^node-2 refuses us: this node was removed.*empty its data directory, and add and join it anew$/m,
    'other-cluster': /^node-2 refuses us: .*recovered cluster.*empty its data directory/m,
    'foreign-cluster':
      /^node-2 answers as another cluster: it was initialised anew; remove it, empty it, add and join it$/m,
    unknown: /^node-2 refuses us: it has not heard of this node/m,
    'wrong-name': /^node-2 refuses us: .*must name DNS:node-1$/m,
    'wrong-member': /^node-2 refuses us: .*\[cluster\] advertise/m,
    format: /^node-2 refuses us: .*same release/m,
    malformed: /^node-2 refuses us: .*same release/m,
  };
  for (const reason of Object.keys(expected) as RefusalReason[]) {
    replica.cluster.refusing.set('id-node-2', { reason, detail: 'x' });
    t.match(await findings(replica), expected[reason]);
  }
});

t.test('a cluster certificate that is about to end', async (t) => {
  const replica = await replicaOfTwo(t);
  const { cluster, now } = replica;
  for (const [leftMs, finding] of [
    [30 * dayMs - 1, /cluster certificate ends in 29 d \(\d{4}-/],
    [dayMs - 1, /cluster certificate ends within a day/],
    [-1, /cluster certificate has ended/],
  ] as const) {
    cluster.notAfterMs = now.wallMs + leftMs;
    t.match(await findings(replica), finding);
  }
  cluster.notAfterMs = null;
  t.match(await findings(replica), /cannot be used any more.*xksd config check/);
  cluster.stats = null;
  t.equal(await findings(replica), '', 'who has nobody to talk to needs none');
});

t.test('a node that joins says what it waits for, and is not told to prepare a token', async (t) => {
  const replica = await makeReplica(t);
  const { cluster } = replica;
  const serving = await replica.link();
  serving.report({ ...readyReport, tokens: [activeToken] });
  const nodeStatus = async () => {
    const status = await replica.run('status', {});
    if (!status.ok) throw new Error(status.error.message);
    return status.value;
  };
  while ((await nodeStatus()).tokens.length === 0) await new Promise(setImmediate);
  cluster.raft = { role: 'follower', leader: null, membership: { voters: [], learners: [] } };
  t.match(await findings(replica), /no way to it: its configuration has no \[cluster\]$/m);
  cluster.stats = peerStats([]);
  cluster.notAfterMs = replica.now.wallMs + 31 * dayMs;
  t.match(await findings(replica), /waits for an answer of the members that its join token names/);
  t.notMatch(await findings(replica), /no leader is known/);
  cluster.joining = 'node-1 (node-1:7443) does not let this node in: the token has expired';
  t.match(
    await findings(replica),
    /^this node is not in the cluster yet, .*: node-1 .* the token has expired$/m,
  );
  cluster.joining = null;
  cluster.raft = { ...cluster.raft, leader: 'id-node-1' };
  t.match(await findings(replica), /^this node was let in: it waits for the key state/m);
  t.notMatch((await nodeStatus()).degraded.join('\n'), /hsm prepare/);
  await foundCluster(replica);
  t.match((await nodeStatus()).degraded.join('\n'), /hsm prepare/, 'once there is key state to tell of it');
});

t.test('why the node does not serve is said once, not by each process again', async (t) => {
  const replica = await replicaOfTwo(t);
  replica.cluster.standingNow = { mayServe: false, reason: 'cut off', fleetSize: 1, fenced: false };
  const serving: FakeServingProcess = await replica.link();
  serving.report({ ...readyReport, readiness: { ready: false, reason: 'cut off' } });
  for (;;) {
    const status = await replica.run('status', {});
    if (!status.ok) throw new Error(status.error.message);
    if (status.value.serving[0]?.ready === false) {
      t.equal(status.value.degraded.filter((line) => line.includes('cut off')).length, 1);
      return;
    }
    await new Promise(setImmediate);
  }
});
