import t from 'tap';
import { AcknowledgedLogs } from '../../../src/replication/acknowledged-logs.js';
import { MemberWatch } from '../../../src/replication/member-watch.js';
import type { PeerMessage } from '../../../src/replication/peer-message.js';
import { StateHashComparison, stateHashesMax } from '../../../src/replication/state-hash-comparison.js';
import { loopCluster } from '../../support/loop-cluster.js';
import { membersCommand, setCommand } from '../../support/loop-machine.js';

t.test('each member has the last report of each other, and forgets those that are gone', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const a = cluster.node('a');
  cluster.tick(6);
  for (const node of cluster.nodes.values()) {
    const { reports } = node.loop.status();
    t.same(
      reports.map(({ memberId }) => memberId).sort(),
      ['a', 'b', 'c'].filter((member) => member !== node.memberId),
    );
    for (const { memberId, report, receivedAtMs } of reports) {
      t.match(report, { nodeName: `node-${memberId}`, appliedIndex: a.machine.index });
      t.ok(cluster.nowMs - receivedAtMs <= 500);
    }
  }
  const hashes = a.loop.status().reports[0]?.report.stateHashes ?? [];
  t.ok(hashes.length > 0 && hashes.every(({ index }) => index % 4 === 0));
  cluster.propose(a, 'remove', membersCommand(['a', 'b']), 'membership');
  cluster.tick(6);
  t.same(
    a.loop.status().reports.map(({ memberId }) => memberId),
    ['b'],
  );
});

t.test('one that knows the members, and not yet its own addition, reports to them', async (t) => {
  const cluster = loopCluster(['a', 'b']);
  const b = cluster.node('b');
  const founding = b.entries.findIndex(({ kind }) => kind === 'membership');
  b.entries = b.entries.slice(0, founding + 1);
  b.hardState = { ...b.hardState, commitIndex: b.lastDurable };
  const sent: string[] = [];
  cluster.network = ({ from, to, message }) => {
    sent.push(`${from} > ${to}: ${message.kind}`);
    return [];
  };
  b.restart();
  t.same(b.loop.status().raft.membership, { voters: ['a'], learners: [] });
  cluster.tick(6);
  t.ok(sent.includes('b > a: report'), 'or it never learns that the others were recovered without it');
});

t.test('a member whose disk was wiped is told of, once, and counts for nothing', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const [a, c] = [cluster.node('a'), cluster.node('c')];
  cluster.propose(a, 'p', setCommand('x', '1'));
  cluster.tick(6);
  c.entries = [];
  c.hardState = { term: 0, votedFor: null, commitIndex: 0 };
  c.restart();
  cluster.tick(40);
  t.equal(a.warnings.length, 1);
  t.match(a.warnings, [/the log of node node-c \(member c\) ends .*: its disk was wiped or set back/]);
  cluster.partition(['a', 'c']);
  a.loop.propose('q', 'command', setCommand('x', '2'), 500);
  cluster.tick(6);
  t.match(a.outcomes.get('q'), { ok: false, error: { kind: 'unknown' } });
});

const way = { from: 'c', to: 'a' } as const;
const heartbeat = (term: number, round: number) =>
  ({ kind: 'heartbeat', from: 'a', to: 'c', term, commitIndex: 0, readId: String(round) }) as const;
const answer = (term: number, round: number, lastIndex: number) =>
  ({ ...way, kind: 'heartbeatResponse', term, readId: String(round), lastIndex }) as const;
const appended = (index: number, rejected = false) =>
  ({
    ...way,
    kind: 'appendResponse',
    term: 2,
    index,
    lastIndex: index,
    rejected,
    hint: { index: 0, term: 0 },
  }) as const;

t.test('only what is committed and acknowledged must be there', async (t) => {
  const logs = new AcknowledgedLogs();
  logs.appended(appended(12), 8);
  logs.appended(appended(11, true), 20);
  logs.heartbeatSent(heartbeat(2, 5));
  t.equal(logs.heartbeatAnswered(answer(2, 5, 8)), null, 'an uncommitted end may go');
  logs.heartbeatSent(heartbeat(2, 6));
  t.same(logs.heartbeatAnswered(answer(2, 6, 7)), { memberId: 'c', lastIndex: 7, acknowledgedIndex: 8 });
  logs.applied('c', 20);
  logs.applied('c', 19);
  logs.heartbeatSent(heartbeat(4, 1));
  t.match(
    logs.heartbeatAnswered(answer(4, 1, 19)),
    { acknowledgedIndex: 20 },
    'what it applied, it had, in whatever term',
  );
  logs.retain(new Set());
  logs.heartbeatSent(heartbeat(4, 2));
  t.equal(logs.heartbeatAnswered(answer(4, 2, 3)), null, 'another member');
});

