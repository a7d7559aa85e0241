import type { AdminResponse } from '../replica/admin-contract.js';
import { type ExitCode, exitCodes } from './command-failure.js';
import type { Output } from './output.js';

type Change = AdminResponse<'keystore.create'>['change'];

/**
 * Says which serving processes have not applied a change.
 *
 * @param isDenial whether it takes something away: then a process that goes on as before makes the command degraded.
 * @param denied what is said of a denial that all have applied.
 */
export function reportChange(
  output: Output,
  change: Change,
  isDenial: boolean,
  denied = 'Every serving process of this node has stopped using it.',
): ExitCode {
  if (change.applied) {
    if (isDenial) output.message(denied);
    return exitCodes.ok;
  }
  const laggards = change.unconfirmed.map(({ process, pid, appliedIndex, connected }) => {
    if (process === null) return 'a serving process without a link to the replica';
    const link = connected ? '' : ', not connected';
    return `${process} (pid ${pid ?? '?'}, at index ${appliedIndex ?? '?'}${link})`;
  });
  const consequence = isDenial ? 'it may still serve what was taken away' : 'it does not know of it yet';
  output.message(
    `The change is durable (index ${change.index}), but not confirmed by ${laggards.join(', ')}: ${consequence}.`,
  );
  return isDenial ? exitCodes.degraded : exitCodes.ok;
}

/** Index and state of a change, for `fields`. */
export const changeText = ({ index, applied }: Change): string =>
  `index ${index}, ${applied ? 'applied by every serving process' : 'not applied everywhere yet'}`;
