import t from 'tap';
import type { LogPosition, MemberId, PeerProgress } from '../../src/raft/types.js';
import { encode, TestCluster } from '../support/raft-cluster.js';

/** By who knows of nothing that is. */
const committed = { index: 0, term: 0 };

/** What a leader makes of answers that are late, repeated, or from one who does not count. */

function progressOf(cluster: TestCluster, of: MemberId): PeerProgress | undefined {
  return cluster
    .node('1')
    .status()
    .progress.find(({ memberId }) => memberId === of);
}

function answer(
  cluster: TestCluster,
  from: MemberId,
  index: number,
  hint: LogPosition | null = null,
  lastIndex = 99,
): void {
  cluster.node('1').step({
    kind: 'appendResponse',
    from,
    to: '1',
    term: 1,
    index,
    rejected: hint !== null,
    hint: hint ?? { index: 0, term: 0 },
    lastIndex,
  });
}

t.test('learners hold entries and do not count', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3'], {}, ['4', '5', '6', '7']);
  cluster.elect('1');
  cluster.propose('1', 'a');
  cluster.settle(['1', '4', '5', '6', '7']);
  t.equal(cluster.node('1').status().commitIndex, 1);
  t.equal(progressOf(cluster, '7')?.matchIndex, 2);
  // Nor do their answers keep a leader in office.
  for (let round = 0; round < 20; round += 1) {
    cluster.tick('1');
    cluster.settle(['1', '4', '5', '6', '7']);
  }
  t.equal(cluster.node('1').status().role, 'follower');
});

t.test('a late rejection changes nothing in a member that replicates', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  cluster.propose('1', 'a');
  cluster.settle();
  const before = progressOf(cluster, '2');
  answer(cluster, '2', 1, { index: 0, term: 0 });
  answer(cluster, '2', 2, { index: 0, term: 0 });
  t.strictSame(progressOf(cluster, '2'), before);
});

t.test('a late rejection changes nothing in a member that is probed', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1', ['1', '3']);
  for (const command of ['a', 'b', 'c']) cluster.propose('1', command);
  cluster.settle(['1', '3']);
  cluster.node('1').reportUnreachable('3');
  const before = progressOf(cluster, '3');
  t.match(before, { state: 'probe', matchIndex: 4, nextIndex: 5 });
  answer(cluster, '3', 2, { index: 1, term: 1 });
  cluster.settle(['1', '3']);
  t.strictSame(progressOf(cluster, '3'), before, 'nothing was sent for it');
  t.match(progressOf(cluster, '2'), { state: 'probe', matchIndex: 0, nextIndex: 1 });
});

t.test('what is known to match is never taken back', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  for (const command of ['a', 'b', 'c']) cluster.propose('1', command);
  cluster.settle();
  answer(cluster, '2', 1);
  answer(cluster, '2', 4, { index: 0, term: 0 });
  answer(cluster, '2', 7, { index: 0, term: 0 });
  cluster.process('1');
  t.match(progressOf(cluster, '2'), { matchIndex: 4, nextIndex: 5 });
});

t.test(
  'an answer to a heartbeat from before the acknowledgement accuses nobody of having lost it',
  async (t) => {
    const cluster = TestCluster.of(['1', '2', '3']);
    cluster.elect('1');
    cluster.tick('1');
    cluster.process('1');
    cluster.deliver();
    cluster.process('2');
    const [late, ...more] = cluster.take(({ kind, to }) => kind === 'heartbeatResponse' && to === '1');
    t.match(late, { lastIndex: 1 });
    t.equal(more.length, 0);
    cluster.propose('1', 'a');
    cluster.settle();
    t.match(progressOf(cluster, '2'), { matchIndex: 2 });
    for (const message of late === undefined ? [] : [late, late]) cluster.node('1').step(message);
    t.match(progressOf(cluster, '2'), { lostAcknowledged: false });
    // Neither does one that comes after a later round's.
    cluster.tick('1');
    cluster.settle();
    for (const message of late === undefined ? [] : [late]) cluster.node('1').step(message);
    cluster.tick('1');
    for (const message of late === undefined ? [] : [late]) cluster.node('1').step(message);
    t.match(progressOf(cluster, '2'), { lostAcknowledged: false });
  },
);

