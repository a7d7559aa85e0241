import type { Result } from '../base/result.js';
import type { LoopStatus } from '../replication/replication-loop.js';
import type { PeerTransportStats } from '../replication/transport/peer-transport.js';
import type { Refusal } from '../replication/transport/refusal.js';
import type { AdminError } from './admin-error.js';
import type { AdminCaller } from './change-proposer.js';
import type { NodeStanding } from './standing.js';

/** What administration may ask of the replication engine beside the ordered log. */
export interface ClusterControl {
  readonly memberId: string;
  readonly clusterId: string;
  status(): LoopStatus;
  stateHash(): string;
  /** Whether this node may serve, and if not, why. */
  standing(): NodeStanding;
  /** Why it was not let in when it last asked to join; `null` when it is in, or has not asked. */
  joinProblem(): string | null;
  /** Members that do not listen to this node: what each said last. */
  refusals(): ReadonlyMap<string, Refusal>;
  /** `null`: a cluster of one, or fenced off. */
  peerStats(): PeerTransportStats | null;
  /** End of validity of this node's certificate for the others, ms since the epoch; `null` without one. */
  certificateNotAfterMs(): number | null;
  /** False when this member does not lead or `memberId` is no voter. */
  transferLeadership(memberId: string): boolean;
  /** An index applied here that covers everything acknowledged before; an error where no quorum answers in time. */
  readIndex(timeoutMs: number): Promise<Result<number, AdminError>>;
  /** Has another member run an administrative command for `uid` of this node. */
  ask(
    memberId: string,
    command: string,
    body: object,
    caller: AdminCaller,
  ): Promise<Result<unknown, AdminError>>;
  /** Puts into key state what the founder has yet to: after an upgrade of a cluster of one. */
  found(): Promise<Result<null, string>>;
  /** Boot clock, ms: what `freshAsOfMs` and `receivedAtMs` count on. */
  bootTimeMs(): number;
  /** Newest format that this build reads and writes. */
  readonly formatMax: number;
  /** Of what must be the same on all nodes in this node's configuration. */
  readonly configHash: string;
}
