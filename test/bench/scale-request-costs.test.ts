import t from 'tap';
import { Findings } from '../../bench/scale-findings.js';
import { judgeRequests, type Runs } from '../../bench/scale-request-costs.js';
import { benchRun } from '../support/bench-run.js';

const good: Runs = { closed: [benchRun('closed')], open: [benchRun('open')] };

function judged(few: Runs, many: Runs) {
  const lines: string[] = [];
  const findings = new Findings((line) => void lines.push(line.trim()));
  judgeRequests(few, many, findings);
  return { good: findings.good, failed: lines.filter((line) => line.startsWith('FAIL')), lines };
}

t.test('as much with many keys as with few is good', async (t) => {
  t.equal(judged(good, good).good, true);
});

t.test('CPU beyond the mark fails, by the median of the runs', async (t) => {
  const dear = { ...good, closed: [benchRun('closed', {}, 22_000)] };
  t.match(judged(good, dear).failed, [/CPU µs of a request, closed loop.*100 and 110/]);
  const once = { ...good, closed: [...good.closed, ...dear.closed, ...good.closed] };
  t.equal(judged(good, once).good, true);
});

t.test('a fault of any run fails, and is said', async (t) => {
  for (const fault of [{ failures: { '503 X': 2 } }, { dropped: 4 }, { late: 5 }, { answered: 0 }]) {
    for (const at of ['closed', 'open'] as const) {
      const bad = { ...good, [at]: [benchRun('a run'), benchRun('the bad one', fault), benchRun('a run')] };
      for (const { good: isGood, failed, lines } of [judged(bad, good), judged(good, bad)]) {
        t.equal(isGood, false);
        t.match(failed, [/faults of the runs +1 \(wanted: 0\)/]);
        t.match(lines.at(-1), /fault +the bad one: /);
      }
    }
  }
});

t.test('so does an answer that was wrong', async (t) => {
  const wrong = { ...benchRun('open'), verification: { verified: 9, wrong: 1, firstFault: 'another tag' } };
  t.match(judged(good, { ...good, open: [wrong] }).lines.at(-1), /1 answers were wrong: another tag/);
});
