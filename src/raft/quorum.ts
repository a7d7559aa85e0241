import type { MemberId } from './types.js';

/** A majority of `voters`. */
export const quorumSize = (voters: number): number => Math.floor(voters / 2) + 1;

/** The greatest value that a majority has reached; 0 without voters. Sorts `values`. */
export function quorumValue(values: number[]): number {
  // By hand: it runs for every acknowledgement, over a handful of numbers.
  for (let at = 1; at < values.length; at += 1) {
    const value = values[at] ?? 0;
    let to = at;
    for (; to > 0 && (values[to - 1] ?? 0) < value; to -= 1) values[to] = values[to - 1] ?? 0;
    values[to] = value;
  }
  return values[quorumSize(values.length) - 1] ?? 0;
}

export type ElectionOutcome = 'won' | 'lost' | 'pending';

/** `votes`: granted or not, by voter. No voters, no victory. */
export function tally(voters: readonly MemberId[], votes: ReadonlyMap<MemberId, boolean>): ElectionOutcome {
  let granted = 0;
  let unknown = 0;
  for (const voter of voters) {
    const vote = votes.get(voter);
    if (vote === undefined) unknown += 1;
    else if (vote) granted += 1;
  }
  const quorum = quorumSize(voters.length);
  if (granted >= quorum) return 'won';
  return granted + unknown < quorum ? 'lost' : 'pending';
}
