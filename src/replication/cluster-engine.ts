import type { MemberId } from '../raft/types.js';
import type { LoopStatus } from './replication-loop.js';

/** The administrative side of the engine: what the narrow `OrderedLog` leaves out. */
export interface ClusterEngine {
  readonly memberId: MemberId;
  readonly clusterId: string;
  status(): LoopStatus;
  /** False when this member does not lead or `to` is no voter. */
  transferLeadership(to: MemberId): boolean;
}
