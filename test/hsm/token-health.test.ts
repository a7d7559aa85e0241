import t from 'tap';
import {
  freshHealth,
  type HealthCheck,
  healthAgeMaxMs,
  healthSlowMs,
  judgeHealth,
  withCheck,
} from '../../src/hsm/token-health.js';

const passed = (atMs: number, tookMs = 1): HealthCheck => ({ kind: 'passed', atMs, tookMs });
const failed = (atMs: number): HealthCheck => ({
  kind: 'failed',
  atMs,
  reason: 'C_Encrypt returned CKR_DEVICE_ERROR',
});

t.test('X-H3: ACTIVE after a check that passed', async (t) => {
  const health = withCheck(freshHealth(0, true), passed(10));
  t.strictSame(judgeHealth(health, 20), { state: 'ACTIVE', reason: null });
});

t.test('X-H3: a failing check makes it UNAVAILABLE, the next that passes ACTIVE', async (t) => {
  const ill = withCheck(withCheck(freshHealth(0, true), passed(10)), failed(1_010));
  t.match(judgeHealth(ill, 1_010), { state: 'UNAVAILABLE', reason: /CKR_DEVICE_ERROR/ });
  t.match(judgeHealth(withCheck(ill, passed(2_010)), 2_010), { state: 'ACTIVE' });
});

t.test('X-H3: a result older than 5 s says nothing', async (t) => {
  t.equal(healthAgeMaxMs, 5_000);
  const health = withCheck(freshHealth(0, true), passed(10));
  t.match(judgeHealth(health, 10 + healthAgeMaxMs), { state: 'ACTIVE' });
  t.match(judgeHealth(health, 11 + healthAgeMaxMs), {
    state: 'UNAVAILABLE',
    reason: /has not passed for 5 s/,
  });
});

t.test('X-H3: slow is DEGRADED', async (t) => {
  const health = freshHealth(0, true);
  t.match(judgeHealth(withCheck(health, passed(10, healthSlowMs)), 10), { state: 'ACTIVE' });
  t.match(judgeHealth(withCheck(health, passed(10, healthSlowMs + 1)), 10), {
    state: 'DEGRADED',
    reason: /slow/,
  });
});

t.test('busy is DEGRADED, until nothing has passed for too long', async (t) => {
  const health = withCheck(withCheck(freshHealth(0, true), passed(10)), { kind: 'busy', atMs: 1_010 });
  t.match(judgeHealth(health, 1_010), { state: 'DEGRADED', reason: /busy/ });
  t.match(judgeHealth(health, 11 + healthAgeMaxMs), { state: 'UNAVAILABLE' });
});

t.test('before the first check: DEGRADED, but not for ever', async (t) => {
  t.match(judgeHealth(freshHealth(0, true), 10), { state: 'DEGRADED', reason: /under way/ });
  t.match(judgeHealth(freshHealth(0, true), healthAgeMaxMs + 1), { state: 'UNAVAILABLE' });
});

t.test('without a test key: DEGRADED, and what to run', async (t) => {
  t.match(judgeHealth(freshHealth(0, false), 1e9), { state: 'DEGRADED', reason: /xksctl hsm prepare/ });
});
