import { spawnSync } from 'node:child_process';
import t from 'tap';
import { createServingMetrics } from '../../src/ops/metrics.js';

t.test('requests are counted and timed under the names of operations.md', async (t) => {
  let droppedLogLines = 2;
  const metrics = createServingMetrics({ droppedLogLines: () => droppedLogLines });
  metrics.observeRequest({
    operation: 'Encrypt',
    keyStore: 'payments',
    exception: '',
    errorType: '',
    durationSeconds: 0.0123,
  });
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
  await metrics.registry.metrics();
  droppedLogLines = 5;
  const text = await metrics.registry.metrics();
  for (const line of [
    'xks_requests_total{operation="Encrypt",key_store="payments",exception="",error_type=""} 1',
    'xks_requests_total{operation="unknown",key_store="",exception="InvalidUriPathException",error_type="non_retryable"} 1',
    'xks_request_duration_seconds_bucket{le="0.01",operation="Encrypt",key_store="payments"} 0',
    'xks_request_duration_seconds_bucket{le="0.025",operation="Encrypt",key_store="payments"} 1',
    'xks_request_duration_seconds_bucket{le="0.25",operation="unknown",key_store=""} 0',
    'xks_request_duration_seconds_bucket{le="0.5",operation="unknown",key_store=""} 1',
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
  const ours = (await metrics.registry.metrics())
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
  t.notMatch(await other.registry.metrics(), 'xks_auth_failures_total{');
});
