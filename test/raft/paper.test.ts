import t from 'tap';
import type { Entry, MemberId, Message, Role } from '../../src/raft/types.js';
import { type Disk, emptyDisk, encode, TestCluster } from '../support/raft-cluster.js';
import { SeededRandom } from '../support/seeded-random.js';

/** By who knows of nothing that is. */
const committed = { index: 0, term: 0 };

/**
 * The rules of the paper (Ongaro and Ousterhout, _In Search of an Understandable Consensus Algorithm_, extended version),
 * section by section, one member at a time where that is enough.
 */

const voters = ['1', '2', '3'];
const idsUpTo = (count: number): readonly MemberId[] =>
  Array.from({ length: count }, (_, at) => String(at + 1));

const entry = (index: number, term: number, text = `${index}.${term}`): Entry => ({
  index,
  term,
  kind: 'command',
  data: encode(text),
});

const entriesOf = (terms: readonly number[]): readonly Entry[] =>
  terms.map((term, at) => entry(at + 1, term));

const diskOf = (terms: readonly number[], term = terms.at(-1) ?? 0, commitIndex = 0): Disk => ({
  ...emptyDisk({ voters, learners: [] }),
  hardState: { term, votedFor: null, commitIndex },
  entries: entriesOf(terms),
});

function oneOf(disk: Disk): TestCluster {
  const cluster = new TestCluster();
  cluster.add('1', disk);
  return cluster;
}

function answersOf(cluster: TestCluster, ...messages: readonly Message[]): readonly Message[] {
  for (const message of messages) cluster.node(message.to).step(message);
  const [first] = messages;
  if (first === undefined || !cluster.node(first.to).hasReady()) return [];
  return cluster.process(first.to).messages;
}

const heartbeat = (term: number, from = '2', commitIndex = 0): Message => ({
  kind: 'heartbeat',
  from,
  to: '1',
  term,
  commitIndex,
  readId: null,
});

const vote = (term: number, from: MemberId, index = 0, lastTerm = 0): Message => ({
  kind: 'vote',
  from,
  to: '1',
  term,
  lastLog: { index, term: lastTerm },
  leadershipTransfer: false,
  committed,
});

const append = (
  term: number,
  previous: { readonly index: number; readonly term: number },
  entries: readonly Entry[],
  commitIndex = 0,
): Message => ({ kind: 'append', from: '2', to: '1', term, previous, entries, commitIndex });

/** Member 1 in each role, in the term 1 (a preCandidate: 0). */
function inRole(role: Role): TestCluster {
  const cluster = oneOf(diskOf([]));
  const node = cluster.node('1');
  if (role === 'follower') node.step(heartbeat(1));
  else node.campaign();
  if (role === 'candidate' || role === 'leader') {
    node.step({ kind: 'preVoteResponse', from: '2', to: '1', term: 1, granted: true, committed });
  }
  if (role === 'leader')
    node.step({ kind: 'voteResponse', from: '2', to: '1', term: 1, granted: true, committed });
  while (node.hasReady()) cluster.process('1');
  if (role === 'leader')
    node.step({ kind: 'voteResponse', from: '2', to: '1', term: 1, granted: true, committed });
  if (node.status().role !== role) throw new Error(`no ${role}`);
  return cluster;
}

const roles: readonly Role[] = ['follower', 'preCandidate', 'candidate', 'leader'];

for (const role of roles) {
  t.test(`§5.1: a ${role} that hears of a later term becomes follower in it`, async (t) => {
    const cluster = inRole(role);
    cluster.node('1').step(heartbeat(5));
    t.match(cluster.node('1').status(), { role: 'follower', term: 5, leader: '2', votedFor: null });
    const other = inRole(role);
    other.node('1').step({ kind: 'voteResponse', from: '3', to: '1', term: 6, granted: false, committed });
    t.match(other.node('1').status(), { role: 'follower', term: 6, leader: null });
  });

  t.test(`§5.1: a ${role} does not heed what comes from an earlier term`, async (t) => {
    const cluster = inRole(role);
    cluster.node('1').step(heartbeat(9));
    const before = cluster.node('1').status();
    answersOf(cluster, append(2, { index: 0, term: 0 }, [entry(1, 2)], 1), vote(3, '3', 9, 8));
    t.strictSame(cluster.node('1').status(), before);
  });
}

t.test('§5.2: a follower that hears of a leader does not campaign', async (t) => {
  const cluster = inRole('follower');
  for (let tick = 0; tick < 100; tick += 1) {
    cluster.tick('1');
    if (tick % 9 === 0) cluster.node('1').step(heartbeat(1));
  }
  t.match(cluster.node('1').status(), { role: 'follower', term: 1, leader: '2' });
});

