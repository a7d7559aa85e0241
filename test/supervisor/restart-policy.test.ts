import t from 'tap';
import { limits } from '../../src/keystate/types.js';
import {
  RestartPolicy,
  restartDelayMaxMs,
  stableAfterMs,
  usefulAfterMs,
} from '../../src/supervisor/restart-policy.js';

t.test('the first restart is immediate, later ones back off to half a minute', async (t) => {
  const policy = new RestartPolicy(() => 1);
  const delays = Array.from({ length: 12 }, () => policy.afterExit(10));
  t.same(delays, [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
});

t.test('jitter takes away at most half', async (t) => {
  const policy = new RestartPolicy(() => 0);
  t.same([policy.afterExit(0), policy.afterExit(0), policy.afterExit(0)], [0, 50, 100]);
});

t.test('who lived long enough starts afresh', async (t) => {
  const policy = new RestartPolicy(() => 1);
  for (let n = 0; n < 5; n++) policy.afterExit(0);
  t.equal(policy.afterExit(stableAfterMs - 1), 1_600);
  t.equal(policy.afterExit(stableAfterMs), 0);
  t.equal(policy.afterExit(0), 100);
});

t.test('who needs a person is tried at the slowest pace', async (t) => {
  const policy = new RestartPolicy(() => 1);
  t.equal(policy.afterFatal(), restartDelayMaxMs);
  t.equal(policy.afterExit(0), 100, 'and is no newcomer afterwards');
});

t.test('who was of use before it ended is back well within the smallest isolation bound', async (t) => {
  const policy = new RestartPolicy(() => 1);
  for (let n = 0; n < 20; n++) policy.afterExit(0);
  t.equal(policy.afterExit(usefulAfterMs - 1), restartDelayMaxMs, 'a crash loop is bounded as before');
  const delays = Array.from({ length: 20 }, () => policy.afterExit(usefulAfterMs));
  t.same(new Set(delays), new Set([1_600]), 'however often');
  t.ok(1_600 < limits.isolationBoundMsMin / 3, 'with time to start, to find the leader and to be confirmed');
});

t.test('who was of use and then fails at its start backs off again', async (t) => {
  const policy = new RestartPolicy(() => 1);
  for (let n = 0; n < 20; n++) policy.afterExit(0);
  policy.afterExit(usefulAfterMs);
  t.same([policy.afterExit(0), policy.afterExit(0), policy.afterExit(0)], [3_200, 6_400, 12_800]);
});

t.test('to have been of use makes no failures', async (t) => {
  const policy = new RestartPolicy(() => 1);
  t.same([policy.afterExit(usefulAfterMs), policy.afterExit(usefulAfterMs)], [0, 100]);
});
