import { changeDigest } from './change-digest.js';
import { refused } from './command-results.js';
import { parseRequestId } from './request-id.js';
import { type RequestRecord, type RequestTable, requestLimits } from './request-table.js';
import type { Command, CommandResult } from './types.js';

/**
 * Exactly once (replication.md 12): what stands against executing `command`; `null` when it is new.
 *
 * Time is what commands say, and one node's clock may be wrong by years. So an id's age is taken from its own command's
 * time, not from the newest time ever seen: a single command from the future would else have all others refused,
 * denials among them, until the future is there. What was forgotten stays refused by the table's floors.
 */
export function judgeRequest(requests: RequestTable, command: Command): CommandResult | null {
  const { requestId, atMs } = command;
  const parsed = parseRequestId(requestId);
  if (parsed === null) {
    return refused(
      'invalid',
      'the request id is not one of this format: 12 hexadecimal digits of its time, a hyphen and 20 of chance. Repeat the change without it',
    );
  }
  const known = requests.get(requestId);
  if (known !== null) return repeated(known, command);
  if (requests.isForgotten(requestId) || parsed.mintedAtMs < atMs - requestLimits.horizonMs) {
    return refused(
      'expired',
      `request ${requestId} is too old: whether it was executed is not known any more, and it will not be now. Look at what is there, then repeat the change without this id; if the id is new, the clock of its node is behind`,
    );
  }
  // It would be remembered for as long.
  return parsed.mintedAtMs > atMs + requestLimits.horizonMs
    ? refused('invalid', `request ${requestId} is from the future: the clock of its node was ahead`)
    : null;
}

/** After its execution. Forgets old ones. */
export function rememberRequest(
  requests: RequestTable,
  index: number,
  command: Command,
  result: CommandResult,
): void {
  const { requestId, atMs } = command;
  // Of commands that turn this on: they were judged under the format before.
  if (parseRequestId(requestId) === null) return;
  requests.put({
    requestId,
    index,
    change: changeDigest(command),
    revision: result.ok ? result.revision : null,
    refusal: result.ok
      ? null
      : {
          code: result.error.code,
          message: result.error.message.slice(0, requestLimits.refusalCharactersMax),
        },
  });
  const horizonMs = Math.max(0, atMs - requestLimits.horizonMs);
  requests.prune(horizonMs.toString(16).padStart(12, '0'));
}

function repeated(known: RequestRecord, command: Command): CommandResult {
  const { requestId, index, change, revision, refusal } = known;
  if (change !== changeDigest(command)) {
    return refused(
      'conflict',
      `request ${requestId} was another change, at index ${index}: repeat this one without its id`,
    );
  }
  if (refusal !== null) return { ok: false, error: refusal, repeated: true };
  return { ok: true, revision: revision ?? index, repeated: true };
}
