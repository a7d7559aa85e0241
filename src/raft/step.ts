import type { Core } from './core.js';
import {
  handleVoteRequest,
  handleVoteResponse,
  isIgnoredForLeader,
  learnCommitted,
  takeOver,
} from './election.js';
import {
  answerFormerLeader,
  handleAppend,
  handleHeartbeat,
  handleSnapshot,
  isWellFormedAppend,
} from './follower.js';
import { handleAppendResponse, handleHeartbeatResponse } from './leader.js';
import { askReadIndex, handleReadIndexResponse } from './read-index.js';
import type { MemberId, Message } from './types.js';

/** A message from another member. Malformed or stale ones change nothing. */
export function stepMessage(core: Core, message: Message): void {
  if (message.to !== core.memberId || message.from === core.memberId) return;
  if (!Number.isSafeInteger(message.term) || message.term < 1) return;
  if (message.kind === 'append' && !isWellFormedAppend(message)) return;
  if (message.term > core.currentTerm && !enterHigherTerm(core, message)) return;
  // What is committed stays so, however old the message.
  if ('committed' in message) learnCommitted(core, message);
  if (message.term < core.currentTerm) {
    handleLowerTerm(core, message);
    return;
  }
  handle(core, message);
}

/** Messages of an earlier term are stale (paper §5.1), but some senders must be told. */
function handleLowerTerm(core: Core, message: Message): void {
  switch (message.kind) {
    case 'append':
    case 'heartbeat':
      answerFormerLeader(core, message);
      return;
    case 'preVote':
      // Else one with a longer log and a lower term would never learn in which to campaign (etcd-io/etcd#8501).
      core.outbox.send({
        kind: 'preVoteResponse',
        to: message.from,
        term: core.currentTerm,
        granted: false,
        committed: core.log.committedPosition(),
      });
      return;
    case 'readIndex':
      core.outbox.send({
        kind: 'readIndexResponse',
        to: message.from,
        term: core.currentTerm,
        readId: message.readId,
        index: null,
      });
      return;
    default:
  }
}

/** Paper §5.1: a higher term makes a follower. False when the message is not to be heeded at all. */
function enterHigherTerm(core: Core, message: Message): boolean {
  switch (message.kind) {
    case 'preVote':
      // Asks about a term that nobody is in yet (thesis §9.6).
      return !isIgnoredForLeader(core, message);
    case 'preVoteResponse':
      // Granted: the term is the one that was asked about.
      if (!message.granted) core.becomeFollower(message.term, null);
      return true;
    case 'vote':
      if (isIgnoredForLeader(core, message)) return false;
      core.becomeFollower(message.term, null);
      return true;
    case 'append':
    case 'heartbeat':
    case 'snapshot':
      core.becomeFollower(message.term, message.from);
      return true;
    default:
      core.becomeFollower(message.term, null);
      return true;
  }
}

/** Of this term, or a preVote (or its grant) of a later one. */
function handle(core: Core, message: Message): void {
  switch (message.kind) {
    case 'preVote':
    case 'vote':
      handleVoteRequest(core, message);
      return;
    case 'preVoteResponse':
    case 'voteResponse':
      handleVoteResponse(core, message);
      return;
    case 'append':
      if (follow(core, message.from)) handleAppend(core, message);
      return;
    case 'heartbeat':
      if (follow(core, message.from)) handleHeartbeat(core, message);
      return;
    case 'snapshot':
      if (follow(core, message.from)) handleSnapshot(core, message);
      return;
    case 'timeoutNow':
      takeOver(core);
      return;
    case 'readIndex':
      askReadIndex(core, message.from, message.readId);
      return;
    case 'readIndexResponse':
      handleReadIndexResponse(core, message.readId, message.index);
      return;
    default:
      handleResponse(core, message);
  }
}

/** `from` leads this term (paper §5.2). False when this member does: then the message can't be. */
function follow(core: Core, from: MemberId): boolean {
  if (core.role === 'leader') return false;
  if (core.role !== 'follower' || core.leader !== from) core.becomeFollower(core.currentTerm, from);
  core.electionElapsed = 0;
  return true;
}

function handleResponse(
  core: Core,
  message: Extract<Message, { kind: 'appendResponse' | 'heartbeatResponse' }>,
): void {
  const peer = core.role === 'leader' ? core.tracker.peer(message.from) : undefined;
  if (peer === undefined) return;
  if (message.kind === 'appendResponse') handleAppendResponse(core, peer, message);
  else handleHeartbeatResponse(core, peer, message);
}
