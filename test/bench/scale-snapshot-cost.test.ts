import t from 'tap';
import { Findings } from '../../bench/scale-findings.js';
import { judgeSnapshotCost, type Sample, type SnapshotTurns } from '../../bench/scale-snapshot-cost.js';

const turnMs = 10_000;

/** Two requests a millisecond over a turn, each answered after what `latencyMs` says of its time. */
const turn = (latencyMs: (atMs: number) => number): readonly Sample[] =>
  Array.from({ length: 2 * turnMs }, (_, at) => ({ scheduledMs: at / 2, latencyMs: latencyMs(at / 2) }));

function judged(turns: Partial<SnapshotTurns>) {
  const lines: string[] = [];
  const findings = new Findings((line) => void lines.push(line.trim()));
  const quiet = turn(() => 4);
  const snapshots = [{ fromMs: 5_000, toMs: 5_080 }];
  judgeSnapshotCost({ without: quiet, among: quiet, snapshots, ...turns }, findings);
  return { good: findings.good, failed: lines.filter((line) => line.startsWith('FAIL')) };
}

t.test('a snapshot that nobody notices is good', async (t) => {
  t.equal(judged({}).good, true);
  t.equal(judged({ among: turn((atMs) => (atMs >= 5_000 && atMs <= 5_080 ? 5 : 4)) }).good, true);
});

t.test('one of less than a hundredth of its turn fails by those who came meanwhile', async (t) => {
  const among = turn((atMs) => (atMs >= 5_000 && atMs <= 5_080 ? 90 : 4));
  t.match(judged({ among }).failed, [/during\/without +22\.50 \(wanted: ≤ 1\.25\)/]);
});

t.test('what is slow besides is not held against the snapshot', async (t) => {
  t.equal(judged({ among: turn((atMs) => (atMs < 1_000 ? 90 : 4)) }).good, true);
});

t.test('the requests during all snapshots count together', async (t) => {
  const among = turn((atMs) => (atMs >= 7_000 && atMs <= 7_080 ? 90 : 4));
  const snapshots = [
    { fromMs: 5_000, toMs: 5_080 },
    { fromMs: 7_000, toMs: 7_080 },
  ];
  t.match(judged({ among, snapshots }).failed, [/22\.50/]);
});

t.test('too few requests during snapshots, or none, say nothing, and that is a fault', async (t) => {
  t.match(judged({ snapshots: [{ fromMs: 5_000, toMs: 5_040 }] }).failed, [
    /how many these were +81 \(wanted: 100 or more\)/,
  ]);
  t.match(judged({ snapshots: [] }).failed, [/how many these were +0 /, /during\/without +NaN/]);
});
