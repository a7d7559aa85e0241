import t from 'tap';
import { writeCosts } from '../../bench/among-writes.js';
import { LatencyHistogram } from '../../bench/driver/latency-histogram.js';
import type { LoadResult } from '../../bench/driver/load-run.js';
import { linearAxis, logAxis, percentileAxis } from '../../bench/report/axis.js';
import {
  type BenchReport,
  faultsOf,
  type RunReport,
  summarize,
  usedBetween,
  wrongAnswersOf,
} from '../../bench/report/bench-report.js';
import { htmlPage } from '../../bench/report/html-page.js';
import { joinRuns } from '../../bench/report/joined-runs.js';
import { selfTimes } from '../../bench/report/profile.js';
import { reportText, textTable } from '../../bench/report/text-table.js';

function latency(...micros: readonly number[]): LoadResult['latency'] {
  const histogram = new LatencyHistogram();
  for (const value of micros) histogram.record(value);
  return { counts: histogram.sparse(), maxMicros: histogram.maxMicros };
}

function run(load: Partial<LoadResult> = {}, more: Partial<RunReport> = {}): RunReport {
  return {
    name: 'a run',
    load: {
      shape: { kind: 'open', rate: 100, seconds: 2 },
      scheduled: 200,
      sent: 200,
      answered: 200,
      dropped: 0,
      late: 0,
      failures: {},
      latency: latency(100, 200, 250),
      series: [
        {
          atSeconds: 0,
          answeredPerSecond: 100,
          failedPerSecond: 0,
          p50Micros: 900,
          p99Micros: 2_000,
          maxMicros: 3_000,
        },
        {
          atSeconds: 1,
          answeredPerSecond: 0,
          failedPerSecond: 1,
          p50Micros: null,
          p99Micros: null,
          maxMicros: null,
        },
      ],
      elapsedMs: 2_000,
      driverCpuMicros: 10_000,
      ...load,
    },
    verification: { verified: 10, wrong: 0, firstFault: null },
    processes: [
      { pid: 1, role: 'serving', cpuMicros: 40_000, pssKiB: 2_048 },
      { pid: 2, role: 'replica', cpuMicros: 2_000, pssKiB: 1_024 },
    ],
    ...more,
  };
}

const report = (runs: readonly RunReport[], faults: readonly string[] = []): BenchReport => ({
  format: 1,
  title: 'xksd: 100 requests/s',
  startedAt: '2026-01-02T03:04:05.678Z',
  machine: { processor: 'P <1>', cores: 2, memoryMiB: 1, kernel: 'Linux 6', node: 'v20', commit: null },
  settings: { mode: 'open', connections: 32 },
  signingMicros: 50,
  runs,
  faults,
});

t.test('figures of a run', async (t) => {
  t.match(summarize(run()), {
    answeredPerSecond: 100,
    failed: 0,
    p50Ms: 0.2,
    maxMs: 0.25,
    cpuMicrosPerRequest: 210,
    pssMiB: 3,
    driverCpuMicrosPerRequest: 50,
  });
  t.match(summarize(run({}, { processes: [] })), { cpuMicrosPerRequest: null, pssMiB: null });
});

t.test('a run has no fault, or says each', async (t) => {
  t.strictSame(faultsOf(run()), []);
  for (const [load, fault] of [
    [{ failures: { '503 X': 2, 'no answer': 1 } }, /3 requests failed/],
    [{ dropped: 4 }, /4 were not sent/],
    [{ late: 5 }, /5 were sent late/],
    [{ latency: latency(251_000) }, /p99 is 25\d\.\d ms/],
    [{ answered: 0, latency: latency() }, /nothing was answered/],
    [{ answered: 199 }, /200 requests were due and 199 are accounted for/],
  ] as const) {
    t.match(faultsOf(run(load))[0], fault);
  }
  const wrong = { verified: 9, wrong: 1, firstFault: 'another plaintext' };
  t.match(faultsOf(run({}, { verification: wrong })), [/1 answers were wrong: another plaintext/]);
});

t.test('a wrong answer is told from one that did not come', async (t) => {
  t.strictSame(wrongAnswersOf(run({ failures: { '503 X': 2 } })), []);
  t.match(wrongAnswersOf(run({ failures: { 'decrypt gave another plaintext': 3 } })), [
    /3 decrypts gave another plaintext/,
  ]);
  t.match(wrongAnswersOf(run({}, { verification: { verified: 9, wrong: 1, firstFault: 'x' } })), [/: x$/]);
});

t.test('the time of a closed loop is no fault', async (t) => {
  t.strictSame(faultsOf(run({ shape: { kind: 'closed', seconds: 2 }, latency: latency(900_000) })), []);
});

