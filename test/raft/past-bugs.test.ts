import t from 'tap';
import { RaftNode } from '../../src/raft/raft-node.js';
import type { Entry, Message } from '../../src/raft/types.js';
import { emptyDisk, encode, TestCluster } from '../support/raft-cluster.js';

/** By who knows of nothing that is. */
const committed = { index: 0, term: 0 };

/** What really happened to clusters. Each test fails if the rule it names is taken out. */

const entriesOf = (terms: readonly number[], from = 1): readonly Entry[] =>
  terms.map((term, at) => ({
    index: from + at,
    term,
    kind: 'command',
    data: encode(`${from + at}.${term}`),
  }));

/** A cluster of which `logs` gives the terms of each member's entries. */
function withLogs(
  logs: Readonly<Record<string, readonly number[]>>,
  term: number,
  commitIndex = 0,
  changes = {},
): TestCluster {
  const voters = Object.keys(logs);
  const cluster = new TestCluster(() => 0.5, changes);
  for (const [id, terms] of Object.entries(logs)) {
    cluster.add(id, {
      ...emptyDisk({ voters, learners: [] }),
      hardState: { term, votedFor: null, commitIndex: Math.min(commitIndex, terms.length) },
      entries: entriesOf(terms),
    });
  }
  return cluster;
}

/** What a member answers to one message. */
function answers(cluster: TestCluster, message: Message): readonly Message[] {
  cluster.node(message.to).step(message);
  return cluster.node(message.to).hasReady() ? cluster.process(message.to).messages : [];
}

t.test('etcd-io/etcd#7331: no read index before an entry of the new term is committed', async (t) => {
  const cluster = withLogs({ '1': [1, 1], '2': [1, 1], '3': [1] }, 1);
  cluster.electOnly('1', ['1', '2', '3']);
  t.equal(cluster.node('1').status().commitIndex, 0);
  cluster.node('1').readIndex('r');
  cluster.tick('1', 1);
  cluster.process('1');
  // Heartbeats are answered, appends are not.
  cluster.take(({ kind }) => kind === 'append');
  cluster.deliver();
  for (const id of ['2', '3']) cluster.process(id);
  cluster.deliver();
  while (cluster.node('1').hasReady()) cluster.process('1');
  t.strictSame(cluster.member('1').reads, []);
  cluster.tick('1', 1);
  cluster.settle();
  t.strictSame(cluster.member('1').reads, [{ readId: 'r', index: 3 }]);
});

t.test('etcd-io/etcd#7331: nor in a cluster of one', async (t) => {
  const cluster = withLogs({ '1': [1, 1, 1] }, 1, 1);
  const node = cluster.node('1');
  node.campaign();
  cluster.process('1');
  t.equal(node.status().role, 'leader');
  t.equal(node.status().commitIndex, 1);
  node.readIndex('r');
  t.strictSame(node.ready().reads, []);
});

t.test(
  'etcd-io/etcd#20418: a retry under the same id is not confirmed by answers to the first try',
  async (t) => {
    const cluster = TestCluster.of(['1', '2', '3']);
    cluster.elect('1');
    cluster.node('1').readIndex('same');
    cluster.process('1');
    cluster.deliver();
    for (const id of ['2', '3']) cluster.process(id);
    const late = cluster.take(({ to }) => to === '1');
    t.strictSame(
      late.map(({ kind }) => kind),
      ['heartbeatResponse', 'heartbeatResponse'],
    );
    // 1 is cut off; 2 leads, and commits something. 1 asks again, as if it were the same question.
    cluster.tick('3', 10);
    cluster.elect('2', ['2', '3']);
    cluster.propose('2', 'newer');
    cluster.settle(['2', '3']);
    cluster.node('1').readIndex('same');
    const before = cluster.member('1').reads.length;
    for (const message of late) cluster.node('1').step(message);
    while (cluster.node('1').hasReady()) cluster.process('1');
    // The first question is answered rightly: it was asked before. The second is not.
    t.strictSame(cluster.member('1').reads.slice(before), [{ readId: 'same', index: 1 }]);
  },
);

