import { spawnSync } from 'node:child_process';
import t from 'tap';
import { createServingMetrics, type ServingMetrics } from '../../src/ops/metrics.js';
import { expose } from '../../src/replica/exposition.js';
import { familiesOfJson } from '../../src/replica/metrics-json.js';

/** What Prometheus sees of them, on their way through the replica. */
async function exposed({ registry }: ServingMetrics): Promise<string> {
  const report: unknown[] = JSON.parse(JSON.stringify(await registry.getMetricsAsJSON()));
  return expose(familiesOfJson(report));
}

t.test('requests are counted and timed under the names of operations.md', async (t) => {
  let droppedLogLines = 2;
  const metrics = createServingMetrics({ droppedLogLines: () => droppedLogLines });
  // A bound belongs to its bucket.
  for (const durationSeconds of [0.0125, 0.025, 1.5]) {
    metrics.observeRequest({
      operation: 'Encrypt',
      keyStore: 'payments',
      exception: '',
      errorType: '',
      durationSeconds,
    });
  }
  metrics.observeRequest({
    operation: 'unknown',
    keyStore: '',
    exception: 'InvalidUriPathException',
    errorType: 'non_retryable',
    durationSeconds: 0.3,
  });
  metrics.authFailure('signature');
  metrics.tlsCertificateNotAfter(1_800_000_000_000);
  metrics.ready(true);
  await exposed(metrics);
  droppedLogLines = 5;
  const text = await exposed(metrics);
  for (const line of [
    'xks_requests_total{operation="Encrypt",key_store="payments",exception="",error_type=""} 3',
    'xks_requests_total{operation="unknown",key_store="",exception="InvalidUriPathException",error_type="non_retryable"} 1',
    'xks_request_duration_seconds_bucket{le="0.01",operation="Encrypt",key_store="payments"} 0',
    'xks_request_duration_seconds_bucket{le="0.025",operation="Encrypt",key_store="payments"} 2',
    'xks_request_duration_seconds_bucket{le="0.25",operation="unknown",key_store=""} 0',
    'xks_request_duration_seconds_bucket{le="0.5",operation="unknown",key_store=""} 1',
    'xks_request_duration_seconds_bucket{le="1",operation="Encrypt",key_store="payments"} 2',
    'xks_request_duration_seconds_bucket{le="+Inf",operation="Encrypt",key_store="payments"} 3',
    'xks_request_duration_seconds_sum{operation="Encrypt",key_store="payments"} 1.5375',
    'xks_request_duration_seconds_count{operation="Encrypt",key_store="payments"} 3',
    'xks_auth_failures_total{reason="signature"} 1',
    'xks_tls_certificate_not_after_timestamp_seconds 1800000000',
    'xks_serving_ready 1',
    'xks_log_lines_dropped_total 5',
  ]) {
    t.ok(text.split('\n').includes(line), line);
  }
  t.match(text, /^xks_build_info\{version="\d+\.\d+\.\d+",node_version="\d+\.\d+\.\d+"\} 1$/m);
  for (const name of ['process_cpu_seconds_total', 'nodejs_eventloop_lag_p99_seconds', 'process_open_fds']) {
    t.match(text, new RegExp(`^${name} `, 'm'));
  }
});

t.test('promtool finds nothing to complain about in the names of ours', async (t) => {
  const metrics = createServingMetrics({ droppedLogLines: () => 0 });
  metrics.observeRequest({
    operation: 'Encrypt',
    keyStore: 'payments',
    exception: '',
    errorType: '',
    durationSeconds: 0.001,
  });
  const ours = (await exposed(metrics))
    .split('\n')
    .filter((line) => / xks_|^xks_/.test(line))
    .join('\n');
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
    input: `${ours}\n`,
    encoding: 'utf8',
  });
  t.equal(status, 0, stdout + stderr);
});

t.test('each registry is its own', async (t) => {
  const one = createServingMetrics({ droppedLogLines: () => 0 });
  const other = createServingMetrics({ droppedLogLines: () => 0 });
  one.authFailure('signature');
  t.notMatch(await exposed(other), 'xks_auth_failures_total{');
});
