import type { CommandRefusal } from '../keystate/types.js';
import type { HsmErrorCode } from '../ops/state-link.js';

/** Why an administrative command was not done. Stable: scripts match on it. */
export type AdminErrorCode =
  | CommandRefusal['code']
  | HsmErrorCode
  /** The request itself is malformed: a bug of the client, or another version of it. */
  | 'bad-request'
  | 'unknown-command'
  /** Something stands against it that `force` would override. */
  | 'refused'
  /** No serving process is there to do what needs the HSM. */
  | 'no-serving-process'
  | 'timeout'
  /** It may have been done: look before repeating it. */
  | 'outcome-unknown'
  /** No leader took it: it is in no log, and never will be. */
  | 'no-quorum'
  | 'overloaded'
  | 'log-failed'
  | 'internal';

export interface AdminError {
  readonly code: AdminErrorCode;
  /** For the operator: what is in the way, and what to do. */
  readonly message: string;
  /** Taken from key state as this node has it: another may know more. Inside the replica only. */
  readonly byState?: true;
}
