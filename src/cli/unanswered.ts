import type { AdminCommand } from '../replica/admin-contract.js';
import { CommandFailure, exitCodes } from './command-failure.js';

/** How much is at stake when no answer comes. */
export type Stake =
  /** Answered from memory, and changes nothing. */
  | 'reading'
  /** Asks the HSM, which may take its time; changes nothing. */
  | 'question'
  /** Made once at most under its request id. */
  | 'change'
  /** Does something of which no request id is remembered. */
  | 'deed';

/** @param request whose `tokens` or `accept` makes the HSM have a word in it. */
export function stakeOf(command: AdminCommand, request: object): Stake {
  switch (command) {
    case 'hsm.list':
    case 'hsm.test':
      return 'question';
    case 'hsm.probe':
      return 'accept' in request && request.accept !== null ? 'deed' : 'question';
    case 'key.show':
      return 'tokens' in request && request.tokens === true ? 'question' : 'reading';
    case 'hsm.login':
    case 'cluster.transfer':
      return 'deed';
    default:
      return command === 'status' || /\.(list|show|status)$/.test(command) ? 'reading' : 'change';
  }
}

/** @param why a clause: what came in the place of an answer. */
export function unanswered(
  command: AdminCommand,
  stake: Stake,
  requestId: string,
  why: string,
): CommandFailure {
  if (stake === 'reading' || stake === 'question') {
    return new CommandFailure('timeout', `${why}. ${repeatLater}`);
  }
  const repeat =
    stake === 'change'
      ? `repeat it with --request-id ${requestId}, which does it once at most`
      : `look first (\`xksctl ${looks[command] ?? 'status'}\`), then repeat it`;
  const message = `${why}. Whether it did what was asked is not known: ${repeat}.`;
  return new CommandFailure('outcome-unknown', message, exitCodes.outcomeUnknown);
}

const repeatLater =
  'Requests are served all the same; the supervisor replaces a replica that hangs or ends. Try again in half a minute.';

/** Where the outcome of a deed shows. */
const looks: { readonly [C in AdminCommand]?: string } = {
  'cluster.transfer': 'cluster status',
  'hsm.login': 'status',
  'hsm.probe': 'hsm probe',
};
