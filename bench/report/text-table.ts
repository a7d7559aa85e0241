import { type BenchReport, type RunReport, summarize } from './bench-report.js';

/** Columns as wide as what stands in them, numbers to the right. */
export function textTable(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows)
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd();
  return rows.map(line).join('\n');
}

export const figure = (value: number | null, digits = 2): string =>
  value === null || Number.isNaN(value) ? '–' : value.toFixed(digits);

const header = [
  '',
  'req/s',
  'p50 ms',
  'p90',
  'p99',
  'p99.9',
  'max',
  'failed',
  'CPU µs/req',
  'PSS MiB',
  'driver µs',
];

function runRow(run: RunReport): readonly string[] {
  const summary = summarize(run);
  return [
    run.name,
    figure(summary.answeredPerSecond, 0),
    figure(summary.p50Ms),
    figure(summary.p90Ms),
    figure(summary.p99Ms),
    figure(summary.p999Ms),
    figure(summary.maxMs),
    String(summary.failed),
    figure(summary.cpuMicrosPerRequest, 0),
    figure(summary.pssMiB, 0),
    figure(summary.driverCpuMicrosPerRequest, 0),
  ];
}

export const runTable = (runs: readonly RunReport[]): string => textTable([header, ...runs.map(runRow)]);

export function processTable({ processes, load }: RunReport): string {
  const rows = processes.map(({ role, pid, cpuMicros, pssKiB }) => [
    role,
    String(pid),
    figure(cpuMicros / Math.max(1, load.answered), 1),
    figure(cpuMicros / (load.elapsedMs * 10), 1),
    figure(pssKiB / 1_024, 1),
  ]);
  return textTable([['process', 'pid', 'CPU µs/req', '% of a core', 'PSS MiB'], ...rows]);
}

/** The whole of it for a terminal. */
export function reportText(report: BenchReport): string {
  const parts = [`${report.title}\n`, runTable(report.runs)];
  for (const run of report.runs) {
    for (const [failure, count] of Object.entries(run.load.failures))
      parts.push(`${run.name}: ${count} × ${failure}`);
  }
  const last = report.runs.at(-1);
  if (last !== undefined && last.processes.length > 0) parts.push('', processTable(last));
  parts.push(
    '',
    `signing a request took the driver ${figure(report.signingMicros, 0)} µs, ahead of the runs`,
  );
  parts.push(...report.faults.map((fault) => `FAULT ${fault}`), report.faults.length === 0 ? 'PASS' : 'FAIL');
  return parts.join('\n');
}
