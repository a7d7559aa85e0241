import { faultsOf, type RunReport, summarize } from './report/bench-report.js';
import { figure } from './report/text-table.js';
import type { Findings } from './scale-findings.js';

/** What much key state may surpass little by. */
const ratioMax = 1.05;

/** What was run against a node. */
export interface Runs {
  readonly closed: readonly RunReport[];
  readonly open: readonly RunReport[];
}

/** Requests with many keys against those with few. A run that KMS would not take for good compares nothing: it fails. */
export function judgeRequests(few: Runs, many: Runs, findings: Findings): void {
  const judge = (what: string, digits: number, of: (side: Runs) => number): void => {
    const ratio = of(many) / of(few);
    const value = `${figure(of(few), digits)} and ${figure(of(many), digits)}, ratio ${figure(ratio)}`;
    findings.judge(`${what}, few keys and many`, value, `≤ ${ratioMax}`, ratio <= ratioMax);
  };
  const cpu = (run: RunReport): number => summarize(run).cpuMicrosPerRequest ?? Number.NaN;
  judge('CPU µs of a request, closed loop', 0, ({ closed }) => median(closed.map(cpu)));
  judge('CPU µs of a request at the rate', 0, ({ open }) => median(open.map(cpu)));
  judge('p99 ms at the rate', 2, (side) => median(side.open.map((run) => summarize(run).p99Ms)));
  const faults = [few, many].flatMap(({ closed, open }) => [...closed, ...open]).flatMap(faultsOf);
  findings.judge('faults of the runs', String(faults.length), '0', faults.length === 0);
  for (const fault of faults) findings.note('  fault', fault);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}
