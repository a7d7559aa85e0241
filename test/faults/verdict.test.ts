import t from 'tap';
import type { FaultCase } from './fault-case.js';
import type { StretchReport } from './load-protocol.js';
import { LoadRecord } from './load-record.js';
import { problemsOf, verdictOf } from './verdict.js';

const faultCase: FaultCase = {
  name: 'x',
  fault: 'x',
  reached: 'directly',
  allowed: { failed: 2, p99Ms: 100 },
  begin: () => {},
};
const well: StretchReport = {
  seconds: 10,
  requests: 100,
  failed: 0,
  late: 0,
  wrong: 0,
  p99Ms: 10,
  maxMs: 20,
  servedP99Ms: 10,
  refusedP99Ms: 2,
  said: {},
  sentLate: 0,
};

t.test('a token that is ill alone may only say so, in time', async (t) => {
  const problems = (during: Partial<StretchReport>, recoveryMs: number | null = 0, after = well) =>
    problemsOf(faultCase, 1, { during: { ...well, ...during }, recoveryMs, after });
  t.strictSame(problems({ failed: 100, p99Ms: 240 }), []);
  t.match(problems({ wrong: 1 }), [/1 wrong/]);
  t.match(problems({}, 0, { ...well, wrong: 1 }), [/1 wrong/]);
  t.match(problems({ late: 1 }), [/1 answers later/]);
  t.match(problems({}, 2_100), [/2.1 s to recover/]);
  t.match(problems({}, null), [/not recovered/]);
  t.match(problems({ requests: 0 }), [/nothing was asked/]);
});

t.test('with another token, or a fault that harms nobody, requests are served', async (t) => {
  for (const [tokens, one] of [
    [2, faultCase],
    [1, { ...faultCase, harmless: true }],
  ] as const) {
    const problems = (during: Partial<StretchReport>) =>
      problemsOf(one, tokens, { during: { ...well, ...during }, recoveryMs: 0, after: well });
    t.strictSame(problems({ failed: 2 }), []);
    t.match(problems({ failed: 3 }), [/3 requests failed, 2 may/]);
    t.match(problems({ p99Ms: 100 }), [/p99 is not below 100/]);
    t.match(problems({ p99Ms: Number.NaN }), [/p99/], 'nothing was answered');
  }
});

t.test('where no token is left, or too little room, what could be served is', async (t) => {
  const problems = (one: Partial<FaultCase>, during: Partial<StretchReport>, capacity = 3) =>
    problemsOf({ ...faultCase, ...one }, 2, {
      during: { ...well, ...during },
      recoveryMs: 0,
      after: well,
      capacity,
    });
  t.strictSame(problems({ breaksAll: true }, { failed: 100 }), []);
  const overload = {
    breaksAll: true,
    overload: { callsEach: 3, capacityShareMin: 0.9, servedP99Ms: 150, refusedP99Ms: 10 },
  };
  t.strictSame(problems(overload, { failed: 73, servedP99Ms: 149, refusedP99Ms: 9 }), []);
  t.match(problems(overload, { failed: 74 }), [/86.7% of the capacity was served, 90% is to be/]);
  t.match(problems(overload, {}, Number.NaN), [/of the capacity/], 'it is not known');
  t.match(problems(overload, { servedP99Ms: 150 }), [/what was served is not below 150/]);
  t.match(problems(overload, { refusedP99Ms: 10 }), [/refusals is not below 10/]);
  t.match(problems(overload, { refusedP99Ms: Number.NaN }), [/refusals/], 'nothing was refused');
});

t.test('a starved load judges nothing but what is wrong', async (t) => {
  const outcome = (during: Partial<StretchReport>) => ({
    during: { ...well, ...during },
    recoveryMs: 0,
    after: well,
  });
  t.equal(verdictOf([], outcome({ sentLate: 50 })), 'ok');
  t.equal(verdictOf(['late'], outcome({ late: 1, sentLate: 1 })), 'failed');
  t.equal(verdictOf(['late'], outcome({ late: 1, sentLate: 2 })), 'not-judged');
  t.equal(verdictOf(['wrong'], outcome({ wrong: 1, sentLate: 50 })), 'failed');
  t.equal(verdictOf(['it broke'], null), 'failed');
});

t.test('a record counts by when requests were due', async (t) => {
  const record = new LoadRecord();
  const right = { kind: 'right', what: 'right' } as const;
  const ask = (
    dueMs: number,
    verdict: Parameters<LoadRecord['answered']>[1] | null,
    tookMs: number,
  ): void => {
    const number = record.due(dueMs, false);
    if (verdict !== null) record.answered(number, verdict, dueMs + tookMs);
  };
  ask(900, { kind: 'wrong', what: 'before' }, 1);
  ask(1_000, right, 10);
  ask(1_100, right, 251);
  ask(1_200, { kind: 'failed', what: '503' }, 30);
  ask(1_300, { kind: 'wrong', what: '404' }, 5);
  t.equal(record.lastFailureMs, 1_305);
  ask(1_400, null, 0);
  ask(2_000, { kind: 'failed', what: 'after' }, 1);
  t.match(record.report({ fromMs: 1_000, untilMs: 2_000 }), {
    requests: 5,
    failed: 2,
    late: 2,
    wrong: 1,
    said: { '503': 1, '404': 1, 'no answer': 1 },
  });
  t.equal(record.hasWaited(4, 1_300 + 250), false);
  t.equal(record.hasWaited(4, 1_300 + 251), true);
});
