import { isJsonObject } from '../base/guards.js';
import type { Labels, MetricFamily, MetricType, Sample } from './exposition.js';

/** Families of one report that are looked at. */
const familiesMax = 1_000;
/** Samples of one family that are looked at: a process whose labels run away does not take the replica with it. */
const samplesPerFamilyMax = 20_000;

const namePattern = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const types: ReadonlySet<unknown> = new Set<MetricType>(['counter', 'gauge', 'histogram', 'summary']);

const isMetricType = (value: unknown): value is MetricType => types.has(value);

function labelsOf(value: unknown): Labels {
  if (!isJsonObject(value)) return {};
  return Object.fromEntries(Object.entries(value).map(([name, label]) => [name, String(label)]));
}

/** JSON has no NaN and no infinities: prom-client's become `null`, and are left out. */
function sampleOf(value: unknown, family: string): Sample | null {
  if (!isJsonObject(value) || typeof value['value'] !== 'number') return null;
  const { metricName } = value;
  const name = typeof metricName === 'string' ? metricName : family;
  if (!namePattern.test(name)) return null;
  return { name, labels: labelsOf(value['labels']), value: value['value'] };
}

/** What prom-client's `getMetricsAsJSON` gave, after its way through JSON; what is not that is left out. */
export function familiesOfJson(metrics: readonly unknown[]): MetricFamily[] {
  const families: MetricFamily[] = [];
  for (const metric of metrics.slice(0, familiesMax)) {
    if (!isJsonObject(metric)) continue;
    const { name, help, type, values } = metric;
    if (typeof name !== 'string' || !namePattern.test(name)) continue;
    if (!isMetricType(type) || !Array.isArray(values)) continue;
    // prom-client's nodejs_active_…_total are gauges, which may not be called so (promtool), and sums of others.
    if (type === 'gauge' && name.endsWith('_total')) continue;
    const samples = values
      .slice(0, samplesPerFamilyMax)
      .map((value) => sampleOf(value, name))
      .filter((sample) => sample !== null);
    families.push({ name, help: typeof help === 'string' ? help : name, type, samples });
  }
  return families;
}
