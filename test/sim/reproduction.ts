export interface RunParameters {
  readonly seed: number;
  readonly events: number;
  readonly nodes: number | null;
  readonly bug: string | null;
}

/** The one command that runs it again. */
export function reproduction({ seed, events, nodes, bug }: RunParameters): string {
  const parts = ['npm run sim --', `--seeds 1 --seed ${seed} --events ${events}`];
  if (nodes !== null) parts.push(`--nodes ${nodes}`);
  if (bug !== null) parts.push(`--bug ${bug}`);
  return parts.join(' ');
}
