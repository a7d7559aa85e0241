import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { createHsmMetrics } from '../../src/ops/hsm-metrics.js';
import { createProcessRegistry, createServingMetrics } from '../../src/ops/metrics.js';
import type { Hello } from '../../src/ops/state-link.js';
import { ClusterMetrics } from '../../src/replica/cluster-metrics.js';
import { expose, type MetricFamily } from '../../src/replica/exposition.js';
import { MetricsAggregation } from '../../src/replica/metrics-aggregation.js';
import { ReplicaMetrics } from '../../src/replica/replica-metrics.js';
import { makeReplica } from './replica-at-seams.js';
import { foundCluster, hear, joinMember, peerStats } from './replica-in-cluster.js';

const hello = (processId: string, slot = 1, linkedBefore = false): Hello => ({
  linkVersion: 1,
  pid: 1,
  slot,
  supervisorNonce: 'n',
  processId,
  startedAtMs: 0,
  linkedBefore,
  version: '0.0.0',
});

/** The metrics of one serving process, as they arrive at the replica. */
function servingProcess() {
  const registry = new Registry();
  const registers = [registry];
  const requests = new Counter({
    name: 'xks_requests_total',
    help: 'Requests.',
    labelNames: ['operation'],
    registers,
  });
  const duration = new Histogram({
    name: 'xks_request_duration_seconds',
    help: 'Time.',
    buckets: [0.1, 1],
    registers,
  });
  const connections = new Gauge({ name: 'xks_connections', help: 'Connections.', registers });
  return {
    requests,
    duration,
    connections,
    json: async (): Promise<unknown[]> => JSON.parse(JSON.stringify(await registry.getMetricsAsJSON())),
  };
}

const text = (aggregation: MetricsAggregation): string => expose(aggregation.families([], []));

function sampleOf(aggregation: MetricsAggregation, series: string): number | null {
  const line = text(aggregation)
    .split('\n')
    .find((candidate) => candidate.startsWith(`${series} `));
  return line === undefined ? null : Number(line.slice(series.length + 1));
}

t.test('counters and histograms are summed over processes', async (t) => {
  const aggregation = new MetricsAggregation();
  for (const [index, id] of ['a', 'b'].entries()) {
    const serving = servingProcess();
    aggregation.linked(hello(id, index + 1));
    serving.requests.inc({ operation: 'Encrypt' }, 3 + index);
    serving.duration.observe(0.05);
    serving.duration.observe(5);
    aggregation.report(hello(id, index + 1), await serving.json());
  }
  t.equal(sampleOf(aggregation, 'xks_requests_total{operation="Encrypt"}'), 7);
  t.equal(sampleOf(aggregation, 'xks_request_duration_seconds_bucket{le="0.1"}'), 2);
  t.equal(sampleOf(aggregation, 'xks_request_duration_seconds_bucket{le="+Inf"}'), 4);
  t.equal(sampleOf(aggregation, 'xks_request_duration_seconds_count'), 4);
  t.equal(sampleOf(aggregation, 'xks_request_duration_seconds_sum'), 10.1);
});

t.test('a report repeated adds nothing, a later one its difference', async (t) => {
  const aggregation = new MetricsAggregation();
  const serving = servingProcess();
  aggregation.linked(hello('a'));
  const series = 'xks_requests_total{operation="Encrypt"}';
  serving.requests.inc({ operation: 'Encrypt' }, 5);
  aggregation.report(hello('a'), await serving.json());
  aggregation.report(hello('a'), await serving.json());
  t.equal(sampleOf(aggregation, series), 5);
  serving.requests.inc({ operation: 'Encrypt' }, 2);
  aggregation.report(hello('a'), await serving.json());
  t.equal(sampleOf(aggregation, series), 7);
});