t.test('etcd-io/etcd#2461: a vote is not taken back within a term', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  const vote = {
    kind: 'vote',
    to: '1',
    term: 5,
    lastLog: { index: 0, term: 0 },
    leadershipTransfer: false,
    committed,
  } as const;
  t.match(answers(cluster, { ...vote, from: '2' }), [{ kind: 'voteResponse', granted: true }]);
  // Whatever makes it a follower again in that term: a leader's message, and losing it again.
  cluster.node('1').step({ kind: 'heartbeat', from: '2', to: '1', term: 5, commitIndex: 0, readId: null });
  cluster.node('1').setElectable(false);
  cluster.node('1').setElectable(true);
  cluster.tick('1', 14);
  t.equal(cluster.node('1').status().votedFor, '2');
  t.match(
    answers(cluster, { ...vote, from: '3' }).filter(({ kind }) => kind === 'voteResponse'),
    [{ granted: false }],
  );
  // And it survives a crash.
  cluster.member('1').restart();
  t.match(answers(cluster, { ...vote, from: '3' }), [{ kind: 'voteResponse', granted: false }]);
  t.match(answers(cluster, { ...vote, from: '2' }), [{ kind: 'voteResponse', granted: true }]);
});

t.test('etcd-io/etcd#2461: a leader that steps down keeps its vote for itself', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  cluster.node('1').stepDown();
  t.match(cluster.node('1').status(), { role: 'follower', term: 1, votedFor: '1' });
});

t.test('etcd-io/etcd#10998: a learner votes when asked', async (t) => {
  const cluster = TestCluster.of(['1', '2'], {}, ['3']);
  const request = {
    from: '2',
    to: '3',
    lastLog: { index: 0, term: 0 },
    leadershipTransfer: false,
    committed,
  } as const;
  t.match(answers(cluster, { ...request, kind: 'preVote', term: 1 }), [{ granted: true }]);
  t.match(answers(cluster, { ...request, kind: 'vote', term: 1 }), [{ granted: true }]);
});

t.test('etcd-io/etcd#8501: a preVote of a lower term is refused with the higher one', async (t) => {
  const cluster = withLogs({ '1': [1, 1], '2': [1], '3': [1] }, 4);
  t.match(
    answers(cluster, {
      kind: 'preVote',
      from: '1',
      to: '2',
      term: 2,
      lastLog: { index: 2, term: 1 },
      leadershipTransfer: false,
      committed,
    }),
    [{ kind: 'preVoteResponse', granted: false, term: 4 }],
  );
  cluster.node('1').step({ kind: 'preVoteResponse', from: '2', to: '1', term: 9, granted: false, committed });
  t.match(cluster.node('1').status(), { role: 'follower', term: 9 });
});

t.test(
  'etcd-io/etcd#8243: a leader of a lower term is told, so that a member ahead in term is not stuck',
  async (t) => {
    const cluster = withLogs({ '1': [1], '2': [1], '3': [1] }, 7);
    for (const message of [
      { kind: 'heartbeat', from: '1', to: '3', term: 2, commitIndex: 0, readId: null },
      {
        kind: 'append',
        from: '1',
        to: '3',
        term: 2,
        previous: { index: 1, term: 1 },
        entries: [],
        commitIndex: 0,
      },
    ] as const) {
      t.match(answers(cluster, message), [{ kind: 'appendResponse', to: '1', term: 7, rejected: true }]);
    }
    t.equal(cluster.node('3').status().leader, null);
  },
);

t.test(
  'etcd-io/etcd#12133: nobody campaigns with a committed membership change that is not applied',
  async (t) => {
    const change: Entry = { index: 2, term: 1, kind: 'membership', data: encode('voters=1,2,3,4') };
    const disk = {
      ...emptyDisk({ voters: ['1', '2', '3'], learners: [] }),
      hardState: { term: 1, votedFor: null, commitIndex: 2 },
      entries: [...entriesOf([1]), change],
    };
    const cluster = new TestCluster();
    for (const id of ['1', '2', '3', '4']) cluster.add(id, { ...disk });
    const node = cluster.node('1');
    node.campaign();
    cluster.tick('1', 40);
    node.step({ kind: 'timeoutNow', from: '2', to: '1', term: 1 });
    t.match(node.status(), { role: 'follower', term: 1 });
    // Once it is applied, it does: with the new members, and at once, for it was asked to.
    cluster.process('1');
    t.equal(node.status().role, 'candidate');
    t.strictSame(
      cluster.process('1').messages.map(({ kind, to }) => `${kind} ${to}`),
      ['vote 2', 'vote 3', 'vote 4'],
    );
  },
);

