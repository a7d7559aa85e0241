import { randomInt } from 'node:crypto';
import { Command } from 'commander';
import { realBuild } from './sim-build.js';
import { Simulation, type SimulationResult } from './simulation.js';

const command = new Command('sim')
  .description('runs the replication layer through simulated misfortune')
  .option('--seeds <count>', 'runs, one after the other', Number, 100)
  .option('--seed <number>', 'of the first run; the next have the next numbers', Number)
  .option('--events <count>', 'events of each run before it is healed', Number, 20_000)
  .option('--nodes <count>', 'members; drawn when not given', Number)
  .option('--trace', 'prints the end of the trace of the last run');
const options = command
  .parse()
  .opts<{ seeds: number; seed?: number; events: number; nodes?: number; trace?: boolean }>();

const firstSeed = options.seed ?? randomInt(2 ** 47);
const startMs = performance.now();
let events = 0;
const run = (seed: number, readable: boolean): SimulationResult =>
  new Simulation({ seed, events: options.events, nodes: options.nodes ?? null, readable, build: realBuild }).run();
let broken = 0;
for (let seed = firstSeed; seed < firstSeed + options.seeds; seed += 1) {
  const result = run(seed, options.trace === true);
  events += result.events;
  if (options.trace === true) console.log(result.tail.join('\n'));
  if (result.violation === null) continue;
  broken += 1;
  console.log(`seed ${seed}: ${result.violation.checker}: ${result.violation.detail}`);
}
const seconds = (performance.now() - startMs) / 1_000;
console.log(`${options.seeds} seeds, ${broken} broken, ${events} events, ${(events / seconds / 1_000).toFixed(0)}k events/s`);
process.exitCode = broken > 0 ? 1 : 0;