t.test('one that has lost what it acknowledged counts for nothing, and can be added anew', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  cluster.propose('1', 'a');
  cluster.settle();
  cluster.tick('1');
  cluster.process('1');
  cluster
    .node('1')
    .step({ kind: 'heartbeatResponse', from: '3', to: '1', term: 1, readId: '1', lastIndex: 1 });
  t.match(progressOf(cluster, '3'), { lostAcknowledged: true });
  t.equal(cluster.node('1').transferLeadership('3'), false);
  cluster.propose('1', 'b');
  cluster.settle(['1', '3']);
  t.equal(cluster.node('1').status().commitIndex, 2);
  cluster.node('1').readIndex('r');
  cluster.settle(['1', '3']);
  t.strictSame(cluster.member('1').reads, []);
  answer(cluster, '3', 3);
  t.equal(cluster.node('1').status().commitIndex, 2);
  cluster.tick('1');
  cluster.settle(['1', '2']);
  t.equal(cluster.node('1').status().commitIndex, 3);
  for (const membership of ['voters=1,2', 'voters=1,2 learners=3']) {
    cluster.propose('1', membership, 'membership');
    cluster.settle(['1', '2']);
  }
  t.match(progressOf(cluster, '3'), { lostAcknowledged: false, learner: true, matchIndex: 0 });
});

t.test('a preVote that was granted for another term does not count', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  const node = cluster.node('1');
  node.step({ kind: 'heartbeat', from: '2', to: '1', term: 3, commitIndex: 0, readId: null });
  node.campaign();
  const response = { kind: 'preVoteResponse', from: '2', to: '1', granted: true, committed } as const;
  node.step({ ...response, term: 3 });
  node.step({ ...response, term: 5 });
  t.match(node.status(), { role: 'preCandidate', term: 3 });
  node.step({ ...response, term: 4 });
  t.match(node.status(), { role: 'candidate', term: 4 });
});

t.test('a read that was forwarded is answered once, and not after its leader is gone', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  const member = cluster.member('2');
  const response = { kind: 'readIndexResponse', from: '1', to: '2', term: 1, index: 1 } as const;
  member.node.readIndex('a');
  member.node.readIndex('b');
  for (const readId of ['a', 'a', 'c']) member.node.step({ ...response, readId });
  cluster.process('2');
  t.strictSame(member.reads, [{ readId: 'a', index: 1 }]);
  member.node.step({ kind: 'heartbeat', from: '3', to: '2', term: 2, commitIndex: 0, readId: null });
  member.node.step({ ...response, term: 2, readId: 'b' });
  cluster.process('2');
  t.strictSame(member.reads.slice(1), [{ readId: 'b', index: null }]);
});

t.test('a read of one who is no member is not answered with an index', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  cluster.node('1').step({ kind: 'readIndex', from: '9', to: '1', term: 1, readId: 'r' });
  t.match(cluster.process('1').messages, [{ kind: 'readIndexResponse', to: '9', index: null }]);
  // Nor by one who does not lead, or of an earlier term.
  cluster.node('2').step({ kind: 'readIndex', from: '3', to: '2', term: 1, readId: 'r' });
  t.match(cluster.process('2').messages, [{ kind: 'readIndexResponse', to: '3', index: null }]);
  cluster.node('2').step({ kind: 'heartbeat', from: '3', to: '2', term: 4, commitIndex: 0, readId: null });
  cluster.node('2').step({ kind: 'readIndex', from: '1', to: '2', term: 1, readId: 'r' });
  t.match(
    cluster.process('2').messages.filter(({ kind }) => kind === 'readIndexResponse'),
    [{ to: '1', term: 4, index: null }],
  );
});

t.test('what was verified for one leader says nothing of the next', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  const { node } = cluster.member('1');
  const entries = [1, 2].map((index) => ({ index, term: 1, kind: 'command', data: encode('a') }) as const);
  const previous = { index: 0, term: 0 };
  node.step({ kind: 'append', from: '2', to: '1', term: 2, previous, entries, commitIndex: 0 });
  const heartbeat = { kind: 'heartbeat', to: '1', commitIndex: 2, readId: null } as const;
  node.step({ ...heartbeat, from: '3', term: 3 });
  t.equal(node.status().commitIndex, 0);
  node.step({
    kind: 'append',
    from: '3',
    to: '1',
    term: 3,
    previous: { index: 1, term: 1 },
    entries: [],
    commitIndex: 0,
  });
  node.step({ ...heartbeat, from: '3', term: 3 });
  t.equal(node.status().commitIndex, 1);
});

t.test("what a crash left of this term is its leader's", async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  cluster.propose('1', 'a');
  cluster.process('1');
  cluster.deliver(({ to }) => to === '2');
  cluster.process('2');
  cluster.member('2').restart();
  t.equal(cluster.node('2').status().commitIndex, 1);
  // It acknowledged 2 before: no append will come again, so the heartbeat must do.
  cluster.deliver();
  cluster.process('1');
  cluster.take(() => true);
  cluster.tick('1');
  cluster.process('1');
  cluster.deliver();
  t.equal(cluster.node('2').status().commitIndex, 2);
});
