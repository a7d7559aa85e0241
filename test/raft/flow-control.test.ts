import t from 'tap';
import type { Message } from '../../src/raft/types.js';
import { emptyDisk, encode, TestCluster } from '../support/raft-cluster.js';

/** Everything that grows has a limit. An entry counts for 32 bytes beside its data. */

const appends = (messages: readonly Message[], to: string): readonly (readonly number[])[] =>
  messages.flatMap((message) =>
    message.kind === 'append' && message.to === to ? [message.entries.map(({ index }) => index)] : [],
  );

t.test('an append holds no more than appendBytesMax, or one entry', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3'], { appendBytesMax: 150 });
  cluster.elect('1');
  for (const bytes of [10, 10, 10, 10, 500, 10]) {
    cluster.node('1').propose('command', new Uint8Array(bytes));
  }
  t.strictSame(appends(cluster.process('1').messages, '2'), [[2, 3, 4], [5], [6], [7]]);
});

t.test('no more than inflightMessagesMax appends are under way to a member', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3'], { inflightMessagesMax: 3, appendBytesMax: 1 });
  cluster.elect('1');
  for (let count = 0; count < 10; count += 1) cluster.propose('1', 'a');
  t.equal(appends(cluster.process('1').messages, '2').length, 3);
  cluster.deliver(({ to }) => to === '2');
  cluster.process('2');
  const answers = cluster.take(({ to }) => to === '1');
  t.equal(answers.length, 3);
  // Each answer makes room for one.
  for (const answer of answers) {
    cluster.node('1').step(answer);
    t.equal(appends(cluster.process('1').messages, '2').length, 1);
  }
});

t.test('nor more than inflightBytesMax, plus the append that fills it', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3'], {
    inflightMessagesMax: 100,
    appendBytesMax: 100,
    inflightBytesMax: 250,
  });
  cluster.elect('1');
  for (let count = 0; count < 10; count += 1) cluster.node('1').propose('command', new Uint8Array(68));
  t.equal(appends(cluster.process('1').messages, '2').length, 3);
});

t.test('a leader takes no more than uncommittedBytesMax, or one', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3'], { uncommittedBytesMax: 100 });
  cluster.elect('1');
  const node = cluster.node('1');
  t.match(node.propose('command', new Uint8Array(1_000)), { ok: true }, 'one alone, however long');
  t.strictSame(node.propose('command', new Uint8Array(1)), { ok: false, error: { kind: 'overloaded' } });
  cluster.settle();
  for (const fits of [true, true, false]) {
    t.equal(node.propose('command', new Uint8Array(18)).ok, fits);
  }
  cluster.settle();
  t.match(node.propose('command', new Uint8Array(18)), { ok: true });
});

t.test('a new leader counts what it inherited', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3'], { uncommittedBytesMax: 200 });
  cluster.elect('1');
  cluster.node('1').propose('command', new Uint8Array(100));
  cluster.node('1').propose('command', new Uint8Array(1));
  cluster.process('1');
  cluster.deliver();
  cluster.process('2');
  cluster.take(() => true);
  cluster.tick('3', 10);
  cluster.tick('2', 10);
  cluster.electOnly('2', ['2', '3']);
  t.match(cluster.node('2').propose('command', new Uint8Array(10)), { error: { kind: 'overloaded' } });
  cluster.settle(['2', '3']);
  t.match(cluster.node('2').propose('command', new Uint8Array(10)), { ok: true });
});

t.test('no more than committedBytesMax are handed out at once, or one', async (t) => {
  const cluster = TestCluster.of(['1'], { committedBytesMax: 100 });
  cluster.elect('1');
  for (const bytes of [10, 10, 10, 500, 10]) cluster.node('1').propose('command', new Uint8Array(bytes));
  cluster.process('1');
  const handedOut: (readonly number[])[] = [];
  while (cluster.node('1').hasReady()) {
    handedOut.push(cluster.process('1').committed.map(({ index }) => index));
  }
  t.strictSame(handedOut, [[2, 3], [4], [5], [6]]);
});

t.test('a member whose disk is slow loses messages rather than gather them without end', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  const member = cluster.member('1');
  member.node.step({ kind: 'heartbeat', from: '2', to: '1', term: 1, commitIndex: 0, readId: null });
  member.take();
  for (let count = 0; count < 10_000; count += 1) {
    member.node.step({ kind: 'heartbeat', from: '2', to: '1', term: 1, commitIndex: 0, readId: null });
  }
  member.persist();
  member.finish();
  t.equal(member.take().messages.length, 4096);
});

t.test('a leader answers reads beyond its limit at once', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  for (let count = 0; count < 4_097; count += 1) cluster.node('1').readIndex(`r${count}`);
  cluster.process('1');
  t.strictSame(cluster.member('1').reads, [{ readId: 'r4096', index: null }]);
  cluster.settle();
  t.equal(cluster.member('1').reads.length, 4_097);
  for (let count = 0; count < 4_097; count += 1) cluster.node('2').readIndex(`f${count}`);
  cluster.process('2');
  t.strictSame(cluster.member('2').reads, [{ readId: 'f4096', index: null }]);
});

t.test('Ready and advance take turns, and all that was handed out is applied before advance', async (t) => {
  const cluster = TestCluster.of(['1']);
  const node = cluster.node('1');
  t.equal(node.hasReady(), false);
  t.throws(() => node.advance(), /advance without ready/);
  cluster.elect('1');
  cluster.propose('1', 'a');
  cluster.process('1');
  t.equal(node.ready().committed.length, 1);
  t.equal(node.hasReady(), false);
  t.throws(() => node.ready(), /ready before advance/);
  t.throws(() => node.advance(), /advance before entry 2 was applied/);
  node.applied(2, { voters: ['1'], learners: [] });
  t.throws(() => node.applied(1, { voters: ['1'], learners: [] }), /applied 1/);
});

t.test('what is malformed or for another changes nothing', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  const { node } = cluster.member('1');
  const before = node.status();
  const entry = { index: 1, term: 1, kind: 'command', data: encode('a') } as const;
  const append = {
    kind: 'append',
    from: '2',
    to: '1',
    term: 1,
    previous: { index: 0, term: 0 },
    commitIndex: 0,
  } as const;
  for (const message of [
    { ...append, to: '9', entries: [] },
    { ...append, from: '1', entries: [] },
    { ...append, term: 0, entries: [] },
    { ...append, term: 1.5, entries: [] },
    { ...append, entries: [{ ...entry, index: 2 }] },
    { ...append, entries: [{ ...entry, term: 2 }] },
    { ...append, previous: { index: 3, term: 2 }, entries: [{ ...entry, index: 4 }], term: 3 },
    { ...append, entries: [entry, entry] },
  ]) {
    node.step(message);
    t.strictSame(node.status(), before);
  }
  t.equal(node.hasReady(), false);
  cluster.elect('1');
  // A leader holds no more than it has: nobody can acknowledge beyond it.
  node.step({
    kind: 'appendResponse',
    from: '2',
    to: '1',
    term: 1,
    index: 99,
    rejected: false,
    hint: { index: 0, term: 0 },
    lastIndex: 99,
  });
  t.equal(node.status().progress[1]?.matchIndex, 1);
});

t.test('a member that joins starts with nothing and knows nobody', async (t) => {
  const cluster = new TestCluster();
  cluster.add('4', emptyDisk({ voters: [], learners: [] }));
  cluster.tick('4', 100);
  cluster.node('4').campaign();
  t.match(cluster.node('4').status(), { role: 'follower', term: 0 });
  t.equal(cluster.node('4').hasReady(), false);
});
