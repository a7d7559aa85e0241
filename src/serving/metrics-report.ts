import type { Registry } from 'prom-client';
import { encodeFrame } from '../ops/frames.js';
import type { ServingMetrics } from '../ops/metrics.js';
import { FrameType, frameBytesMax, type MetricsReport, type TokenStatus } from '../ops/state-link.js';
import type { CredentialUse } from './credential-use.js';
import type { Readiness } from './readiness.js';

/** The report of this process as a frame; without its metrics when those outgrew a frame. */
export async function metricsFrame(
  metrics: Pick<ServingMetrics, 'registry'>,
  credentialUse: Pick<CredentialUse, 'report'>,
  readiness: Readiness,
  tokens: readonly TokenStatus[],
): Promise<{ readonly frame: Buffer; readonly metricsLeftOut: boolean }> {
  const report: MetricsReport = {
    metrics: await collected(metrics.registry),
    credentialLastUsedMs: credentialUse.report(),
    readiness,
    tokens,
  };
  const whole = encodeReport(report);
  return whole === null
    ? { frame: encodeReport({ ...report, metrics: [] }) ?? Buffer.alloc(0), metricsLeftOut: true }
    : { frame: whole, metricsLeftOut: false };
}

/**
 * All metrics, one in each turn of the event loop: some read /proc, and at one go they would keep every request waiting
 * that comes meanwhile.
 */
async function collected(registry: Registry): Promise<readonly unknown[]> {
  const families: unknown[] = [];
  for (const { name } of registry.getMetricsAsArray()) {
    families.push(await registry.getSingleMetric(name)?.get());
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  return families;
}

function encodeReport(report: MetricsReport): Buffer | null {
  const payload = Buffer.from(JSON.stringify(report), 'utf8');
  return payload.byteLength < frameBytesMax ? encodeFrame(FrameType.metrics, payload) : null;
}
