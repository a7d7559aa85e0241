import { mkdirSync, rmSync } from 'node:fs';
import { loadavg } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError, Option } from 'commander';
import { errorText } from '../../src/base/guards.js';
import { cases } from './cases.js';
import { FaultNode } from './fault-node.js';
import { LoadClient } from './load-client.js';
import { type CaseResult, runCase } from './runner.js';
import { resultNotes, resultTable, verdictText } from './table.js';
import { type Verdict, verdictOf } from './verdict.js';

/** `npm run test:faults`: a real node under load, and its HSM broken in every way. */
const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');

/** Until compilers and caches of a node that has just started come to rest. */
const warmUpMs = 4_000;

const positive = (text: string): number => {
  const value = Number(text);
  if (!(value > 0 && Number.isFinite(value))) throw new InvalidArgumentError('It must be a number above 0.');
  return value;
};

const command = new Command('test:faults')
  .option('--only <name>', 'this case; may be repeated', (name: string, before: string[] = []) => [
    ...before,
    name,
  ])
  .option('--seconds <number>', 'how long each fault lasts', positive, 20)
  .addOption(new Option('--tokens <number>', 'tokens that hold the key').choices(['1', '2']).default('1'))
  .option('--rate <number>', 'requests per second', positive, 1_800)
  .option('--directory <path>', 'for the nodes; emptied first', join(root, 'var/faults'))
  .option('--list', 'say what cases there are');
const options = command.parse().opts<{
  only?: readonly string[];
  seconds: number;
  tokens: string;
  rate: number;
  directory: string;
  list?: true;
}>();
if (options.list === true) {
  for (const { name, fault } of cases) console.log(`${name.padEnd(18)} ${fault}`);
  process.exit(0);
}
const unknown = options.only?.filter((name) => !cases.some((one) => one.name === name)) ?? [];
if (unknown.length > 0) command.error(`error: no case ${unknown.join(', ')}; --list shows those there are`);
const chosen = cases.filter(({ name }) => options.only?.includes(name) ?? true);
const tokens = Number(options.tokens);

let node: FaultNode | null = null;
let load: LoadClient | null = null;
const end = async (): Promise<void> => {
  const [endedLoad, endedNode] = [load, node];
  [load, node] = [null, null];
  await endedLoad?.stop();
  await endedNode?.stop();
};
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, () => void end().finally(() => process.exit(1)));

const parent = resolve(options.directory);
rmSync(parent, { recursive: true, force: true });
const results: CaseResult[] = [];
let standing: string | null = null;
for (const [place, faultCase] of chosen.entries()) {
  const { reached, sessions = null, hsm = null } = faultCase;
  const wanted = `${reached} ${sessions} ${hsm?.profile}`;
  let result: CaseResult;
  try {
    if (standing !== wanted) await end();
    if (node === null) {
      const directory = join(parent, String(place));
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      node = await FaultNode.start({ directory, tokens, reached, sessions, hsm });
      load = await LoadClient.start(node.plan(options.rate));
      await delay(warmUpMs);
    }
    standing = wanted;
    if (load === null) throw new Error('there is no load');
    result = await runCase(node, load, faultCase, {
      tokens,
      seconds: options.seconds,
      rate: options.rate,
    });
  } catch (failure) {
    result = { faultCase, outcome: null, problems: [errorText(failure)] };
  }
  results.push(result);
  const verdict = verdictText[verdictOf(result.problems, result.outcome)].padEnd(10);
  console.log(`${verdict} ${faultCase.name}  (load average ${loadavg()[0]?.toFixed(1)})`);
  for (const line of resultNotes(result)) console.log(line);
  if (result.problems.length > 0 && node !== null) console.log(`  ${faultCase.name}: log ${node.logFile}`);
  // What it left behind says nothing of the cases to come.
  if (result.problems.length > 0 || node === null) await end();
}
await end();

const count = (verdict: Verdict): number =>
  results.filter(({ problems, outcome }) => verdictOf(problems, outcome) === verdict).length;
console.log(`\n${resultTable(results)}\n`);
console.log(
  `${count('ok')} of ${results.length} faults as they should be, ${count('failed')} not, ` +
    `${count('not-judged')} not judged: too little of a core; ${tokens} token(s)`,
);
process.exitCode = count('failed') === 0 ? 0 : 1;
