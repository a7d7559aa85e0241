import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export interface WorkerOptions {
  readonly firstSeed: number;
  readonly seeds: number;
  readonly events: number;
  readonly nodes: number | null;
  /** As `SimulationOptions.keys`. */
  readonly keys: boolean | null;
  readonly workers: number;
}

/** Each process takes a run of seeds of its own, so that together they are the seeds of one. True when all went well. */
export async function runInWorkers(options: WorkerOptions): Promise<boolean> {
  const { firstSeed, seeds, events, nodes, keys, workers } = options;
  const each = Math.ceil(seeds / workers);
  const codes = await Promise.all(
    Array.from({ length: workers }, async (_, place) => {
      const count = Math.min(each, seeds - place * each);
      if (count <= 0) return 0;
      const args = [`--seeds=${count}`, `--seed=${firstSeed + place * each}`, `--events=${events}`];
      if (keys !== null) args.push(`--state=${keys ? 'keys' : 'registers'}`);
      if (nodes !== null) args.push(`--nodes=${nodes}`);
      const main = fileURLToPath(new URL('./main.js', import.meta.url));
      const child = spawn(process.execPath, ['--enable-source-maps', main, ...args], {
        stdio: ['ignore', 'inherit', 'inherit'],
      });
      const [code] = await once(child, 'close');
      return typeof code === 'number' ? code : 1;
    }),
  );
  return codes.every((code) => code === 0);
}
