export type KeptSeed = {
  readonly seed: number;
  /** How many it takes, where that is more than what every seed gets. */
  readonly events?: number;
  /** Whether it was over key state, where that is not what is drawn now. */
  readonly keys?: boolean;
  readonly found: string;
};

/**
 * Every seed that ever found something, with what it found. They are run again with each `npm test`. (A change to the
 * simulator or to what draws from the seeds makes another run of the same seed: then it is a seed like any other.)
 */
export const keptSeeds: readonly KeptSeed[] = [
  {
    seed: 2234,
    keys: false,
    found: 'a repeated proposal refused as not taken by a leader that had taken it',
  },
  { seed: 2031, keys: false, found: 'two voters, one removed: its longer log kept the other from leading' },
  { seed: 1290, keys: false, found: 'a removed member turned off before all had applied its removal' },
  {
    seed: 1039838806376,
    events: 11_000,
    keys: false,
    found: 'an acknowledgement sent after what it acknowledged was cut off, never stored',
  },
  {
    seed: 1086,
    keys: true,
    found: 'random IVs settled by a number that the replica had given to others of the same process',
  },
  {
    seed: 1040574499,
    events: 20_000,
    keys: false,
    found: 'one left behind before it knew of its own addition, that never reported and so never heard of it',
  },
];