t.test('only an answer to what was sent after that accuses a member', async (t) => {
  const logs = new AcknowledgedLogs();
  logs.applied('c', 3);
  logs.heartbeatSent(heartbeat(2, 5));
  logs.applied('c', 8);
  logs.heartbeatSent(heartbeat(2, 6));
  // Stragglers.
  for (let n = 0; n < 100; n += 1) {
    t.equal(logs.heartbeatAnswered(answer(2, 4, 1)), null, 'before');
    t.equal(logs.heartbeatAnswered(answer(1, 7, 1)), null, 'of another term');
  }
  t.equal(logs.heartbeatAnswered(answer(2, 5, 4)), null, 'it had 3, and maybe no more then');
  t.equal(logs.heartbeatAnswered(answer(2, 6, 4)), null, 'nobody knows what was acknowledged then');
  // Of those sent now the first may be lost.
  logs.heartbeatSent(heartbeat(2, 7));
  logs.heartbeatSent(heartbeat(2, 8));
  t.same(logs.heartbeatAnswered(answer(2, 8, 4)), { memberId: 'c', lastIndex: 4, acknowledgedIndex: 8 });
});

t.test('late answers are no reason to warn of a member', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const a = cluster.node('a');
  const late: PeerMessage[] = [];
  cluster.network = (envelope) => {
    const { from, to, message } = envelope;
    if (from === 'c' && to === 'a' && message.kind === 'raft') late.push(message);
    return [envelope];
  };
  cluster.tick(4);
  cluster.heal();
  for (let n = 0; n < 4; n += 1) cluster.propose(a, `p${n}`, setCommand('x', '1'));
  cluster.tick(6);
  // From now on all that `c` says is lost, and what it said comes again and again.
  cluster.network = (envelope) => (envelope.from === 'c' ? [] : [envelope]);
  for (let tick = 0; tick < 40; tick += 1) {
    cluster.tick();
    for (const message of late) cluster.inject({ from: 'c', to: 'a', message });
  }
  t.equal(a.role, 'leader');
  t.same(a.warnings, []);
});

t.test('hashes are compared at the newest index that both have', async (t) => {
  const hashes = new StateHashComparison('a');
  hashes.note(4, 'w');
  hashes.note(8, 'x');
  t.same(
    hashes.reported('b', [
      { index: 4, hash: 'other' },
      { index: 8, hash: 'x' },
    ]),
    [],
  );
  t.same(hashes.reported('b', [{ index: 8, hash: 'y' }]), [{ memberId: 'b', index: 8 }]);
  t.same(hashes.reported('b', [{ index: 8, hash: 'y' }]), [], 'once');
  t.same(hashes.divergent, ['b']);
  t.same(hashes.reported('c', [{ index: 12, hash: 'z' }]), [], 'not there yet');
  t.same(hashes.note(12, 'x'), [{ memberId: 'c', index: 12 }], 'now');
  t.same(hashes.reported('b', [{ index: 12, hash: 'x' }]), []);
  t.same(hashes.divergent, ['c'], 'b was restored');
  t.equal(hashes.minorityAt(['a', 'b', 'c']), null);
  hashes.retain(new Set(['b']));
  t.same(hashes.divergent, []);
  for (let index = 16; index < 1_000; index += 4) hashes.note(index, 'x');
  t.equal(hashes.own.length, stateHashesMax);
  t.equal(hashes.own.at(-1)?.index, 996);
});

t.test(
  'a minority is one against a majority of those who reported, if they are a majority of the voters',
  async (t) => {
    const five = ['a', 'b', 'c', 'd', 'e'];
    const hashes = new StateHashComparison('a');
    hashes.note(4, 'x');
    hashes.reported('b', [{ index: 4, hash: 'y' }]);
    t.equal(hashes.minorityAt(five), null, 'two of five');
    hashes.reported('c', [{ index: 4, hash: 'y' }]);
    t.equal(hashes.minorityAt(five), 4, 'one against two, of five');
    hashes.reported('d', [{ index: 4, hash: 'x' }]);
    t.equal(hashes.minorityAt(five), null, 'two against two');
    hashes.reported('e', [{ index: 4, hash: 'x' }]);
    t.equal(hashes.minorityAt(five), null, 'three against two');
    t.equal(hashes.minorityAt(['b', 'c']), 4, 'a learner');
    t.equal(hashes.minorityAt(['b', 'f', 'g', 'h', 'i']), null, 'a learner, one of five');
    hashes.restored();
    t.same(hashes.divergent, []);
    t.same(
      hashes.reported('b', [{ index: 4, hash: 'y' }]),
      [],
      'what it was before the restore is forgotten',
    );
  },
);

t.test(
  'what the leader sees of a lost log is told once a member, and again of one that came anew',
  async (t) => {
    const warnings: string[] = [];
    const watch = new MemberWatch({
      memberId: 'a',
      membership: () => ({ voters: ['a', 'b'], learners: [] }),
      warn: (message) => warnings.push(message),
      inMinority: () => t.fail('nothing was compared'),
    });
    const progress = (lostAcknowledged: boolean) => [
      {
        memberId: 'b',
        learner: false,
        state: 'probe',
        matchIndex: 0,
        nextIndex: 1,
        recentlyActive: true,
        inflightMessages: 0,
        lostAcknowledged,
      } as const,
    ];
    watch.progress(progress(false));
    t.same(warnings, []);
    watch.progress(progress(true));
    watch.progress(progress(true));
    t.equal(warnings.length, 1);
    t.match(warnings, [
      /the log of member b ends before what it acknowledged: .* remove it from the cluster/,
    ]);
    watch.membersAre({ voters: ['a'], learners: [] });
    watch.progress(progress(true));
    t.equal(warnings.length, 2);
  },
);
