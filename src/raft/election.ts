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
  for (const voter of core.tracker.voters) {
    if (voter === core.memberId) continue;
    core.outbox.send({
      kind: kind === 'preVote' ? 'preVote' : 'vote',
      to: voter,
      // A preVote is for the term that would be campaigned in.
      term: kind === 'preVote' ? core.currentTerm + 1 : core.currentTerm,
      lastLog,
      leadershipTransfer: kind === 'transfer',
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
 * Whoever asks gets an answer, voter or not: a learner may have been promoted and not know it yet (etcd-io/etcd#10998).
 * A request of a lower term does not come here, one of a higher term has raised ours unless it is a preVote.
 */
export function handleVoteRequest(core: Core, message: VoteRequest): void {
  const preVote = message.kind === 'preVote';
  const free =
    core.votedFor === message.from ||
    (core.votedFor === null && core.leader === null) ||
    (preVote && message.term > core.currentTerm);
  const granted = free && core.log.isUpToDate(message.lastLog);
  if (granted && !preVote) {
    core.votedFor = message.from;
    core.electionElapsed = 0;
  }
  core.outbox.send({
    kind: preVote ? 'preVoteResponse' : 'voteResponse',
    to: message.from,
    // The term of the campaign when granted, so that a pre-candidate far behind can tell it from a refusal.
    term: granted ? message.term : core.currentTerm,
    granted,
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
