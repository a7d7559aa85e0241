import t from 'tap';
import { emptyDisk, TestCluster } from '../support/raft-cluster.js';

t.test('three members elect, replicate, commit and apply', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  cluster.propose('1', 'a');
  cluster.propose('1', 'b');
  cluster.settle();
  for (const id of ['1', '2', '3']) t.strictSame(cluster.member(id).state.commands, ['a', 'b'], id);
  t.strictSame(cluster.node('2').propose('command', new Uint8Array([1])), {
    ok: false,
    error: { kind: 'not-leader', leader: '1' },
  });
});

t.test('a cluster of one leads after campaign and the next ready', async (t) => {
  const cluster = TestCluster.of(['1']);
  const node = cluster.node('1');
  node.campaign();
  t.equal(node.status().role, 'candidate');
  cluster.process('1');
  t.equal(node.status().role, 'leader');
  cluster.propose('1', 'a');
  cluster.settle();
  t.strictSame(cluster.member('1').state.commands, ['a']);
  node.readIndex('r1');
  cluster.settle();
  t.strictSame(cluster.member('1').reads, [{ readId: 'r1', index: 2 }]);
});

t.test('reads are answered at leader and follower', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  cluster.node('1').readIndex('a');
  cluster.node('2').readIndex('b');
  cluster.settle();
  t.strictSame(cluster.member('1').reads, [{ readId: 'a', index: 1 }]);
  t.strictSame(cluster.member('2').reads, [{ readId: 'b', index: 1 }]);
});

t.test('membership: a learner catches up from a snapshot, is promoted, the leader is removed', async (t) => {
  const cluster = TestCluster.of(['1', '2']);
  cluster.elect('1');
  for (const command of ['a', 'b', 'c']) cluster.propose('1', command);
  cluster.settle();
  cluster.member('1').compact();
  cluster.add('3', emptyDisk({ voters: [], learners: [] }));
  cluster.propose('1', 'voters=1,2 learners=3', 'membership');
  cluster.settle();
  cluster.tick('1');
  cluster.settle();
  t.strictSame(cluster.member('3').state.commands, cluster.member('1').state.commands);
  cluster.propose('1', 'voters=1,2,3', 'membership');
  cluster.settle();
  t.strictSame(cluster.node('3').status().membership.voters, ['1', '2', '3']);
  cluster.propose('1', 'voters=2,3', 'membership');
  cluster.settle();
  t.equal(cluster.node('1').status().role, 'follower');
  t.strictSame(['2', '3'].filter((id) => cluster.node(id).status().role === 'leader').length, 1);
});

t.test('leadership is handed over', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  t.equal(cluster.node('1').transferLeadership('3'), true);
  t.strictSame(cluster.node('1').propose('command', new Uint8Array()), {
    ok: false,
    error: { kind: 'transferring' },
  });
  cluster.settle();
  t.equal(cluster.node('3').status().role, 'leader');
  t.equal(cluster.node('1').status().leader, '3');
});