t.test('etcd-io/etcd#14370: a cluster of one commits nothing that is not on its disk', async (t) => {
  const cluster = TestCluster.of(['1']);
  cluster.elect('1');
  const member = cluster.member('1');
  cluster.propose('1', 'a');
  const ready = member.take();
  t.equal(ready.entries.length, 1);
  t.strictSame(ready.committed, [], 'not in the same breath');
  t.equal(member.node.status().commitIndex, 1);
  // More comes in while it is being written: that is not on the disk either.
  cluster.propose('1', 'b');
  member.persist();
  member.finish();
  t.equal(member.node.status().commitIndex, 2);
  cluster.settle();
  t.strictSame(member.state.commands, ['a', 'b']);
});

t.test(
  'etcd-io/etcd#14370: what was being written when the log was cut is not taken for what replaced it',
  async (t) => {
    const cluster = TestCluster.of(['1', '2', '3']);
    cluster.elect('1');
    const member = cluster.member('1');
    cluster.propose('1', 'a');
    cluster.propose('1', 'b');
    member.take();
    // While 2@1 and 3@1 are on their way to the disk, a leader of term 2 replaces 2@1 and 3@1 by its own.
    const replaced: Entry[] = [2, 3].map((index) => ({ index, term: 2, kind: 'command', data: encode('x') }));
    member.node.step({
      kind: 'append',
      from: '2',
      to: '1',
      term: 2,
      previous: { index: 1, term: 1 },
      entries: replaced,
      commitIndex: 1,
    });
    member.persist();
    member.finish();
    t.strictSame(member.take().entries, replaced, 'they are written too');
  },
);

t.test('scylladb/scylladb#9965: a heartbeat commits nothing beyond what is known to match', async (t) => {
  const cluster = withLogs({ '1': [1, 2], '2': [1, 2], '3': [1, 1] }, 2);
  cluster.elect('1', ['1', '2']);
  t.equal(cluster.node('1').status().commitIndex, 3);
  cluster.tick('1');
  const heartbeat = cluster.process('1').messages.find(({ kind, to }) => kind === 'heartbeat' && to === '3');
  t.match(heartbeat, { commitIndex: 0 });
  // Nor if a leader said more than it knows: the log was never compared in this term.
  cluster.node('3').step({ kind: 'heartbeat', from: '1', to: '3', term: 3, commitIndex: 2, readId: null });
  t.equal(cluster.node('3').status().commitIndex, 0);
});

t.test('atomix/copycat#265: an append commits no further than what it proves to match', async (t) => {
  const cluster = withLogs({ '1': [1, 1, 2], '2': [1, 1, 2], '3': [1, 1, 1, 1] }, 2);
  const append = { kind: 'append', from: '1', to: '3', term: 2, commitIndex: 3 } as const;
  answers(cluster, { ...append, previous: { index: 1, term: 1 }, entries: entriesOf([1], 2) });
  t.equal(cluster.node('3').status().commitIndex, 2);
  t.equal(cluster.node('3').status().lastIndex, 4, 'and cuts nothing off without a conflict');
});

t.test('redpanda-data/redpanda#17731: a delayed append does not cut off what came after it', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  cluster.propose('1', 'a');
  cluster.process('1');
  const delayed = cluster.inFlight.filter(({ to }) => to === '2');
  cluster.deliver();
  cluster.propose('1', 'b');
  cluster.process('1');
  cluster.deliver();
  cluster.process('2');
  t.equal(cluster.node('2').status().lastIndex, 3);
  for (const message of delayed)
    t.match(answers(cluster, message), [{ rejected: false, index: 2, lastIndex: 3 }]);
  t.equal(cluster.node('2').status().lastIndex, 3);
});

