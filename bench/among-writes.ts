import { AdminWrites } from './admin-writes.js';
import type { Measurement } from './measurement.js';
import { type RunReport, summarize } from './report/bench-report.js';
import { joinRuns } from './report/joined-runs.js';
import { figure, textTable } from './report/text-table.js';

/** Without writes and with them, in turn: what a shared machine does besides then falls on both. */
const turns = 6;

/**
 * What changes of key state cost those who are served meanwhile. `perSecond` 0: how far two such halves differ by
 * themselves.
 */
export async function amongWrites(
  adminSocket: string,
  measurement: Measurement,
  {
    rate,
    seconds,
    perSecond,
  }: { readonly rate: number; readonly seconds: number; readonly perSecond: number },
): Promise<readonly RunReport[]> {
  const writes = await AdminWrites.start(adminSocket);
  const [without, among]: [RunReport[], RunReport[]] = [[], []];
  const shape = { kind: 'open', rate, seconds: seconds / turns } as const;
  let made = 0;
  try {
    for (let turn = 0; turn < turns; turn += 2) {
      without.push(await measurement.run('without writes', shape));
      if (perSecond > 0) writes.begin(perSecond);
      among.push(await measurement.run('with writes', shape));
      if (perSecond > 0) made += await writes.end();
    }
  } finally {
    writes.close();
  }
  const halves = [joinRuns('without writes', without), joinRuns(`with ${made} writes`, among)] as const;
  console.log(writeCosts(...halves, made));
  return halves;
}

/** Latencies as ratios, and the processor time of each process; `made`: writes during the second half. */
export function writeCosts(without: RunReport, among: RunReport, made: number): string {
  const [one, other] = [summarize(without), summarize(among)];
  const ratio = (name: 'p50Ms' | 'p99Ms' | 'p999Ms'): string => figure(other[name] / one[name]);
  const perSecond = (micros: number, { load }: RunReport): string => figure(micros / load.elapsedMs, 0);
  const rows = among.processes.map(({ role, pid, cpuMicros }) => {
    const before = without.processes.find((process) => process.pid === pid)?.cpuMicros ?? 0;
    const perWrite = made === 0 ? null : (cpuMicros - before) / 1_000 / made;
    return [role, perSecond(before, without), perSecond(cpuMicros, among), figure(perWrite)];
  });
  return [
    `with/without: p50 ${ratio('p50Ms')}  p99 ${ratio('p99Ms')}  p99.9 ${ratio('p999Ms')}`,
    textTable([['processor time, ms', 'a second without', 'with', 'a write'], ...rows]),
  ].join('\n');
}
