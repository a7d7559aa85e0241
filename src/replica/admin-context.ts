import type { Clock } from '../base/clock.js';
import type { RandomSource } from '../base/random.js';
import type { Result } from '../base/result.js';
import type { KeyStateQueries } from '../keystate/types.js';
import type { AdminCommand, AdminRequest, AdminResponse } from './admin-contract.js';
import type { AdminError } from './admin-error.js';
import type { AdminCaller, ChangeProposer } from './change-proposer.js';
import type { ClusterControl } from './cluster-control.js';
import type { CredentialUse } from './credential-use.js';
import type { HsmRequests } from './hsm-requests.js';
import type { IvReservations } from './iv-reservations.js';
import type { IvWatch } from './iv-watch.js';
import type { StatePublication } from './state-publication.js';

/** What administration works with. */
export interface AdminContext {
  readonly node: { readonly name: string; readonly version: string; readonly startedAtMs: number };
  /** As of now: a snapshot taken over replaces it. */
  readonly state: KeyStateQueries;
  readonly proposer: ChangeProposer;
  readonly publication: StatePublication;
  readonly hsm: HsmRequests;
  readonly credentialUse: CredentialUse;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly cluster: ClusterControl;
  /** Of the data directory. */
  readonly diskSpace: { readonly freeBytes: number | null };
  readonly ivWatch: Pick<IvWatch, 'spent' | 'encryptionsMax'>;
  /** Of this node. */
  readonly ivReservations: Pick<IvReservations, 'unreservedOf'>;
  /** As the supervisor counts serving processes. */
  readonly fleet: () => { readonly configured: number; readonly ready: number };
}

/** What stands behind an answer from key state is said for all of them in one place (`admin-api.ts`). */
export type AdminHandler<C extends AdminCommand> = (
  request: AdminRequest<C>,
  caller: AdminCaller,
) => Promise<Result<Omit<AdminResponse<C>, 'reading'>, AdminError>>;

export type AdminHandlers = { readonly [C in AdminCommand]: AdminHandler<C> };

/** The handlers of the commands that begin with `Noun.`. */
export type NounHandlers<Noun extends string> = Pick<
  AdminHandlers,
  Extract<AdminCommand, `${Noun}.${string}`>
>;
