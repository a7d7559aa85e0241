import { RaftNode } from '../raft/raft-node.js';
import type { Membership } from '../raft/types.js';
import type { CoreLimits, LoopOptions } from './loop-contract.js';
import type { Timing } from './timing.js';

/** What the consensus core is bounded by. */
const coreLimits: CoreLimits = {
  inflightMessagesMax: 256,
  inflightBytesMax: 8 * 1024 * 1024,
  /** With what surrounds it well below what one message may have (gRPC: 4 MiB). */
  appendBytesMax: 1024 * 1024,
  /** At the leader, of all members' proposals. */
  uncommittedBytesMax: 64 * 1024 * 1024,
  committedBytesMax: 1024 * 1024,
};

type CoreOptions = Pick<LoopOptions<unknown>, 'memberId' | 'recovered' | 'limits' | 'random'>;

/** The state machine is that of `index`, the members are those of then. */
export interface AppliedState {
  readonly index: number;
  readonly membership: Membership;
}

export function recoveredLastIndex({ entries, snapshot }: CoreOptions['recovered']): number {
  return entries.at(-1)?.index ?? snapshot.index;
}

/** The consensus core as it is started from what was recovered. */
export function createCore(
  { memberId, recovered, limits, random }: CoreOptions,
  applied: AppliedState,
  { electionTicks, heartbeatTicks }: Timing,
): RaftNode {
  // Where the log has lost its end this member halts; until then it must not be said to hold more than it does.
  const commitIndex = Math.min(recovered.hardState.commitIndex, recoveredLastIndex(recovered));
  return new RaftNode(
    { memberId, electionTicks, heartbeatTicks, random, ...(limits.core ?? coreLimits) },
    {
      ...recovered,
      hardState: { ...recovered.hardState, commitIndex },
      membership: applied.membership,
      appliedIndex: applied.index,
    },
  );
}