t.test('§5.2: the leader sends heartbeats to all', async (t) => {
  const cluster = inRole('leader');
  cluster.process('1');
  cluster.tick('1');
  t.strictSame(
    cluster.process('1').messages.map(({ kind, to }) => `${kind} ${to}`),
    ['heartbeat 2', 'heartbeat 3'],
  );
});

t.test('§5.2: a candidate votes for itself, in a new term, and asks all others', async (t) => {
  const cluster = oneOf(diskOf([1, 1], 3));
  cluster.node('1').campaign();
  answersOf(cluster, { kind: 'preVoteResponse', from: '3', to: '1', term: 4, granted: true, committed });
  t.match(cluster.member('1').disk.hardState, { term: 4, votedFor: '1' }, 'before it asks');
  t.strictSame(
    cluster.take(({ kind }) => kind === 'vote'),
    ['2', '3'].map((to) => ({
      kind: 'vote',
      from: '1',
      to,
      term: 4,
      lastLog: { index: 2, term: 1 },
      leadershipTransfer: false,
      committed,
    })),
  );
});

t.test(
  '§5.2: a candidate is elected by a majority of the voters, itself among them, and not by fewer',
  async (t) => {
    for (const size of [1, 2, 3, 4, 5, 6, 7]) {
      const ids = idsUpTo(size);
      for (let granting = 0; granting < size; granting += 1) {
        for (const refusing of [0, size - 1 - granting]) {
          const cluster = new TestCluster();
          cluster.add('1', emptyDisk({ voters: ids, learners: [] }));
          const node = cluster.node('1');
          node.campaign();
          for (const from of ids.slice(1)) {
            node.step({ kind: 'preVoteResponse', from, to: '1', term: 1, granted: true, committed });
          }
          cluster.process('1');
          const others = ids.slice(1);
          for (const [at, from] of others.entries()) {
            if (at < granting)
              node.step({ kind: 'voteResponse', from, to: '1', term: 1, granted: true, committed });
            else if (at < granting + refusing) {
              node.step({ kind: 'voteResponse', from, to: '1', term: 1, granted: false, committed });
            }
          }
          const majority = granting + 1 > size / 2;
          const hopeless = refusing >= size / 2;
          const role = majority ? 'leader' : hopeless ? 'follower' : 'candidate';
          t.equal(node.status().role, role, `${granting} for, ${refusing} against, of ${size}`);
        }
      }
    }
  },
);

t.test("§5.2: the same vote counts once, and only a voter's", async (t) => {
  const cluster = new TestCluster();
  cluster.add('1', emptyDisk({ voters: idsUpTo(5), learners: ['6', '7'] }));
  const node = cluster.node('1');
  node.campaign();
  for (const kind of ['preVoteResponse', 'voteResponse'] as const) {
    for (const from of ['2', '2', '2', '6', '7', '8'])
      node.step({ kind, from, to: '1', term: 1, granted: true, committed });
    if (kind === 'voteResponse') break;
    t.equal(node.status().role, 'preCandidate');
    node.step({ kind, from: '3', to: '1', term: 1, granted: true, committed });
    cluster.process('1');
    t.equal(node.status().role, 'candidate');
  }
  t.equal(node.status().role, 'candidate');
});

t.test('§5.2: each votes once in a term, first come, first served', async (t) => {
  for (const [votedFor, from, granted] of [
    [null, '2', true],
    [null, '3', true],
    ['2', '2', true],
    ['3', '3', true],
    ['2', '3', false],
    ['3', '2', false],
  ] as const) {
    const cluster = oneOf({ ...diskOf([]), hardState: { term: 1, votedFor, commitIndex: 0 } });
    t.match(answersOf(cluster, vote(1, from)), [{ kind: 'voteResponse', to: from, term: 1, granted }]);
  }
});

t.test('§5.2: the vote is on the disk before it is given', async (t) => {
  const cluster = oneOf(diskOf([]));
  cluster.node('1').step(vote(4, '3'));
  const ready = cluster.node('1').ready();
  t.strictSame(ready.hardState, { term: 4, votedFor: '3', commitIndex: 0 });
  t.match(ready.messages, [{ kind: 'voteResponse', granted: true }]);
});

for (const role of ['preCandidate', 'candidate'] as const) {
  t.test(`§5.2: a ${role} that hears of a leader of its term follows it`, async (t) => {
    const { term } = inRole(role).node('1').status();
    for (const message of [
      heartbeat(Math.max(term, 1)),
      append(Math.max(term, 1), { index: 0, term: 0 }, []),
    ]) {
      const cluster = inRole(role);
      cluster.node('1').step(message);
      t.match(cluster.node('1').status(), { role: 'follower', leader: '2', term: 1 });
    }
  });
}

