import { faultsOf, type RunReport, summarize } from '../report/bench-report.js';
import { figure, textTable } from '../report/text-table.js';
import { type RungName, rungs } from './rungs.js';

/** One rung: the open loop for its CPU, the closed loop for its ceiling. */
export interface RungResult {
  readonly rung: RungName;
  readonly open: RunReport;
  readonly closed: RunReport;
}

/** What each rung adds to the CPU of a request, and the rate that it still reaches. */
export function ladderTable(results: readonly RungResult[], rate: number): string {
  const rows = results.map(({ rung, open, closed }, index) => {
    const [atRate, ceiling] = [summarize(open), summarize(closed)];
    const before = results[index - 1];
    const micros = ceiling.cpuMicrosPerRequest ?? 0;
    const added = micros - (before === undefined ? 0 : (summarize(before.closed).cpuMicrosPerRequest ?? 0));
    const what = rungs.find(({ name }) => name === rung)?.what ?? '';
    return [
      `${rung}: ${what}`,
      figure(micros, 0),
      figure(added, 0),
      figure(ceiling.answeredPerSecond, 0),
      figure(atRate.cpuMicrosPerRequest, 0),
      figure(atRate.p50Ms),
      figure(atRate.p99Ms),
      String(ceiling.failed + atRate.failed),
    ];
  });
  const head = ['rung', 'CPU µs', 'added', 'req/s', `CPU µs at ${rate}/s`, 'p50 ms', 'p99', 'failed'];
  return textTable([head, ...rows]);
}

/** Why the table is not to be believed; empty when it is. */
export const ladderFaults = (results: readonly RungResult[]): readonly string[] =>
  results.flatMap(({ open, closed }) => [open, closed].flatMap(faultsOf));
