import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { cases } from './cases.js';
import { ChaosCluster } from './chaos-cluster.js';
import { type CaseResult, clusterDirectory, resultText, runCase } from './runner.js';

/**
 * `npm run test:chaos`: real nodes, a real balancer, real signals, under load. What breaks is drawn from `--seed`; when
 * it breaks is up to the machine, so that a seed repeats a run only nearly.
 */
const rateDefault = 100;
const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');

const command = new Command('test:chaos')
  .option('--only <name>', 'this case; may be repeated', (name: string, before: string[] = []) => [
    ...before,
    name,
  ])
  .option('--seed <number>', 'what is broken when', Number, Date.now() % 1_000_000)
  .option('--minutes <number>', 'for all cases together, about', Number)
  .option('--rate <number>', `requests per second (${rateDefault}, or as a case needs)`, Number)
  .option(
    '--directory <path>',
    'for the nodes: the folder of each cluster in it is emptied first',
    join(root, 'var/chaos'),
  )
  .option(
    '--timeline',
    'write beside the nodes what each slice of 50 ms saw: latencies, CPU, what was logged',
  )
  .option('--list', 'say what cases there are');
const options = command.parse().opts<{
  only?: readonly string[];
  seed: number;
  minutes?: number;
  rate?: number;
  directory: string;
  timeline?: true;
  list?: true;
}>();
if (options.list === true) {
  for (const { name, nodes, seconds } of cases)
    console.log(`${name.padEnd(20)} ${nodes} nodes, ${seconds} s`);
  process.exit(0);
}
const unknown = options.only?.filter((name) => !cases.some((one) => one.name === name)) ?? [];
if (unknown.length > 0) command.error(`error: no case ${unknown.join(', ')}; --list shows those there are`);

const chosen = cases.filter(({ name }) => options.only?.includes(name) ?? true);
const nominalSeconds = chosen.reduce((sum, { seconds }) => sum + seconds, 0);
const scale = options.minutes === undefined ? 1 : (options.minutes * 60) / nominalSeconds;

let cluster: ChaosCluster | null = null;
let ending = false;
const end = async (): Promise<void> => {
  const ended = cluster;
  cluster = null;
  await ended?.stop();
};
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    if (ending) return;
    ending = true;
    void end().then(() => process.exit(1));
  });
}

console.log(`${chosen.length} cases, seed ${options.seed}`);
const results: CaseResult[] = [];
try {
  for (const [place, chaosCase] of chosen.entries()) {
    const rate = options.rate ?? chaosCase.rate ?? rateDefault;
    if (cluster !== null && (cluster.nodes.length !== chaosCase.nodes || cluster.rate !== rate)) await end();
    cluster ??= await ChaosCluster.start({
      directory: clusterDirectory(options.directory, `${place}-${chaosCase.name}`),
      nodes: chaosCase.nodes,
      rate,
      faults: true,
    });
    const seconds = chaosCase.seconds * scale;
    const result = await runCase(cluster, chaosCase, {
      seed: options.seed + place,
      seconds,
      timeline: options.timeline === true,
    });
    if (ending) break;
    results.push(result);
    console.log(resultText(result));
    // What it left behind says nothing of the cases to come.
    if (result.problems.length > 0 || chaosCase.last === true) await end();
  }
} finally {
  if (!ending) await end();
}
const failed = results.filter(({ problems }) => problems.length > 0);
console.log(`\n${results.map(resultText).join('\n')}\n`);
console.log(`${results.length - failed.length} of ${results.length} cases passed, seed ${options.seed}`);
for (const { name, seed } of failed)
  console.log(`FAILED ${name}: npm run test:chaos -- --only ${name} --seed ${seed}`);
process.exitCode = failed.length === 0 && results.length === chosen.length ? 0 : 1;