t.test('§5.2: election timeouts are random, from the timeout to twice that', async (t) => {
  const random = new SeededRandom(3);
  const seen = new Set<number>();
  const cluster = new TestCluster(() => random.integer(1_000) / 1_000);
  cluster.add('1', emptyDisk({ voters, learners: [] }));
  for (let campaign = 0; campaign < 200; campaign += 1) {
    cluster.node('1').step(heartbeat(campaign + 1));
    let ticks = 0;
    for (; cluster.node('1').status().role === 'follower'; ticks += 1) cluster.tick('1');
    seen.add(ticks);
  }
  t.strictSame(
    [...seen].sort((left, right) => left - right),
    [10, 11, 12, 13, 14, 15, 16, 17, 18, 19],
  );
});

t.test('§5.3: the leader appends, sends to all, and names what stands before', async (t) => {
  const cluster = TestCluster.of(voters);
  cluster.elect('1');
  cluster.propose('1', 'a');
  const { entries, messages } = cluster.process('1');
  t.strictSame(entries, [entry(2, 1, 'a')]);
  t.strictSame(
    messages,
    ['2', '3'].map((to) => ({
      kind: 'append',
      from: '1',
      to,
      term: 1,
      previous: { index: 1, term: 1 },
      entries,
      commitIndex: 1,
    })),
  );
});

t.test('§5.3: an entry is committed once a majority holds it', async (t) => {
  for (const [size, acknowledging, committed] of [
    [1, 0, true],
    [2, 0, false],
    [2, 1, true],
    [3, 0, false],
    [3, 1, true],
    [4, 1, false],
    [4, 2, true],
    [5, 1, false],
    [5, 2, true],
    [5, 4, true],
  ] as const) {
    const ids = idsUpTo(size);
    const cluster = TestCluster.of(ids);
    cluster.elect('1');
    cluster.propose('1', 'a');
    const index = cluster.node('1').status().lastIndex;
    cluster.settle(ids.slice(0, 1 + acknowledging));
    t.equal(cluster.node('1').status().commitIndex >= index, committed, `${acknowledging} others of ${size}`);
  }
});

t.test('§5.3: what stands before it is committed with it, of earlier leaders too', async (t) => {
  for (const terms of [[], [2], [1, 2], [1]] as const) {
    const cluster = new TestCluster();
    for (const id of voters) cluster.add(id, diskOf(terms, 2));
    cluster.elect('1');
    t.equal(cluster.node('1').status().commitIndex, terms.length + 1);
    t.strictSame(cluster.member('3').state.commands.length, terms.length);
  }
});

t.test('§5.3: the follower learns of the commit index, and applies in the order of the log', async (t) => {
  const cluster = oneOf(diskOf([]));
  const entries = [entry(1, 1), entry(2, 1), entry(3, 1)];
  cluster.node('1').step(append(1, { index: 0, term: 0 }, entries, 2));
  const ready = cluster.process('1');
  t.strictSame(ready.committed, entries.slice(0, 2));
  t.match(ready.hardState, { commitIndex: 2 });
  answersOf(cluster, heartbeat(1, '2', 3));
  t.strictSame(cluster.member('1').state.commands, ['1.1', '2.1', '3.1']);
});

t.test('§5.3: an append is refused unless the entry before it is there', async (t) => {
  for (const [previous, rejected] of [
    [{ index: 0, term: 0 }, false],
    [{ index: 1, term: 1 }, false],
    [{ index: 2, term: 2 }, false],
    [{ index: 1, term: 2 }, true],
    [{ index: 2, term: 3 }, true],
    [{ index: 3, term: 3 }, true],
  ] as const) {
    const cluster = oneOf(diskOf([1, 2]));
    t.match(answersOf(cluster, append(3, previous, [])), [
      { kind: 'appendResponse', index: previous.index, rejected, lastIndex: 2 },
    ]);
  }
});

t.test('§5.3: what conflicts is cut off with all after it, and nothing else is', async (t) => {
  for (const [previous, terms, kept] of [
    [{ index: 2, term: 2 }, [3], [1, 2, 3]],
    [{ index: 1, term: 1 }, [3, 4], [1, 3, 4]],
    [{ index: 0, term: 0 }, [1], [1, 2]],
    [{ index: 0, term: 0 }, [3], [3]],
    [{ index: 0, term: 0 }, [1, 2], [1, 2]],
    [{ index: 1, term: 1 }, [2, 2], [1, 2, 2]],
  ] as const) {
    const cluster = oneOf(diskOf([1, 2]));
    const sent = terms.map((term, at) => entry(previous.index + 1 + at, term));
    answersOf(cluster, append(4, previous, sent));
    t.strictSame(
      cluster.member('1').disk.entries.map(({ term }) => term),
      kept,
    );
  }
});

