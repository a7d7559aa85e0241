import type { Core } from './core.js';
import { tally } from './quorum.js';
import type { Message } from './types.js';

type VoteRequest = Extract<Message, { kind: 'preVote' | 'vote' }>;
type VoteResponse = Extract<Message, { kind: 'preVoteResponse' | 'voteResponse' }>;

/** `transfer`: asked to by the leader, and therefore without PreVote (thesis §3.10). */
export type CampaignKind = 'preVote' | 'vote' | 'transfer';

/** False when this member may not. */
export function campaign(core: Core, kind: CampaignKind): boolean {
  if (core.role === 'leader' || !core.isPromotable()) return false;
  if (kind === 'preVote') {
    core.becomePreCandidate();
    core.votes.set(core.memberId, true);
  } else {
    core.becomeCandidate();
  }
  const lastLog = core.log.lastPosition();
  const committed = core.log.committedPosition();
  for (const voter of core.tracker.voters) {
    if (voter === core.memberId) continue;
    core.outbox.send({
      kind: kind === 'preVote' ? 'preVote' : 'vote',
      to: voter,
      // A preVote is for the term that would be campaigned in.
      term: kind === 'preVote' ? core.currentTerm + 1 : core.currentTerm,
      lastLog,
      leadershipTransfer: kind === 'transfer',
      committed,
    });
  }
  settleElection(core);
  return true;
}

/** From the leader: campaign at once (thesis §3.10), or as soon as the members are known that vote. */
export function takeOver(core: Core): void {
  if (core.role !== 'follower') return;
  if (!campaign(core, 'transfer')) core.takeoverDue = core.log.hasUnappliedMembership();
}

/** What the votes come to by now. */
function settleElection(core: Core): void {
  const outcome = tally(core.tracker.voters, core.votes);
  if (outcome === 'pending') return;
  if (outcome === 'lost') core.becomeFollower(core.currentTerm, null);
  else if (core.role === 'candidate') core.becomeLeader();
  else if (!campaign(core, 'vote')) core.becomeFollower(core.currentTerm, null);
}

/** While a leader is heard from, others' campaigns are not heeded (thesis §4.2.3), unless it asked for them. */
export function isIgnoredForLeader(core: Core, message: VoteRequest): boolean {
  return (
    !message.leadershipTransfer && core.leader !== null && core.electionElapsed < core.options.electionTicks
  );
}

/**
 * Members whose voters became fewer need the old majority until they hear of it, perhaps with the vote of one that was
 * removed, knows it, and refuses because its log is longer: so campaigns carry what is committed both ways (as in
 * tikv/raft-rs). A log that holds the position holds all before it as well (log matching, paper §5.3).
 */
export function learnCommitted(core: Core, message: VoteRequest | VoteResponse): void {
  const { log } = core;
  const { kind, term, committed } = message;
  // A leader counts by itself.
  if (core.role === 'leader' || committed.index <= log.commitIndex || !log.matches(committed)) return;
  // Leaders of terms before the one it was committed in may lack it, and are still heeded in such a term (paper §5.4).
  const ofNextTerm = kind === 'preVote' || (kind === 'preVoteResponse' && message.granted);
  if (core.currentTerm < (ofNextTerm ? term - 1 : term)) return;
  log.commitTo(committed.index);
  // It may be about to learn that its majority is another one (etcd-io/etcd#12133).
  if (core.role !== 'follower' && !core.isPromotable()) core.becomeFollower(core.currentTerm, null);
}

/**
 * Of two that miss their leader at once, and hold the same, each would win the other's preVote, and then they would split
 * the votes and wait for another election timeout (paper §5.2): the one with the smaller id is refused its preVote for the
 * time of a heartbeat, within which the other is to be elected. The refusal holds for that whole campaign: where the votes
 * of others do not make up for it, it asks anew after a randomized election timeout. Not refused for longer: the other may
 * reach fewer members, and never be elected.
 */
function goesFirst(core: Core, { kind, from, lastLog }: VoteRequest): boolean {
  const own = core.log.lastPosition();
  return (
    kind === 'preVote' &&
    core.role === 'preCandidate' &&
    core.electionElapsed < core.options.heartbeatTicks &&
    core.memberId > from &&
    own.index === lastLog.index &&
    own.term === lastLog.term
  );
}

/**
 * Whoever asks gets an answer, voter or not: a learner may have been promoted and not know it yet (etcd-io/etcd#10998).
 * A request of a lower term does not come here, one of a higher term has raised ours unless it is a preVote.
 */
export function handleVoteRequest(core: Core, message: VoteRequest): void {
  const preVote = message.kind === 'preVote';
  const free =
    core.votedFor === message.from ||
    (core.votedFor === null && core.leader === null) ||
    (preVote && message.term > core.currentTerm && !goesFirst(core, message));
  const granted = free && core.log.isUpToDate(message.lastLog);
  if (granted && !preVote) {
    core.votedFor = message.from;
    core.electionElapsed = 0;
  }
  // Who asked is in the term before the one that the grant names: see `learnCommitted`.
  const untold = preVote && granted && message.term === core.currentTerm;
  core.outbox.send({
    kind: preVote ? 'preVoteResponse' : 'voteResponse',
    to: message.from,
    // The term of the campaign when granted, so that a pre-candidate far behind can tell it from a refusal.
    term: granted ? message.term : core.currentTerm,
    granted,
    committed: untold ? { index: 0, term: 0 } : core.log.committedPosition(),
  });
}

export function handleVoteResponse(core: Core, message: VoteResponse): void {
  const awaited = core.role === 'preCandidate' ? 'preVoteResponse' : 'voteResponse';
  if ((core.role !== 'preCandidate' && core.role !== 'candidate') || message.kind !== awaited) return;
  // A preVote that was granted for another campaign's term says nothing about this one.
  if (message.kind === 'preVoteResponse' && message.granted && message.term !== core.currentTerm + 1) return;
  if (!core.tracker.voters.includes(message.from)) return;
  if (!core.votes.has(message.from)) core.votes.set(message.from, message.granted);
  settleElection(core);
}

/** Term and vote of this candidacy are durable. */
export function countOwnVote(core: Core): void {
  if (core.role !== 'candidate' || core.votes.has(core.memberId)) return;
  core.votes.set(core.memberId, true);
  settleElection(core);
}
