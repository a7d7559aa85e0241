import type { LoopStatus } from '../replication/replication-loop.js';

type RaftStatus = LoopStatus['raft'];

/** Who had best lead after this leader: of the voters that answer, the one that has most; `null` when there is none. */
export function successorOf({ memberId: self, progress }: RaftStatus): RaftStatus['progress'][number] | null {
  const [successor] = progress
    .filter(
      ({ memberId, learner, recentlyActive, lostAcknowledged }) =>
        !learner && recentlyActive && !lostAcknowledged && memberId !== self,
    )
    .sort((left, right) => right.matchIndex - left.matchIndex);
  return successor ?? null;
}
