import { Option } from 'commander';

/** As commander gives it to an action; goes into the request as it is. */
export interface StaleOption {
  readonly stale?: true;
}

/** Of every command that answers from key state. */
export const staleOption = (): Option =>
  new Option('--stale', 'show what this node knows and how old that is, without asking a quorum');
