import t from 'tap';
import {
  type AcceptInputs,
  acceptAnywayAfterMs,
  judgeReadiness,
  mayAccept,
  type ReadinessInputs,
} from '../../src/serving/readiness.js';
import { tokenStatus } from '../support/pipeline-fixture.js';

const ready: ReadinessInputs = {
  draining: false,
  hasState: true,
  standing: { mayServe: true, reason: '', fleetSize: 1 },
  isolated: false,
  tokens: [tokenStatus({})],
  prepared: true,
  secretsAvailable: true,
  secretFault: null,
};

t.test('X-H4: ready with key state, a usable token and secrets', async (t) => {
  t.strictSame(judgeReadiness(ready), { ready: true, reason: 'ready' });
  const slow = [tokenStatus({ state: 'DEGRADED', reason: 'slow' })];
  t.ok(judgeReadiness({ ...ready, tokens: slow }).ready, 'a slow token serves');
  const two = [tokenStatus({ state: 'UNAVAILABLE' }), tokenStatus({})];
  t.ok(judgeReadiness({ ...ready, tokens: two }).ready, 'one is enough');
});

const unavailable = tokenStatus({ state: 'UNAVAILABLE', reason: 'the PIN was refused (CKR_PIN_INCORRECT)' });
for (const [missing, reason] of [
  [{ draining: true }, /draining/],
  [{ hasState: false }, /key state has not arrived/],
  [
    { standing: { mayServe: false, reason: 'removed from the cluster', fleetSize: 1 } },
    /removed from the cluster/,
  ],
  [{ isolated: true }, /cut off from the others.*on-isolation/],
  [{ tokens: [unavailable] }, /no usable token \(soft: the PIN was refused/],
  [{ prepared: false }, /not prepared; run: xksctl hsm prepare/],
  [{ secretsAvailable: false }, /not unwrapped yet$/],
  [{ secretsAvailable: false, secretFault: 'because' }, /not unwrapped yet: because/],
] as const) {
  t.test(`X-H4: not ready: ${reason.source}`, async (t) => {
    t.match(judgeReadiness({ ...ready, ...missing }), { ready: false, reason });
  });
}

t.test('a process that is not ready takes no connections from those that are', async (t) => {
  const starting: AcceptInputs = {
    ready: false,
    firstAttemptConcluded: true,
    sinceStartMs: 0,
    readyServingProcesses: 0,
  };
  const rows: readonly (readonly [Partial<AcceptInputs>, boolean])[] = [
    [{ ready: true, readyServingProcesses: 3 }, true],
    [{ ready: true, readyServingProcesses: null, firstAttemptConcluded: false }, true],
    [{}, true],
    [{ readyServingProcesses: 1 }, false],
    [{ readyServingProcesses: null }, false],
    [{ firstAttemptConcluded: false }, false],
    [{ firstAttemptConcluded: false, sinceStartMs: acceptAnywayAfterMs - 1 }, false],
    [{ firstAttemptConcluded: false, sinceStartMs: acceptAnywayAfterMs }, true],
    [{ sinceStartMs: acceptAnywayAfterMs, readyServingProcesses: 1 }, false],
  ];
  for (const [changes, expected] of rows) {
    t.equal(mayAccept({ ...starting, ...changes }), expected, JSON.stringify(changes));
  }
});
