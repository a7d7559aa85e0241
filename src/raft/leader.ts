import { err, ok, type Result } from '../base/result.js';
import type { Core } from './core.js';
import { broadcastHeartbeat, roundOf } from './heartbeat.js';
import type { Progress } from './progress.js';
import { entriesBytes, entryBytes } from './raft-log.js';
import { confirmReads, releaseHeldReads } from './read-index.js';
import type { Entry, EntryKind, LogPosition, MemberId, Message, ProposeError } from './types.js';

type AppendResponse = Extract<Message, { kind: 'appendResponse' }>;
type HeartbeatResponse = Extract<Message, { kind: 'heartbeatResponse' }>;

export function propose(
  core: Core,
  kind: Exclude<EntryKind, 'noop'>,
  data: Uint8Array,
): Result<LogPosition, ProposeError> {
  const { log } = core;
  if (core.role !== 'leader') return err({ kind: 'not-leader', leader: core.leader });
  if (core.transferee !== null) return err({ kind: 'transferring' });
  if (kind === 'membership' && log.appliedIndex < core.pendingMembershipIndex) {
    return err({ kind: 'membership-pending' });
  }
  const entry: Entry = { index: log.lastIndex + 1, term: core.currentTerm, kind, data };
  const bytes = core.uncommittedBytes + entryBytes(entry);
  // One alone always goes, however long.
  if (core.uncommittedBytes > 0 && bytes > core.options.uncommittedBytesMax)
    return err({ kind: 'overloaded' });
  core.uncommittedBytes = bytes;
  log.append([entry]);
  if (kind === 'membership') core.pendingMembershipIndex = entry.index;
  return ok({ index: entry.index, term: entry.term });
}

/** Sends each member what it lacks, as far as it may have it now. */
export function replicate(core: Core): void {
  for (const peer of core.tracker.peers) {
    while (sendAppend(core, peer)) {
      // One append after the other, until there is no more or the window is full.
    }
  }
  if (core.timeoutNowDue) {
    core.timeoutNowDue = false;
    if (core.transferee !== null) sendTimeoutNow(core, core.transferee);
  }
}

function sendTimeoutNow(core: Core, to: MemberId): void {
  core.outbox.send({ kind: 'timeoutNow', to, term: core.currentTerm });
}

/** False when there is nothing to send to it now. */
function sendAppend(core: Core, peer: Progress): boolean {
  const { log } = core;
  if (peer.paused) return false;
  const previousIndex = peer.nextIndex - 1;
  const previousTerm = log.term(previousIndex);
  if (previousTerm === null) return sendSnapshot(core, peer);
  const entries = peer.throttled ? [] : log.slice(peer.nextIndex, log.lastIndex, core.options.appendBytesMax);
  if (entries.length === 0 && !peer.probeDue && !peer.canRaiseCommit(log.commitIndex)) return false;
  const sent = core.outbox.send({
    kind: 'append',
    to: peer.memberId,
    term: core.currentTerm,
    previous: { index: previousIndex, term: previousTerm },
    entries,
    commitIndex: log.commitIndex,
  });
  if (sent) peer.sentAppend(entries.length, entriesBytes(entries), log.commitIndex);
  return sent;
}

/** What the member needs next is compacted (paper §7). */
function sendSnapshot(core: Core, peer: Progress): boolean {
  // Not to one that may be gone.
  if (!peer.recentlyActive) return false;
  // As of what is applied, which is what the surroundings have at hand when a Ready is taken.
  const position = { index: core.log.appliedIndex, term: core.log.term(core.log.appliedIndex) ?? 0 };
  const sent = core.outbox.send({
    kind: 'snapshot',
    to: peer.memberId,
    term: core.currentTerm,
    position,
    membership: core.tracker.membership,
  });
  if (sent) peer.becomeSnapshot(position.index);
  return sent;
}

/**
 * Commits what a majority holds durably, if it is of this term (paper §5.4.2, figure 8; logcabin/logcabin#44). This
 * member's own log counts as far as it is durable, no further (etcd-io/etcd#14370).
 */
