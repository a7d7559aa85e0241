import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { CountedHistogram } from './counted-histogram.js';
import { RequestSeries } from './request-series.js';
import { softwareVersion } from './version.js';

/** Seconds. Dense around KMS's 250 ms and our own deadline (operations.md). */
const requestDurationBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.5, 1];

export interface RequestObservation {
  /** The XKS operation's name, or `unknown`. */
  readonly operation: string;
  /** The key store's name, empty when the request named none that exists. */
  readonly keyStore: string;
  /** The XKS exception answered, empty for a success. */
  readonly exception: string;
  /** What KMS makes of the exception; empty for a success. */
  readonly errorType: '' | 'retryable' | 'non_retryable';
  readonly durationSeconds: number;
}

/** The metrics of one serving process. Labels never hold key ids, ARNs or request ids. */
export interface ServingMetrics {
  readonly registry: Registry;
  observeRequest(observation: RequestObservation): void;
  /** `reason`: one of a fixed few words. */
  authFailure(reason: string): void;
  /** End of validity of the certificate in use, milliseconds since the Unix epoch. */
  tlsCertificateNotAfter(notAfterMs: number): void;
  ready(isReady: boolean): void;
}

interface MetricsSources {
  /** Log lines dropped since the start of the process. */
  readonly droppedLogLines: () => number;
}

export function createServingMetrics(sources: MetricsSources): ServingMetrics {
  const registry = createProcessRegistry(sources);
  const registers = [registry];
  const series = new RequestSeries(requestDurationBuckets);
  new Counter({
    name: 'xks_requests_total',
    help: 'Requests answered, by XKS operation, key store, exception (empty: success) and kind of error.',
    labelNames: ['operation', 'key_store', 'exception', 'error_type'] as const,
    registers,
    collect() {
      series.takeCounts((labels, count) => this.inc(labels, count));
    },
  });
  new CountedHistogram({
    name: 'xks_request_duration_seconds',
    help: 'Time from the last byte of a request to its answer.',
    labelNames: ['operation', 'key_store'] as const,
    registry,
    counted: () => series.durations(),
  });
  const authFailures = new Counter({
    name: 'xks_auth_failures_total',
    help: 'Requests refused before their body was looked at, by reason.',
    labelNames: ['reason'] as const,
    registers,
  });
  const certificateNotAfter = new Gauge({
    name: 'xks_tls_certificate_not_after_timestamp_seconds',
    help: 'When the certificate of the XKS listener ends to be valid.',
    registers,
  });
  const readiness = new Gauge({
    name: 'xks_serving_ready',
    help: '1 while this serving process can answer requests, else 0.',
    registers,
  });
  return {
    registry,
    observeRequest: (observation) => series.observe(observation),
    authFailure: (reason) => authFailures.inc({ reason }),
    tlsCertificateNotAfter: (notAfterMs) => certificateNotAfter.set(notAfterMs / 1_000),
    ready: (isReady) => readiness.set(isReady ? 1 : 0),
  };
}

/** A registry of its own with what every process has: CPU, memory, event-loop lag, GC, build, dropped log lines. */
export function createProcessRegistry(sources: MetricsSources): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  new Gauge({
    name: 'xks_build_info',
    help: 'Always 1; what runs is in the labels.',
    labelNames: ['version', 'node_version'] as const,
    registers,
  }).set({ version: softwareVersion(), node_version: process.versions.node }, 1);
  let counted = 0;
  new Counter({
    name: 'xks_log_lines_dropped_total',
    help: 'Log lines that the reader of the log was too slow for.',
    registers,
    collect() {
      const dropped = sources.droppedLogLines();
      this.inc(dropped - counted);
      counted = dropped;
    },
  });
  return registry;
}
