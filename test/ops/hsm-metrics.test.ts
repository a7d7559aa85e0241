import { spawnSync } from 'node:child_process';
import { Registry } from 'prom-client';
import t from 'tap';
import { createHsmMetrics, type HsmCalls, type HsmCounts } from '../../src/ops/hsm-metrics.js';
import { expose } from '../../src/replica/exposition.js';
import { familiesOfJson } from '../../src/replica/metrics-json.js';
import { tokenStatus } from '../support/pipeline-fixture.js';

const counts: HsmCounts = {
  hsm: 'a',
  outstanding: 2,
  retries: 3,
  hedges: 4,
  breakerIsOpen: true,
  failures: { failed: 5, deadline: 1 },
};

const called: HsmCalls = {
  hsm: 'a',
  boundsSeconds: [0.001, 0.01],
  functions: [{ functionName: 'C_Encrypt', byDuration: [5, 2, 1], seconds: 0.5 }],
  operations: 8,
  roundTrips: 33,
  repeats: 1,
};

t.test('tokens under the names of operations.md, promtool agreeing', async (t) => {
  const registry = new Registry();
  let now: readonly HsmCounts[] = [counts];
  const metrics = createHsmMetrics(registry, {
    status: () => [
      tokenStatus({ serial: 'a', state: 'DEGRADED', sessions: 8, stuckCells: 1 }),
      tokenStatus({ serial: null, label: 'b' }),
    ],
    counts: () => now,
    calls: () => [called],
  });
  metrics.observeCall('a', 'encrypt', 0.0004);
  await registry.metrics();
  now = [{ ...counts, retries: 10, breakerIsOpen: false }];
  // On its way through the replica.
  const report: unknown[] = JSON.parse(JSON.stringify(await registry.getMetricsAsJSON()));
  const text = expose(familiesOfJson(report));
  for (const line of [
    'xks_hsm_call_duration_seconds_bucket{le="0.00025",hsm="a",operation="encrypt"} 0',
    'xks_hsm_call_duration_seconds_bucket{le="0.0005",hsm="a",operation="encrypt"} 1',
    'xks_hsm_failures_total{hsm="a",kind="failed"} 5',
    'xks_hsm_failures_total{hsm="a",kind="deadline"} 1',
    'xks_hsm_retries_total{hsm="a"} 10',
    'xks_hsm_hedges_total{hsm="a"} 4',
    'xks_hsm_breaker_open{hsm="a"} 0',
    'xks_hsm_outstanding{hsm="a"} 2',
    'xks_hsm_sessions{hsm="a"} 8',
    'xks_hsm_operations_total{hsm="a"} 8',
    'xks_hsm_round_trips_total{hsm="a"} 33',
    'xks_hsm_repeats_total{hsm="a"} 1',
    'xks_pkcs11_call_duration_seconds_bucket{le="0.001",hsm="a",function="C_Encrypt"} 5',
    'xks_pkcs11_call_duration_seconds_bucket{le="0.01",hsm="a",function="C_Encrypt"} 7',
    'xks_pkcs11_call_duration_seconds_bucket{le="+Inf",hsm="a",function="C_Encrypt"} 8',
    'xks_pkcs11_call_duration_seconds_sum{hsm="a",function="C_Encrypt"} 0.5',
    'xks_pkcs11_call_duration_seconds_count{hsm="a",function="C_Encrypt"} 8',
    'xks_hsm_stuck_calls{hsm="a"} 1',
    'xks_hsm_sessions{hsm="b"} 1',
    'xks_ekm_instances{state="ACTIVE"} 1',
    'xks_ekm_instances{state="DEGRADED"} 1',
    'xks_ekm_instances{state="UNAVAILABLE"} 0',
  ]) {
    t.ok(text.split('\n').includes(line), line);
  }
  const checked = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
  t.equal(checked.status, 0, checked.stdout + checked.stderr);
});

t.test('a token that gets another name leaves none behind, and is not counted again', async (t) => {
  const registry = new Registry();
  let serial: string | null = null;
  createHsmMetrics(registry, {
    status: () => [tokenStatus({ serial, label: 'label' })],
    counts: () => [{ ...counts, hsm: serial ?? 'label' }],
    calls: () => [],
  });
  await registry.metrics();
  serial = 'serial';
  const lines = (await registry.metrics()).split('\n');
  t.strictSame(
    lines.filter((line) => line.includes('label')),
    [
      'xks_hsm_failures_total{hsm="label",kind="failed"} 5',
      'xks_hsm_failures_total{hsm="label",kind="deadline"} 1',
      'xks_hsm_retries_total{hsm="label"} 3',
      'xks_hsm_hedges_total{hsm="label"} 4',
    ],
    'what was counted stays, what is now is told of the new name only',
  );
  for (const line of [
    'xks_hsm_retries_total{hsm="serial"} 0',
    'xks_hsm_failures_total{hsm="serial",kind="failed"} 0',
    'xks_hsm_breaker_open{hsm="serial"} 1',
  ]) {
    t.ok(lines.includes(line), line);
  }
});