export function maybeCommit(core: Core): void {
  const { log, tracker } = core;
  const index = tracker.quorumMatchIndex(log.stableIndex);
  if (index <= log.commitIndex || log.term(index) !== core.currentTerm) return;
  core.uncommittedBytes -= log.bytesBetween(log.commitIndex, index);
  log.commitTo(index);
  releaseHeldReads(core);
}

export function handleAppendResponse(core: Core, peer: Progress, message: AppendResponse): void {
  if (peer.lostAcknowledged) return;
  peer.recentlyActive = true;
  if (message.rejected) {
    const { hint } = message;
    // The mirror of the follower's hint: above this, our terms are greater than any up to the hint's index.
    const next = hint.term > 0 ? core.log.lastWithTermUpTo(hint.index, hint.term).index : hint.index;
    if (peer.rejected(message.index, next)) peer.probeDue = true;
    return;
  }
  if (message.index > core.log.lastIndex) return;
  const progressed = peer.acknowledged(message.index);
  if (peer.state === 'replicate') peer.freeInflights(message.index);
  else if (peer.state === 'probe' && message.index === peer.matchIndex) peer.becomeReplicate();
  // Whatever snapshot it was that it took, the log goes on from there.
  else if (progressed && peer.matchIndex >= core.log.snapshotIndex) peer.becomeReplicate();
  if (!progressed) return;
  maybeCommit(core);
  continueTransfer(core, peer);
}

export function handleHeartbeatResponse(core: Core, peer: Progress, message: HeartbeatResponse): void {
  const round = roundOf(message.readId);
  if (peer.lostAcknowledged || round > core.heartbeatRound) return;
  peer.answeredRound(round, message.lastIndex);
  // Whatever was sent may be lost: an append, be it empty, finds out.
  if (peer.matchIndex < core.log.lastIndex || peer.state === 'probe') peer.probeDue = true;
  confirmReads(core);
  continueTransfer(core, peer);
}

export function tickLeader(core: Core): void {
  core.electionElapsed += 1;
  core.heartbeatElapsed += 1;
  if (core.transferee !== null) {
    core.transferElapsed += 1;
    // It had its time (thesis §3.10): go on leading.
    if (core.transferElapsed >= core.options.electionTicks) core.transferee = null;
  }
  if (core.electionElapsed >= core.options.electionTicks) {
    core.electionElapsed = 0;
    if (!core.tracker.takeQuorumActive()) {
      core.becomeFollower(core.currentTerm, null);
      return;
    }
  }
  if (core.heartbeatElapsed >= core.options.heartbeatTicks) broadcastHeartbeat(core);
}

export function transferLeadership(core: Core, to: MemberId): boolean {
  if (core.role !== 'leader' || !core.tracker.voters.includes(to)) return false;
  if (to === core.memberId) return true;
  const peer = core.tracker.peer(to);
  if (peer === undefined || peer.lostAcknowledged) return false;
  if (core.transferee === to) return true;
  core.transferee = to;
  core.transferElapsed = 0;
  continueTransfer(core, peer);
  return true;
}

/** The successor holds all there is: nothing is proposed meanwhile. It is told as often as it answers. */
function continueTransfer(core: Core, peer: Progress): void {
  if (core.transferee === peer.memberId && peer.matchIndex === core.log.lastIndex) core.timeoutNowDue = true;
}

/** The membership has changed, effective now, at its application. */
export function adoptMembership(core: Core): void {
  const { log, tracker } = core;
  if (!tracker.isVoter) {
    // It led until its own removal was committed (thesis §4.2.2) and leaves to the best of those that stay.
    tracker.reconfigure(log.lastIndex + 1);
    const successor = tracker.mostCaughtUpVoter();
    if (successor !== null) sendTimeoutNow(core, successor.memberId);
    core.becomeFollower(core.currentTerm, null);
    return;
  }
  tracker.reconfigure(log.lastIndex + 1);
  if (core.transferee !== null && !tracker.voters.includes(core.transferee)) core.transferee = null;
  maybeCommit(core);
  confirmReads(core);
}
