export interface RunParameters {
  readonly seed: number;
  readonly events: number;
  readonly nodes: number | null;
  /** As `SimulationOptions.keys`. */
  readonly keys: boolean | null;
  readonly bug: string | null;
}

/** The one command that runs it again. */
export function reproduction({ seed, events, nodes, keys, bug }: RunParameters): string {
  const parts = ['npm run sim --', `--seeds 1 --seed ${seed} --events ${events}`];
  if (nodes !== null) parts.push(`--nodes ${nodes}`);
  if (keys !== null) parts.push(`--state ${keys ? 'keys' : 'registers'}`);
  if (bug !== null) parts.push(`--bug ${bug}`);
  return parts.join(' ');
}
