import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { textTable } from './text-table.js';

/** What of V8's CPU profiles (`.cpuprofile`) is read here. */
export interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: {
      readonly functionName: string;
      readonly url: string;
      readonly lineNumber: number;
    };
  }[];
  readonly samples: readonly number[];
  /** Microseconds before each sample. */
  readonly timeDeltas: readonly number[];
}

export interface SelfTime {
  readonly name: string;
  readonly micros: number;
}

/** Waiting: for events, or as Piscina's worker for a task. `(program)` is work: native code that no function called. */
const waiting = new Set(['(idle)', '(root)', 'atomicsWaitLoop']);

/** Time in a function itself, without what it calls, most first. Waiting is left out. */
export function selfTimes({ nodes, samples, timeDeltas }: CpuProfile): readonly SelfTime[] {
  const names = new Map(
    nodes
      .filter(({ callFrame }) => !waiting.has(callFrame.functionName))
      .map(({ id, callFrame }) => [id, nameOf(callFrame)]),
  );
  const micros = new Map<string, number>();
  for (const [index, id] of samples.entries()) {
    const name = names.get(id);
    if (name === undefined) continue;
    micros.set(name, (micros.get(name) ?? 0) + (timeDeltas[index] ?? 0));
  }
  return [...micros]
    .map(([name, time]) => ({ name, micros: time }))
    .sort((left, right) => right.micros - left.micros);
}

function nameOf({ functionName, url, lineNumber }: CpuProfile['nodes'][number]['callFrame']): string {
  const name = functionName === '' ? '(anonymous)' : functionName;
  if (url === '') return name;
  const file = url.startsWith('node:') ? url : basename(url);
  return `${name} ${file}:${lineNumber + 1}`;
}

const shown = 40;

/** The functions that took most, of the busiest profile in a folder. */
export function profileTable(directory: string): string {
  const profiles = readdirSync(directory)
    .filter((name) => name.endsWith('.cpuprofile'))
    .map((name) => {
      const times = selfTimes(JSON.parse(readFileSync(join(directory, name), 'utf8')) as CpuProfile);
      return { name, times, total: times.reduce((sum, { micros }) => sum + micros, 0) };
    })
    .sort((left, right) => right.total - left.total);
  const [busiest] = profiles;
  if (busiest === undefined) return 'no process left a profile';
  const rows = busiest.times
    .slice(0, shown)
    .map(({ name, micros }) => [name, ((100 * micros) / busiest.total).toFixed(1)]);
  return `${join(directory, busiest.name)}, self time:\n${textTable([['function', '%'], ...rows])}`;
}
