import { LatencyHistogram } from '../driver/latency-histogram.js';
import { type LoadResult, otherPlaintext } from '../driver/load-run.js';
import type { Verification } from '../driver/protocol.js';
import type { ProcessUsage } from '../target/process-usage.js';

/** KMS gives up after this (X-T5). */
export const kmsTimeoutMs = 250;

/** One process over one run. */
export interface ProcessFigures {
  readonly pid: number;
  readonly role: string;
  readonly cpuMicros: number;
  /** At the end of the run. */
  readonly pssKiB: number;
}

/** What one run of load showed. */
export interface RunReport {
  readonly name: string;
  readonly load: LoadResult;
  /** `null`: not looked at. */
  readonly verification: Verification | null;
  /** Of the proxy; empty where it runs elsewhere. */
  readonly processes: readonly ProcessFigures[];
}

export interface Machine {
  readonly processor: string;
  readonly cores: number;
  readonly memoryMiB: number;
  readonly kernel: string;
  readonly node: string;
  /** Of the checkout, `null` outside of one. */
  readonly commit: string | null;
}

/** Everything that a call of the benchmark showed: the JSON file, and what the page is drawn from. */
export interface BenchReport {
  readonly format: 1;
  readonly title: string;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly machine: Machine;
  /** The options in force, by name. */
  readonly settings: Readonly<Record<string, string | number>>;
  /** CPU that the driver spent on signing a request ahead of the runs: not part of their figures. */
  readonly signingMicros: number;
  readonly runs: readonly RunReport[];
  /** Why it failed; empty when it passed. */
  readonly faults: readonly string[];
}

/** Milliseconds, microseconds of CPU and MiB where the name says so. */
export interface RunSummary {
  readonly answeredPerSecond: number;
  readonly failed: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly maxMs: number;
  /** Of all processes of the proxy, for each answer; `null` where it runs elsewhere. */
  readonly cpuMicrosPerRequest: number | null;
  readonly pssMiB: number | null;
  readonly driverCpuMicrosPerRequest: number;
}

export const latencyOf = ({ latency }: LoadResult): LatencyHistogram =>
  LatencyHistogram.of(latency.counts, latency.maxMicros);

export function failedOf({ failures }: LoadResult): number {
  return Object.values(failures).reduce((sum, count) => sum + count, 0);
}

export function summarize({ load, processes }: RunReport): RunSummary {
  const latency = latencyOf(load);
  const ms = (fraction: number): number => latency.percentile(fraction) / 1_000;
  const sum = (figure: (one: ProcessFigures) => number): number =>
    processes.reduce((total, one) => total + figure(one), 0);
  const known = processes.length > 0;
  return {
    answeredPerSecond: load.elapsedMs > 0 ? (load.answered * 1_000) / load.elapsedMs : 0,
    failed: failedOf(load),
    p50Ms: ms(0.5),
    p90Ms: ms(0.9),
    p99Ms: ms(0.99),
    p999Ms: ms(0.999),
    maxMs: ms(1),
    cpuMicrosPerRequest: known ? sum((one) => one.cpuMicros) / Math.max(1, load.answered) : null,
    pssMiB: known ? sum((one) => one.pssKiB) / 1_024 : null,
    driverCpuMicrosPerRequest: load.driverCpuMicros / Math.max(1, load.answered),
  };
}

/** Why a run is not as KMS needs it; empty when it is. The time of a closed loop's answers is no fault of theirs. */
export function faultsOf(run: RunReport): readonly string[] {
  const { load, name } = run;
  const { failed, p99Ms } = summarize(run);
  const faults: string[] = [];
  if (load.answered === 0) faults.push('nothing was answered');
  if (failed > 0) faults.push(`${failed} requests failed`);
  if (load.dropped > 0) faults.push(`${load.dropped} were not sent: too many waited already`);
  if (load.late > 0) faults.push(`${load.late} were sent late: the driver had not enough of a core`);
  if (load.shape.kind === 'open' && !(p99Ms < kmsTimeoutMs))
    faults.push(`p99 is ${p99Ms.toFixed(1)} ms, and not below ${kmsTimeoutMs} ms`);
  // What neither came nor was missed was lost in the counting.
  const accounted = load.answered + failed + load.dropped;
  if (load.shape.kind === 'open' && accounted !== load.scheduled)
    faults.push(`${load.scheduled} requests were due and ${accounted} are accounted for`);
  return [...faults.map((fault) => `${name}: ${fault}`), ...wrongAnswersOf(run)];
}

/** Of `faultsOf`, those that no load excuses. */
export function wrongAnswersOf({ name, load, verification }: RunReport): readonly string[] {
  const faults: string[] = [];
  const others = load.failures[otherPlaintext] ?? 0;
  if (others > 0) faults.push(`${others} decrypts gave another plaintext`);
  if (verification !== null && verification.wrong > 0)
    faults.push(`${verification.wrong} answers were wrong: ${verification.firstFault ?? ''}`);
  return faults.map((fault) => `${name}: ${fault}`);
}

/** What processes used between two looks; those that came or went in between are left out. */
export function usedBetween(
  before: readonly ProcessUsage[],
  after: readonly ProcessUsage[],
): readonly ProcessFigures[] {
  return after.flatMap(({ pid, role, cpuMicros, pssKiB }) => {
    const then = before.find((process) => process.pid === pid);
    return then === undefined ? [] : [{ pid, role, pssKiB, cpuMicros: cpuMicros - then.cpuMicros }];
  });
}
