import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { judge, type Watched } from './leak/judgement.js';
import { openTarget, settingsOf } from './load-command.js';
import { Measurement } from './measurement.js';
import type { LoadOptions } from './options.js';
import { faultsOf, type RunReport, summarize } from './report/bench-report.js';
import { thisMachine } from './report/machine.js';
import { figure, textTable } from './report/text-table.js';
import { openedBy, type ProcessHoldings } from './target/process-holdings.js';
import { processTree } from './target/process-usage.js';
import { makeWorkDirectory } from './work-directory.js';

/** Between two looks. Requests sent ahead of each slice are signed anew, so that none is older than they may be. */
const sliceSeconds = 30;
/** Caches fill and heaps find their size for a third of the time: what is left must be enough to see a slope in. */
export const leakSecondsMin = 600;

/** `npm run bench -- leak`: the rate for a long time; does anything grow? @returns the exit status. */
export async function leakCommand(root: string, options: LoadOptions): Promise<number> {
  const out = resolve(options.outDirectory ?? join(root, 'var/bench'));
  const target = await openTarget(root, makeWorkDirectory(out), null, options);
  const watched = new Map<number, Watched>();
  const runs: RunReport[] = [];
  let atSeconds = 0;
  try {
    const measurement = await Measurement.open(target, options.traffic);
    try {
      await measurement.warmUp({ kind: 'open', rate: options.rate, seconds: options.warmUpSeconds });
      const startMs = performance.now();
      look(watched, target.pids, 0);
      for (let left = options.seconds; left > 0; left -= sliceSeconds) {
        const seconds = Math.min(sliceSeconds, left);
        runs.push(await measurement.run('open', { kind: 'open', rate: options.rate, seconds }));
        atSeconds = (performance.now() - startMs) / 1_000;
        look(watched, target.pids, atSeconds);
      }
    } finally {
      await measurement.close();
    }
  } finally {
    await target.stop();
  }
  const { rows, faults } = judge(watched, target.pids, atSeconds);
  const all = [...runs.flatMap(faultsOf), ...faults];
  console.log(textTable(rows));
  console.log(`\n${loadLine(runs)}`);
  console.log([...all.map((fault) => `FAULT ${fault}`), all.length === 0 ? 'PASS' : 'FAIL'].join('\n'));
  writeFileSync(
    join(out, 'leak.json'),
    `${JSON.stringify({ machine: thisMachine(root), settings: settingsOf(options), processes: [...watched], faults: all }, null, 1)}\n`,
  );
  return all.length === 0 ? 0 : 1;
}

function look(watched: Map<number, Watched>, pids: readonly number[], atSeconds: number): void {
  for (const { pid, role, pssKiB } of processTree(pids)) {
    const holdings: ProcessHoldings | null = openedBy(pid);
    if (holdings === null) continue;
    const one = watched.get(pid) ?? { role, memoryMiB: [], descriptors: [], threads: [] };
    watched.set(pid, one);
    one.memoryMiB.push({ atSeconds, value: pssKiB / 1_024 });
    one.descriptors.push({ atSeconds, value: holdings.descriptors });
    one.threads.push({ atSeconds, value: holdings.threads });
  }
}

function loadLine(runs: readonly RunReport[]): string {
  const answered = runs.reduce((sum, { load }) => sum + load.answered, 0);
  const p99 = runs.map((run) => summarize(run).p99Ms).sort((a, b) => a - b);
  const middle = figure(p99[p99.length >> 1] ?? Number.NaN);
  return `${answered} requests answered; p99 of ${runs.length} slices: median ${middle} ms, highest ${figure(p99.at(-1) ?? Number.NaN)} ms`;
}
