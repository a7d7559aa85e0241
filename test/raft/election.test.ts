import t from 'tap';
import type { Entry, LogPosition, Membership, Message } from '../../src/raft/types.js';
import { type Disk, emptyDisk, encode, TestCluster } from '../support/raft-cluster.js';

const nothing = { index: 0, term: 0 };

/** Voters 1, 2, 3, and what 1 has: entries of these terms, the first one committed, in term 5. */
function clusterOf(terms: readonly number[], change: Membership | null = null): TestCluster {
  const entries = terms.map((term, at): Entry => {
    const index = at + 1;
    const changes = change !== null && index === terms.length;
    return changes
      ? { index, term, kind: 'membership', data: encode(`voters=${change.voters.join(',')}`) }
      : { index, term, kind: 'command', data: encode(`${index}.${term}`) };
  });
  const disk: Disk = {
    ...emptyDisk({ voters: ['1', '2', '3'], learners: [] }),
    hardState: { term: 5, votedFor: null, commitIndex: 1 },
    entries,
  };
  const cluster = new TestCluster();
  cluster.add('1', disk);
  for (const id of ['2', '3']) cluster.add(id, emptyDisk({ voters: ['1', '2', '3'], learners: [] }));
  return cluster;
}

const way = { from: '2', to: '1' } as const;
const request = (
  kind: 'preVote' | 'vote',
  term: number,
  committed: LogPosition,
  lastLog: LogPosition = nothing,
): Message => ({
  ...way,
  kind,
  term,
  lastLog,
  leadershipTransfer: false,
  committed,
});
const response = (
  kind: 'preVoteResponse' | 'voteResponse',
  term: number,
  granted: boolean,
  committed: LogPosition,
): Message => ({ ...way, kind, term, granted, committed });

function commitIndexAfter(message: Message): number {
  const cluster = clusterOf([1, 2, 2]);
  cluster.node('1').step(message);
  return cluster.node('1').status().commitIndex;
}

t.test('what is committed is learned from campaigns, from who asks and who answers', async (t) => {
  const committed = { index: 2, term: 2 };
  for (const message of [
    request('preVote', 6, committed),
    request('vote', 5, committed),
    request('vote', 9, committed),
    response('preVoteResponse', 6, true, committed),
    response('preVoteResponse', 5, false, committed),
    response('preVoteResponse', 9, false, committed),
    response('voteResponse', 5, true, committed),
    response('voteResponse', 9, false, committed),
    // However old: it stays committed.
    request('preVote', 3, committed),
    request('vote', 3, committed),
    response('voteResponse', 3, false, committed),
  ]) {
    t.equal(commitIndexAfter(message), 2, `${message.kind} of term ${message.term}`);
  }
});

t.test('only where the log holds it', async (t) => {
  for (const committed of [
    { index: 2, term: 1 },
    { index: 2, term: 4 },
    { index: 4, term: 2 },
    { index: 0, term: 0 },
    { index: 0, term: 9 },
  ]) {
    t.equal(commitIndexAfter(request('vote', 6, committed)), 1, `${committed.index}@${committed.term}`);
  }
});

t.test('not in a term before the sender’s: its leader may lack it and be followed again', async (t) => {
  const committed = { index: 2, term: 2 };
  // Of a preVote and its grant, the sender's term is the one before at most.
  t.equal(commitIndexAfter(request('preVote', 7, committed)), 1);
  t.equal(commitIndexAfter(response('preVoteResponse', 7, true, committed)), 1);
  // One that is in that term already does not tell.
  for (const [term, index] of [
    [5, 0],
    [6, 1],
  ] as const) {
    const cluster = clusterOf([1, 2, 2]);
    cluster.node('1').step(request('preVote', term, nothing, { index: 9, term: 4 }));
    t.match(cluster.process('1').messages, [{ granted: true, term, committed: { index } }]);
  }
});

t.test('a leader counts by itself', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  cluster.propose('1', 'a');
  const { term } = cluster.node('1').status();
  cluster.node('1').step(response('voteResponse', term, true, { index: 2, term }));
  t.match(cluster.node('1').status(), { role: 'leader', commitIndex: 1 });
});

t.test('a campaign ends where another majority is about to be learned of', async (t) => {
  const committed = { index: 2, term: 2 };
  for (const change of [{ voters: ['1', '2', '3', '4'], learners: [] }, null]) {
    const cluster = clusterOf([1, 2], change);
    const node = cluster.node('1');
    cluster.process('1');
    node.campaign();
    t.equal(node.status().role, 'preCandidate');
    node.step(response('preVoteResponse', 5, false, committed));
    t.match(node.status(), { role: change === null ? 'preCandidate' : 'follower', commitIndex: 2, term: 5 });
    cluster.process('1');
    // With this grant the campaign would go on.
    node.step({ ...response('preVoteResponse', 6, true, nothing), from: '3' });
    t.equal(node.status().role, change === null ? 'candidate' : 'follower');
  }
});

/** 2 and 3 miss the leader in the same moment: each asks before it has heard of the other. */
function missedByTwo(): TestCluster {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  for (const id of ['2', '3']) cluster.tick(id, 10);
  for (const id of ['2', '3']) cluster.node(id).campaign();
  return cluster;
}

t.test('two that miss the leader at once do not split the votes (paper §5.2)', async (t) => {
  const cluster = missedByTwo();
  cluster.settle(['2', '3']);
  t.match(cluster.node('2').status(), { role: 'follower', leader: '3', term: 2 });
  t.match(cluster.node('3').status(), { role: 'leader', term: 2 });
});

t.test('one that is not elected for long lets the other go first', async (t) => {
  const cluster = missedByTwo();
  for (const id of ['2', '3']) cluster.process(id);
  // What 3 asks is lost, and it has had the time of a heartbeat.
  cluster.take(({ from }) => from === '3');
  cluster.tick('3');
  cluster.settle(['2', '3']);
  t.match(cluster.node('2').status(), { role: 'leader', term: 2 });
});

t.test('a longer log goes first whatever the id', async (t) => {
  const cluster = TestCluster.of(['1', '2', '3']);
  cluster.elect('1');
  cluster.propose('1', 'a');
  cluster.settle(['1', '2']);
  for (const id of ['2', '3']) cluster.tick(id, 10);
  for (const id of ['2', '3']) cluster.node(id).campaign();
  cluster.settle(['2', '3']);
  t.match(cluster.node('2').status(), { role: 'leader', term: 2 });
});