t.test('what a process counted stays when it dies, its gauges go', async (t) => {
  const aggregation = new MetricsAggregation();
  const first = servingProcess();
  aggregation.linked(hello('first'));
  first.requests.inc({ operation: 'Encrypt' }, 5);
  first.connections.set(9);
  aggregation.report(hello('first'), await first.json());
  t.equal(sampleOf(aggregation, 'xks_connections{process="serving-1"}'), 9);
  aggregation.unlinked(hello('first'));
  const series = 'xks_requests_total{operation="Encrypt"}';
  t.equal(sampleOf(aggregation, series), 5);
  t.equal(sampleOf(aggregation, 'xks_connections{process="serving-1"}'), null);
  const second = servingProcess();
  aggregation.linked(hello('second'));
  second.requests.inc({ operation: 'Encrypt' }, 1);
  aggregation.report(hello('second'), await second.json());
  t.equal(sampleOf(aggregation, series), 6, 'never less than before');
});

t.test('a link that was cut and comes back counts on', async (t) => {
  const aggregation = new MetricsAggregation();
  const serving = servingProcess();
  aggregation.linked(hello('a'));
  serving.requests.inc({ operation: 'Encrypt' }, 5);
  aggregation.report(hello('a'), await serving.json());
  aggregation.unlinked(hello('a'));
  serving.requests.inc({ operation: 'Encrypt' }, 2);
  aggregation.linked(hello('a', 1, true));
  aggregation.report(hello('a', 1, true), await serving.json());
  t.equal(sampleOf(aggregation, 'xks_requests_total{operation="Encrypt"}'), 7);
});

t.test('a process older than the replica: its first report is where counting begins', async (t) => {
  const aggregation = new MetricsAggregation();
  const serving = servingProcess();
  serving.requests.inc({ operation: 'Encrypt' }, 1_000);
  aggregation.linked(hello('old', 1, true));
  aggregation.report(hello('old', 1, true), await serving.json());
  const series = 'xks_requests_total{operation="Encrypt"}';
  t.equal(sampleOf(aggregation, series), 0, 'an earlier replica has counted it');
  serving.requests.inc({ operation: 'Encrypt' }, 2);
  serving.requests.inc({ operation: 'Decrypt' }, 1);
  aggregation.report(hello('old', 1, true), await serving.json());
  t.equal(sampleOf(aggregation, series), 2);
  t.equal(sampleOf(aggregation, 'xks_requests_total{operation="Decrypt"}'), 1, 'a series that began since');
});

t.test('a report that is no report harms nothing', async (t) => {
  const aggregation = new MetricsAggregation();
  aggregation.linked(hello('a'));
  aggregation.report(hello('a'), [
    null,
    1,
    {},
    { name: 'bad name', type: 'counter', values: [] },
    { name: 'no_values', type: 'counter' },
    { name: 'unknown_type', type: 'thing', values: [] },
    { name: 'x_total', type: 'counter', help: 'X.', values: [{ value: null, labels: {} }, 3, { value: 1 }] },
    { name: 'x_total', type: 'gauge', help: 'X.', values: [{ value: 1, labels: {} }] },
  ]);
  t.equal(text(aggregation), '# HELP x_total X.\n# TYPE x_total counter\nx_total 1\n');
});

t.test('label values and help are escaped as the exposition format says', async (t) => {
  const family: MetricFamily = {
    name: 'x',
    help: 'a\\b\nc"',
    type: 'gauge',
    samples: [{ name: 'x', labels: { l: 'q"\\\n' }, value: Number.POSITIVE_INFINITY }],
  };
  t.equal(expose([family]), '# HELP x a\\\\b\\nc"\n# TYPE x gauge\nx{l="q\\"\\\\\\n"} +Inf\n');
});

