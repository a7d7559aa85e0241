import t from 'tap';
import { encode, TestCluster } from '../support/raft-cluster.js';

t.test('a snapshot leaves as of what is applied when it leaves', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  cluster.propose('1', 'a');
  cluster.settle(['1', '2']);
  cluster.member('1').compact();
  cluster.propose('1', 'b');
  cluster.process('1');
  cluster.deliver(({ to }) => to === '2');
  cluster.process('2');
  cluster.deliver(({ to }) => to === '1');
  // 3@1 is committed and being applied when 3 turns out to need a snapshot.
  const ready = cluster.member('1').take();
  t.strictSame(
    ready.committed.map(({ index }) => index),
    [3],
  );
  cluster.node('1').step({
    kind: 'appendResponse',
    from: '3',
    to: '1',
    term: 1,
    index: 3,
    rejected: true,
    hint: { index: 1, term: 1 },
    lastIndex: 1,
  });
  cluster.member('1').persist();
  cluster.member('1').finish();
  const snapshot = cluster.process('1').messages.find(({ kind }) => kind === 'snapshot');
  t.match(snapshot, { to: '3', position: { index: 3, term: 1 } });
});

t.test('a snapshot that comes in while entries are being applied takes over', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  const member = cluster.member('1');
  const entry = { index: 1, term: 1, kind: 'command', data: encode('a') } as const;
  member.node.step({
    kind: 'append',
    from: '2',
    to: '1',
    term: 1,
    previous: { index: 0, term: 0 },
    entries: [entry],
    commitIndex: 1,
  });
  member.take();
  member.persist();
  member.node.step({
    kind: 'snapshot',
    from: '2',
    to: '1',
    term: 1,
    position: { index: 7, term: 1 },
    membership: { voters: ['1', '2'], learners: [] },
  });
  // Nothing may follow it before it is durable.
  member.node.step({
    kind: 'append',
    from: '2',
    to: '1',
    term: 1,
    previous: { index: 7, term: 1 },
    entries: [{ ...entry, index: 8 }],
    commitIndex: 8,
  });
  member.finish();
  t.match(member.node.status(), { appliedIndex: 1, commitIndex: 7, membership: { voters: ['1', '2'] } });
  member.node.campaign();
  t.equal(member.node.status().role, 'follower', 'it does not know yet what it will be');
  const ready = member.node.ready();
  t.match(ready, {
    snapshot: { position: { index: 7 } },
    entries: [],
    committed: [],
    hardState: { commitIndex: 7 },
  });
  member.node.advance();
  t.equal(member.node.status().appliedIndex, 7);
});
