import { buildWith } from './bugs/edited-build.js';
import type { PlantedBug } from './bugs/planted-bug.js';
import type { Violation } from './checkers/verdict.js';
import { Simulation } from './simulation.js';

export interface SearchOptions {
  readonly firstSeed: number;
  /** At most. */
  readonly seeds: number;
  readonly events: number;
  readonly nodes: number | null;
  /** As `SimulationOptions.keys`. */
  readonly keys: boolean | null;
}

export interface FoundBug {
  readonly seed: number;
  readonly seeds: number;
  readonly violation: Violation;
}

/** Runs seed after seed with the bug planted until one finds it; `null` when none does. */
export async function searchFor(bug: PlantedBug, options: SearchOptions): Promise<FoundBug | null> {
  const { firstSeed, seeds, events, nodes, keys } = options;
  const build = await buildWith(bug);
  for (let seed = firstSeed; seed < firstSeed + seeds; seed += 1) {
    const { violation } = new Simulation({ seed, events, nodes, keys, readable: false, build }).run();
    if (violation !== null) return { seed, seeds: seed - firstSeed + 1, violation };
  }
  return null;
}

/** A row of the table. */
export function bugReport(bug: PlantedBug, found: FoundBug | null): string {
  const checker = found?.violation.checker ?? '';
  return `| ${bug.name} | ${bug.origin} | ${found?.seeds ?? 'not found'} | ${checker} |`;
}
