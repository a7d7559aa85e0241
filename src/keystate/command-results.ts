import { commandClasses } from './command-class.js';
import type { CommandRefusal, CommandResult, CommandType, Status } from './types.js';

export const done = (revision: number): CommandResult => ({ ok: true, revision });

export const refused = (code: CommandRefusal['code'], message: string): CommandResult => ({
  ok: false,
  error: { code, message },
});

export const noKeyStore = (name: string): CommandResult =>
  refused('not-found', `there is no key store "${name}" (xksctl keystore list)`);

export function changedSince(
  what: string,
  current: { readonly revision: number; readonly status: string },
  seen: number,
  show: string,
): CommandResult {
  return refused(
    'conflict',
    `${what} is at revision ${current.revision} (${current.status}) and this command saw ${seen}: look again (${show}), then repeat it if it is still meant`,
  );
}

/**
 * Granting what is granted changes nothing. Denying what is denied raises the revision: a grant that is still under
 * way saw the old one, and must not undo a denial that was confirmed since.
 */
export const changesNothing = (
  current: { readonly status: Status },
  status: Status,
  type: CommandType,
): boolean => current.status === status && commandClasses[type] !== 'deny';
