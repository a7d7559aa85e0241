import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { climb } from './ladder/climb.js';
import { ladderFaults, ladderTable } from './ladder/ladder-results.js';
import { makeLadderToken } from './ladder/ladder-token.js';
import { MeasuredProcess } from './ladder/measured-process.js';
import type { RungName } from './ladder/rungs.js';
import type { MicroOrder, MicroResult } from './micro/micro-benchmarks.js';
import type { LoadOptions } from './options.js';
import { thisMachine } from './report/machine.js';
import { figure, textTable } from './report/text-table.js';
import { makeWorkDirectory } from './work-directory.js';

/** Each rung bears three loads of this length, so that the whole ladder stays within three minutes. */
export const ladderSecondsDefault = 5;

const microProgram = join(dirname(fileURLToPath(import.meta.url)), 'micro-process.js');

/** `npm run bench -- ladder`: where the CPU of a request goes. @returns the exit status. */
export async function ladderCommand(
  root: string,
  options: LoadOptions,
  names: readonly RungName[],
): Promise<number> {
  const out = join(root, 'var/bench');
  const directory = makeWorkDirectory(out);
  const { traffic, rate, seconds } = options;
  const results = await climb({ root, directory, traffic, rate, seconds, names });
  const faults = ladderFaults(results);
  console.log(ladderTable(results, rate));
  for (const fault of faults) console.log(`FAULT ${fault}`);
  console.log(faults.length === 0 ? 'PASS' : 'FAIL');
  writeFileSync(
    join(out, 'ladder.json'),
    `${JSON.stringify({ machine: thisMachine(root), rate, seconds, results, faults }, null, 1)}\n`,
  );
  return faults.length === 0 ? 0 : 1;
}

/** `npm run bench -- micro`: the parts by themselves. @returns the exit status. */
export async function microCommand(root: string): Promise<number> {
  const out = join(root, 'var/bench');
  const directory = makeWorkDirectory(out);
  const { token, environment } = await makeLadderToken(directory);
  const parts = new MeasuredProcess<MicroOrder, readonly MicroResult[]>({
    what: 'the process that measures the parts',
    program: microProgram,
    environment,
    logFile: null,
  });
  try {
    const results = await parts.ask({ root, directory, token });
    console.log(microTable(results));
    const machine = thisMachine(root);
    writeFileSync(join(out, 'micro.json'), `${JSON.stringify({ machine, results }, null, 1)}\n`);
  } finally {
    await parts.end();
  }
  return 0;
}

function microTable(results: readonly MicroResult[]): string {
  const rows = results.map(({ name, perSecond }) => [name, figure(perSecond, 0), figure(1e6 / perSecond)]);
  return textTable([['', 'per second', 'µs each'], ...rows]);
}
