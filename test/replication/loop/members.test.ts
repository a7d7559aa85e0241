import t from 'tap';
import { AcknowledgedLogs } from '../../../src/replication/acknowledged-logs.js';
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

const answer = (index: number, lastIndex: number, rejected = false) =>
  ({
    kind: 'appendResponse',
    from: 'c',
    to: 'a',
    term: 2,
    index,
    lastIndex,
    rejected,
    hint: { index: 0, term: 0 },
  }) as const;

t.test('only what is committed and acknowledged must be there, and only for good', async (t) => {
  const logs = new AcknowledgedLogs(10);
  t.equal(logs.answered(answer(12, 12), 8, 0), null);
  t.equal(logs.answered(answer(8, 9, true), 8, 1), null, 'an uncommitted end may go');
  t.equal(logs.answered(answer(3, 3), 8, 2), null, 'overtaken');
  t.equal(logs.answered(answer(12, 12), 8, 11), null, 'and the next says otherwise');
  t.equal(logs.answered(answer(3, 3), 8, 12), null);
  t.equal(logs.answered(answer(3, 3), 8, 21), null);
  t.same(logs.answered(answer(3, 3), 8, 22), { memberId: 'c', lastIndex: 3, acknowledgedIndex: 8 });
  logs.retain(new Set());
  t.equal(logs.answered(answer(3, 3), 8, 99), null, 'another member');
  logs.applied('c', 20);
  logs.answered(answer(3, 3), 8, 100);
  t.match(logs.answered(answer(3, 3), 8, 200), { acknowledgedIndex: 20 }, 'what it applied, it had');
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
