import type { Core } from './core.js';

/**
 * Begins a heartbeat round. Its number goes along as `readId` and comes back in the answers; within a term it is never
 * used twice.
 */
export function broadcastHeartbeat(core: Core): void {
  core.heartbeatRound += 1;
  core.heartbeatElapsed = 0;
  core.roundOpen = true;
  const readId = String(core.heartbeatRound);
  for (const peer of core.tracker.peers) {
    // Beyond what is known to match, the member's log may be another (etcd-io/raft; scylladb/scylladb#9965).
    const commitIndex = Math.min(peer.matchIndex, core.log.commitIndex);
    const sent = core.outbox.send({
      kind: 'heartbeat',
      to: peer.memberId,
      term: core.currentTerm,
      commitIndex,
      readId,
    });
    if (sent) peer.sentHeartbeat(core.heartbeatRound, commitIndex);
  }
}

/** The round that a heartbeat or its answer belongs to; 0 when it is none of ours. */
export function roundOf(readId: string | null): number {
  if (readId === null) return 0;
  const round = Number(readId);
  return Number.isSafeInteger(round) && round > 0 ? round : 0;
}
