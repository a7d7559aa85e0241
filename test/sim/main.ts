import { randomInt } from 'node:crypto';
import { Command, Option } from 'commander';
import { bugReport, searchFor } from './bug-search.js';
import { buildWith } from './bugs/edited-build.js';
import { plantedBugs } from './bugs/planted-bugs.js';
import { reproduction } from './reproduction.js';
import { realBuild, type SimBuild } from './sim-build.js';
import { Simulation, type SimulationResult } from './simulation.js';
import { runInWorkers } from './workers.js';

/** Lines of the trace shown when something was violated. */
const tailLines = 150;

const command = new Command('sim')
  .description('drives the replication layer through simulated misfortune, everything drawn from seeds')
  .option('--seeds <count>', 'runs; with --bug and --bugs, at most so many for each', Number, 100)
  .option(
    '--seed <number>',
    'of the first run, the others have the next numbers; drawn when not given',
    Number,
  )
  .option('--events <count>', 'events of each run before it is healed', Number, 20_000)
  .option('--nodes <count>', 'members; drawn when not given', Number)
  .addOption(
    new Option('--state <machine>', 'of the replicas; drawn when not given').choices(['keys', 'registers']),
  )
  .option('--workers <count>', 'processes that share the seeds; not with --bug and --bugs', Number, 1)
  .option('--bug <name>', 'plants this bug and looks for the first seed that finds it')
  .option('--bugs', 'does so for every bug and prints the table')
  .option('--trace', 'prints all that is kept of the trace; not with --workers');
const options = command.parse().opts<{
  seeds: number;
  seed?: number;
  events: number;
  nodes?: number;
  state?: 'keys' | 'registers';
  workers: number;
  bug?: string;
  bugs?: boolean;
  trace?: boolean;
}>();
const nodes = options.nodes ?? null;
const keys = options.state === undefined ? null : options.state === 'keys';
const { events, seeds } = options;
const firstSeed = options.seed ?? randomInt(2 ** 40);

const run = (seed: number, readable: boolean, build: SimBuild): SimulationResult =>
  new Simulation({ seed, events, nodes, keys, readable, build }).run();

function explain(seed: number, build: SimBuild, bug: string | null): void {
  const { tail, violation, traceHash } = run(seed, true, build);
  console.log(tail.slice(options.trace === true ? 0 : -tailLines).join('\n'));
  if (violation !== null) console.log(`\n${violation.checker}: ${violation.detail}`);
  console.log(`seed ${seed}, trace ${traceHash}; again: ${reproduction({ seed, events, nodes, keys, bug })}`);
}

async function searchAll(): Promise<boolean> {
  let allFound = true;
  console.log('| bug | origin | seeds needed | found by |\n| --- | --- | ---: | --- |');
  for (const bug of plantedBugs) {
    const found = await searchFor(bug, { firstSeed, seeds, events, nodes, keys });
    allFound &&= found !== null;
    console.log(bugReport(bug, found));
  }
  return allFound;
}

async function searchOne(name: string): Promise<boolean> {
  const bug = plantedBugs.find((one) => one.name === name);
  if (bug === undefined) {
    console.error(`error: no bug "${name}"; there are: ${plantedBugs.map((one) => one.name).join(', ')}`);
    return false;
  }
  const found = await searchFor(bug, { firstSeed, seeds, events, nodes, keys });
  if (found === null) {
    console.log(`${name} was not found with ${seeds} seeds from ${firstSeed} on`);
    return false;
  }
  explain(found.seed, await buildWith(bug), name);
  console.log(`${name} was found after ${found.seeds} seeds`);
  return true;
}

/** Simulated events and the time that they took. */
class Pace {
  #events = 0;
  #ms = 0;

  add(events: number, ms: number): void {
    this.#events += events;
    this.#ms += ms;
  }

  text(): string {
    return this.#events === 0
      ? 'none'
      : `${this.#events} events, ${Math.round((1_000 * this.#events) / this.#ms)}/s`;
  }
}

function runHere(): boolean {
  const [registers, keyState] = [new Pace(), new Pace()];
  let violations = 0;
  for (let seed = firstSeed; seed < firstSeed + seeds; seed += 1) {
    const startMs = performance.now();
    const result = run(seed, false, realBuild);
    (result.answers === null ? registers : keyState).add(result.events, performance.now() - startMs);
    if (result.violation !== null) {
      violations += 1;
      explain(seed, realBuild, null);
    } else if (options.trace === true) {
      explain(seed, realBuild, null);
    }
  }
  console.log(
    `${seeds} seeds from ${firstSeed} on, ${violations} violations; over registers ${registers.text()}, over key state ${keyState.text()}`,
  );
  return violations === 0;
}

async function main(): Promise<boolean> {
  if (options.bugs === true) return await searchAll();
  if (options.bug !== undefined) return await searchOne(options.bug);
  if (options.workers > 1)
    return await runInWorkers({ firstSeed, seeds, events, nodes, keys, workers: options.workers });
  return runHere();
}

process.exitCode = (await main()) ? 0 : 1;