t.test('§5.3: a committed entry is never replaced', async (t) => {
  const cluster = oneOf(diskOf([1, 1, 1], 1, 3));
  t.match(answersOf(cluster, append(2, { index: 1, term: 1 }, [entry(2, 2)])), [
    { index: 3, rejected: false },
  ]);
  t.strictSame(
    cluster.member('1').disk.entries.map(({ term }) => term),
    [1, 1, 1],
  );
});

t.test('§5.4.1: a vote is given to a log at least as up-to-date: by last term, then by length', async (t) => {
  for (const [terms, index, lastTerm, granted] of [
    [[1], 1, 1, true],
    [[1], 2, 1, true],
    [[1, 1], 1, 1, false],
    [[1], 1, 2, true],
    [[1], 2, 2, true],
    [[1, 1], 1, 2, true],
    [[2], 1, 1, false],
    [[2], 5, 1, false],
    [[2, 2], 1, 2, false],
  ] as const) {
    const cluster = oneOf(diskOf(terms, 2));
    t.match(answersOf(cluster, vote(3, '2', index, lastTerm)), [{ kind: 'voteResponse', granted }]);
    const before = oneOf(diskOf(terms, 2));
    t.match(answersOf(before, { ...vote(3, '2', index, lastTerm), kind: 'preVote' } as Message), [
      { kind: 'preVoteResponse', granted },
    ]);
  }
});

t.test('§5.4.2: a leader counts only for entries of its own term', async (t) => {
  for (const [index, committed] of [
    [1, 0],
    [2, 0],
    [3, 3],
  ] as const) {
    const cluster = oneOf(diskOf([1, 2], 2));
    const node = cluster.node('1');
    node.campaign();
    node.step({
      kind: 'preVoteResponse',
      from: '2',
      to: '1',
      term: 3,
      granted: true,
      committed: { index: 0, term: 0 },
    });
    cluster.process('1');
    node.step({
      kind: 'voteResponse',
      from: '2',
      to: '1',
      term: 3,
      granted: true,
      committed: { index: 0, term: 0 },
    });
    cluster.process('1');
    const answer = { kind: 'appendResponse', from: '2', to: '1', term: 3, rejected: false } as const;
    node.step({ ...answer, index, hint: { index: 0, term: 0 }, lastIndex: index });
    t.equal(node.status().commitIndex, committed, `2 holds ${index}`);
  }
});

t.test('§7: a snapshot replaces a log that does not hold its last entry, and no other', async (t) => {
  const snapshot = (index: number, term: number): Message => ({
    kind: 'snapshot',
    from: '2',
    to: '1',
    term: 3,
    position: { index, term },
    membership: { voters, learners: [] },
  });
  for (const [index, term, first, last, commit] of [
    [2, 2, 1, 3, 2],
    [2, 3, 3, 2, 2],
    [9, 3, 10, 9, 9],
    [1, 1, 1, 3, 1],
  ] as const) {
    const cluster = oneOf(diskOf([1, 2, 2], 2, 1));
    cluster.node('1').step(snapshot(index, term));
    const { firstIndex, lastIndex, commitIndex } = cluster.node('1').status();
    t.strictSame([firstIndex, lastIndex, commitIndex], [first, last, commit], `snapshot ${index}@${term}`);
    const ready = cluster.node('1').ready();
    t.equal(ready.snapshot !== null, first > 1);
    t.match(ready.messages, [{ kind: 'appendResponse', rejected: false, index: commit }]);
  }
});

t.test('§8: a leader begins its term with a no-op', async (t) => {
  const cluster = TestCluster.of(voters);
  cluster.elect('1');
  t.match(cluster.node('1').entry(1), { kind: 'noop', term: 1 });
  t.equal(cluster.node('1').status().commitIndex, 1);
});

t.test('§8: a read is answered once a majority has heard of the leader after it was asked', async (t) => {
  const cluster = TestCluster.of(idsUpTo(5));
  cluster.elect('1');
  cluster.node('1').readIndex('r');
  cluster.process('1');
  const [, ...others] = idsUpTo(5);
  for (const [at, id] of others.entries()) {
    cluster.deliver(({ to }) => to === id);
    cluster.process(id);
    cluster.deliver(({ to }) => to === '1');
    if (cluster.node('1').hasReady()) cluster.process('1');
    t.equal(cluster.member('1').reads.length, at >= 1 ? 1 : 0, `${at + 1} others of 5`);
  }
});
