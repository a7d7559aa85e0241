import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { climb, ladderTable, makeLadderToken } from './ladder/climb.js';
import type { RungName } from './ladder/rungs.js';
import { type MicroResult, microBenchmarks } from './micro/micro-benchmarks.js';
import type { LoadOptions } from './options.js';
import { failedOf } from './report/bench-report.js';
import { thisMachine } from './report/machine.js';
import { figure, textTable } from './report/text-table.js';
import { makeWorkDirectory } from './work-directory.js';

/** Each rung bears three loads of this length, so that the whole ladder stays within three minutes. */
const secondsDefault = 5;

/** `npm run bench -- ladder`: where the CPU of a request goes. @returns the exit status. */
export async function ladderCommand(
  root: string,
  options: LoadOptions,
  names: readonly RungName[],
): Promise<number> {
  const out = join(root, 'var/bench');
  const directory = makeWorkDirectory(out);
  const { traffic, rate } = options;
  const seconds = Math.min(options.seconds, secondsDefault);
  const results = await climb({ root, directory, traffic, rate, seconds, names });
  console.log(ladderTable(results, rate));
  writeFileSync(
    join(out, 'ladder.json'),
    `${JSON.stringify({ machine: thisMachine(root), rate, seconds, results }, null, 1)}\n`,
  );
  return results.every(({ open, closed }) => failedOf(open.load) + failedOf(closed.load) === 0) ? 0 : 1;
}

/** `npm run bench -- micro`: the parts by themselves. @returns the exit status. */
export async function microCommand(root: string): Promise<number> {
  const out = join(root, 'var/bench');
  const directory = makeWorkDirectory(out);
  const { token } = await makeLadderToken(directory);
  const results = await microBenchmarks(root, directory, token);
  console.log(microTable(results));
  const machine = thisMachine(root);
  writeFileSync(join(out, 'micro.json'), `${JSON.stringify({ machine, results }, null, 1)}\n`);
  return 0;
}

function microTable(results: readonly MicroResult[]): string {
  const rows = results.map(({ name, perSecond }) => [name, figure(perSecond, 0), figure(1e6 / perSecond)]);
  return textTable([['', 'per second', 'µs each'], ...rows]);
}