t.test('databendlabs/openraft#511: a compacted previous entry is not a conflict', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  for (const command of ['a', 'b', 'c']) cluster.propose('1', command);
  cluster.settle();
  cluster.member('2').compact();
  t.equal(cluster.node('2').status().firstIndex, 5);
  const append = { kind: 'append', from: '1', to: '2', term: 1, commitIndex: 4 } as const;
  const entries: readonly Entry[] = [2, 3, 4, 5].map((index) => ({
    index,
    term: 1,
    kind: 'command',
    data: encode(index === 5 ? 'd' : '?'),
  }));
  t.match(answers(cluster, { ...append, previous: { index: 1, term: 1 }, entries: entries.slice(0, 2) }), [
    { rejected: false, index: 4 },
  ]);
  // What goes beyond the commit index is taken.
  t.match(answers(cluster, { ...append, previous: { index: 1, term: 1 }, entries }), [
    { rejected: false, index: 5 },
  ]);
});

t.test('logcabin/logcabin#44: an entry of an earlier term is not committed by counting', async (t) => {
  const cluster = withLogs({ '1': [1, 2], '2': [1], '3': [1] }, 2, 0, { appendBytesMax: 1 });
  cluster.electOnly('1', ['1', '2']);
  let counted = 0;
  for (let round = 0; round < 20; round += 1) {
    for (const id of ['1', '2']) if (cluster.node(id).hasReady()) cluster.process(id);
    cluster.take(({ to }) => to === '3');
    cluster.deliver();
    const { progress, commitIndex } = cluster.node('1').status();
    if (progress.find(({ memberId }) => memberId === '2')?.matchIndex !== 2) continue;
    counted += 1;
    t.equal(commitIndex, 0, 'on a majority, of an earlier term');
  }
  t.ok(counted > 0);
});

t.test('microsoft/CCF#5674: a leader that steps down keeps its log', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  cluster.propose('1', 'a');
  cluster.process('1');
  cluster.deliver();
  cluster.process('2');
  cluster.node('1').stepDown();
  t.equal(cluster.node('1').status().lastIndex, 2);
  cluster.tick('1', 20);
  t.equal(cluster.node('1').status().lastIndex, 2);
});

t.test('a state that holds less than its commit index is refused', async (t) => {
  const disk = emptyDisk({ voters: ['1'], learners: [] });
  t.throws(
    () =>
      new RaftNode(
        {
          memberId: '1',
          electionTicks: 10,
          heartbeatTicks: 1,
          random: () => 0,
          inflightMessagesMax: 1,
          inflightBytesMax: 1,
          appendBytesMax: 1,
          uncommittedBytesMax: 1,
          committedBytesMax: 1,
        },
        {
          hardState: { term: 1, votedFor: null, commitIndex: 3 },
          snapshot: disk.snapshot.position,
          entries: entriesOf([1]),
          membership: disk.snapshot.state.membership,
          appliedIndex: 0,
        },
      ),
    /commit index 3 beyond the log's end 1/,
  );
});

t.test('nothing is acknowledged that was cut off again before it was stored', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3', '4', '5']);
  const append = { kind: 'append', to: '1', commitIndex: 0, previous: { index: 0, term: 0 } } as const;
  const node = cluster.node('1');
  node.step({ ...append, from: '2', term: 1, entries: entriesOf([1, 1]) });
  // In the same Ready: the next term's leader has something else there.
  node.step({ ...append, from: '3', term: 2, entries: entriesOf([2]) });
  const { entries, messages } = cluster.process('1');
  t.match(entries, [{ index: 1, term: 2 }]);
  t.match(messages, [{ kind: 'appendResponse', to: '3', term: 2, index: 1, rejected: false }]);
  t.equal(messages.length, 1);
});

t.test('a member that lost what it had acknowledged learns so from the leader of that term', async (t) => {
  const cluster = withLogs({ '1': [1, 1], '2': [1, 1], '3': [1] }, 1);
  const heartbeat = { kind: 'heartbeat', from: '1', to: '3', term: 1, readId: null } as const;
  cluster.node('3').step({ ...heartbeat, commitIndex: 1 });
  t.equal(cluster.node('3').lostAcknowledged, false);
  cluster.node('3').step({ ...heartbeat, commitIndex: 2 });
  t.equal(cluster.node('3').lostAcknowledged, true);
  cluster.process('3');
  t.equal(cluster.node('3').status().commitIndex, 1, 'only what it has');
});