t.test('promtool finds nothing to say about what Prometheus gets', async (t) => {
  const made = await makeReplica(t);
  const { publication, log, cluster, ivWatch, ivReservations } = made;
  await foundCluster(made);
  const memberId = await joinMember(made, 'node-2');
  hear(made, memberId, {});
  cluster.notAfterMs = 1_000;
  cluster.stats = peerStats([{ memberId, connected: true }]);
  const aggregation = new MetricsAggregation();
  for (const slot of [1, 2]) {
    const serving = createServingMetrics({ droppedLogLines: () => 0 });
    serving.observeRequest({
      operation: 'Encrypt',
      keyStore: 'a"b',
      exception: '',
      errorType: '',
      durationSeconds: 0.01,
    });
    serving.authFailure('unknown-credential');
    serving.tlsCertificateNotAfter(1);
    serving.ready(true);
    aggregation.linked(hello(`process-${slot}`, slot));
    const json: unknown = JSON.parse(JSON.stringify(await serving.registry.getMetricsAsJSON()));
    aggregation.report(hello(`process-${slot}`, slot), json as unknown[]);
  }
  const node = new ReplicaMetrics({
    state: () => log.machine.state,
    publication,
    aggregation,
    engine: cluster,
    bootTimeMs: () => cluster.nowMs,
    diskSpace: { freeBytes: 2 ** 30 },
    ivWatch,
    ivReservations,
  });
  node.observeLogSync(1.5);
  const among = new ClusterMetrics({
    cluster,
    state: () => log.machine.state,
    clock: systemClock,
    version: '0.0.0',
  });
  const replica = createProcessRegistry({ droppedLogLines: () => 0 });
  const exposed = expose(
    aggregation.families([...(await node.json()), ...(await among.json())], await replica.getMetricsAsJSON()),
  );
  const checked = spawnSync('promtool', ['check', 'metrics'], { input: exposed, encoding: 'utf8' });
  t.equal(checked.status, 0, checked.stderr);
  t.equal(checked.stderr + checked.stdout, '');
  for (const series of [
    /^xks_build_info\{.*process="replica"\} 1$/m,
    /^xks_log_lines_dropped_total\{process="replica"\} 0$/m,
    /^xks_log_lines_dropped_total\{process="serving-2"\} 0$/m,
    /^xks_build_info\{.*process="serving-2"\} 1$/m,
    /^process_cpu_seconds_total\{process="serving-1"\} /m,
    /^xks_key_state_applied_index 3$/m,
    /^xks_serving_processes_connected 0$/m,
    /^xks_may_serve 1$/m,
    /^xks_cluster_member_heard_age_seconds\{member="node-2"\} 0$/m,
    /^xks_peer_messages_dropped_total\{kind="raft"\} 0$/m,
    /^xks_log_sync_duration_seconds_count 1$/m,
    /^xks_requests_total\{.*key_store="a\\"b".*\} 2$/m,
  ]) {
    t.match(exposed, series);
  }
});

t.test('operators read of every metric, and of no other', async (t) => {
  const { publication, log, cluster, diskSpace, clock, ivWatch, ivReservations } = await makeReplica(t);
  const state = () => log.machine.state;
  const bootTimeMs = () => cluster.nowMs;
  const aggregation = new MetricsAggregation();
  const node = new ReplicaMetrics({
    state,
    publication,
    aggregation,
    engine: cluster,
    bootTimeMs,
    diskSpace,
    ivWatch,
    ivReservations,
  });
  const serving = createServingMetrics({ droppedLogLines: () => 0 });
  createHsmMetrics(serving.registry, { status: () => [], counts: () => [], calls: () => [] });
  const families = [
    await node.json(),
    await new ClusterMetrics({ cluster, state, clock, version: '0.0.0' }).json(),
    await createProcessRegistry({ droppedLogLines: () => 0 }).getMetricsAsJSON(),
    await serving.registry.getMetricsAsJSON(),
  ];
  const made = families.flat().map((family) => String((family as { readonly name?: unknown }).name));
  const documentation = ['operating.md', 'hsm.md']
    .map((page) => readFileSync(new URL(`../../../docs/${page}`, import.meta.url), 'utf8'))
    .join('\n');
  // In the first cells of tables, with their labels.
  const firstCells = [...documentation.matchAll(/^\| (`xks_[^|]*)\|/gm)].map(([, cell]) => cell).join('\n');
  const documented = [...firstCells.matchAll(/xks_[a-z0-9_]+/g)].map(([name]) => name);
  const ours = made.filter((name) => name.startsWith('xks_'));
  t.strictSame([...new Set(documented)].sort(), [...new Set(ours)].sort());
});