t.test('only processes that were there all the time count', async (t) => {
  const at = (pid: number, cpuMicros: number) => ({ pid, role: 'serving', cpuMicros, pssKiB: pid });
  t.strictSame(usedBetween([at(1, 10), at(2, 5)], [at(1, 35), at(3, 7)]), [
    { pid: 1, role: 'serving', cpuMicros: 25, pssKiB: 1 },
  ]);
});

t.test('runs join into one that is as long as all of them', async (t) => {
  const other = run({ late: 3, failures: { x: 1 }, latency: latency(9_000) });
  const joined = joinRuns('both', [run({ failures: { x: 2 } }), other]);
  t.match(joined, {
    name: 'both',
    load: {
      shape: { seconds: 4 },
      answered: 400,
      late: 3,
      failures: { x: 3 },
      elapsedMs: 4_000,
      latency: { maxMicros: 9_000 },
      series: [{ atSeconds: 0 }, { atSeconds: 1 }, { atSeconds: 2 }, { atSeconds: 3 }],
    },
    verification: { verified: 20, wrong: 0 },
    processes: [{ cpuMicros: 80_000 }, { cpuMicros: 4_000 }],
  });
});

t.test('what writes cost is the difference between the halves', async (t) => {
  const among = run(
    { latency: latency(200, 200, 250) },
    {
      processes: [{ pid: 1, role: 'serving', cpuMicros: 60_000, pssKiB: 1 }],
    },
  );
  t.equal(
    writeCosts(run({ latency: latency(100, 100, 250) }), among, 10),
    'with/without: p50 2.00  p99 1.00  p99.9 1.00\n' +
      'processor time, ms  a second without  with  a write\n' +
      'serving                           20    30     2.00',
  );
});

t.test('the text says what failed and that it failed', async (t) => {
  const text = reportText(report([run({ failures: { '503 X': 2 } })], ['a run: 2 requests failed']));
  for (const part of ['a run: 2 × 503 X', 'FAULT a run: 2 requests failed', '\nFAIL'])
    t.ok(text.includes(part), part);
  t.match(reportText(report([run()])), /\nPASS$/);
});

t.test('columns of a table line up', async (t) => {
  t.equal(
    textTable([
      ['', 'a', 'bb'],
      ['row', '100', '2'],
    ]),
    '       a  bb\nrow  100   2',
  );
});

t.test('the page needs nothing but itself, and nothing in it is taken for markup', async (t) => {
  const page = htmlPage(report([run({}, { name: '<b>&' }), run()], ['x < y']));
  t.notMatch(page, /(src|href)=|@import|url\(|<script/);
  t.notMatch(page, /<b>&|P <1>|x < y/);
  t.equal(page.match(/<svg /g)?.length, 3, 'three charts');
  t.notMatch(page, /NaN|undefined|Infinity/);
});

t.test('a run without an answer has a page too', async (t) => {
  const empty = run({ answered: 0, latency: latency(), series: [] });
  t.notMatch(htmlPage(report([empty], ['nothing'])), /NaN|undefined|Infinity/);
});

t.test('axes hold what they are made for, between round numbers', async (t) => {
  t.strictSame(linearAxis(1_830).ticks, [0, 500, 1_000, 1_500, 2_000]);
  const log = logAxis(0.34, 260);
  t.strictSame(log.ticks, [0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]);
  t.strictSame([log.at(0.2), log.at(0.01), log.at(500), log.at(1e9)], [0, 0, 1, 1]);
  t.ok(Math.abs(log.at(10) - Math.log(50) / Math.log(2_500)) < 1e-12);
});

t.test('each further nine takes as much room as the one before', async (t) => {
  const axis = percentileAxis(4);
  for (const [fraction, place] of [
    [0, 0],
    [0.9, 0.25],
    [0.99, 0.5],
    [0.9999, 1],
    [1, 1],
  ] as const) {
    t.ok(Math.abs(axis.at(fraction) - place) < 1e-9, `${fraction}`);
  }
});

t.test('self time of a profile, most first, waiting left out', async (t) => {
  const callFrame = (functionName: string, url = '') => ({ functionName, url, lineNumber: 4 });
  t.strictSame(
    selfTimes({
      nodes: [
        { id: 1, callFrame: callFrame('(idle)') },
        { id: 2, callFrame: callFrame('', 'file:///x/a.js') },
        { id: 3, callFrame: callFrame('write', 'node:net') },
        { id: 4, callFrame: callFrame('write', 'node:net') },
        { id: 5, callFrame: callFrame('(program)') },
        { id: 6, callFrame: callFrame('atomicsWaitLoop', 'file:///x/worker.js') },
      ],
      samples: [1, 2, 3, 4, 2, 5, 6],
      timeDeltas: [1_000, 5, 20, 30, 6, 60, 2_000],
    }),
    [
      { name: '(program)', micros: 60 },
      { name: 'write node:net:5', micros: 50 },
      { name: '(anonymous) a.js:5', micros: 11 },
    ],
  );
});
