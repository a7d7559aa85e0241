import type { HardState, MemberId, Message } from '../../../src/raft/types.js';
import type { ObservedLog, RecoveredState } from './observed-log.js';
import type { Verdict } from './verdict.js';

/**
 * What a member has said binds it: terms and commit indexes only rise, a vote stands for its term, also over crashes
 * (paper §5.1, §5.2, figure 2), and nothing is said that isn't durable yet.
 */
export class DurableState {
  readonly #verdict: Verdict;
  /** Votes as told to others: member, then term. */
  readonly #votes = new Map<MemberId, Map<number, MemberId>>();

  constructor(verdict: Verdict) {
    this.#verdict = verdict;
  }

  /** `next` is handed to the disk of a member whose log is `log`. */
  persist(member: MemberId, log: ObservedLog, next: HardState): void {
    const last = log.pendingHardState;
    if (next.term < last.term) {
      this.#verdict.broken('monotone term', `${member} goes from term ${last.term} back to ${next.term}`);
    }
    if (next.commitIndex < last.commitIndex) {
      this.#verdict.broken(
        'monotone commit',
        `${member} goes from commit index ${last.commitIndex} back to ${next.commitIndex}`,
      );
    }
    if (next.term === last.term && last.votedFor !== null && next.votedFor !== last.votedFor) {
      this.#verdict.broken(
        'one vote per term',
        `${member} voted for ${last.votedFor} in term ${last.term}, now for ${next.votedFor ?? 'nobody'}`,
      );
    }
  }

  /** A restart found `state` on the disk of a member whose log, as far as it was synced, was `log`. */
  recovered(member: MemberId, log: ObservedLog, state: RecoveredState): void {
    const { term, votedFor, commitIndex } = log.hardState;
    const found = state.hardState;
    if (found.term < term) {
      this.#verdict.broken('monotone term', `${member} had term ${term} and recovers with ${found.term}`);
    }
    if (found.commitIndex < commitIndex) {
      this.#verdict.broken(
        'monotone commit',
        `${member} had commit index ${commitIndex} and recovers with ${found.commitIndex}`,
      );
    }
    if (found.term === term && votedFor !== null && found.votedFor !== votedFor) {
      this.#verdict.broken('one vote per term', `${member} recovers with its vote in term ${term} changed`);
    }
    const lastIndex = state.snapshot.index + state.entries.length;
    if (lastIndex < log.syncedIndex) {
      this.#verdict.broken(
        'durable log',
        `${member} had synced entries up to ${log.syncedIndex} and recovers with ${lastIndex}`,
      );
    }
  }

  /** A member whose log is `log` says `message`. */
  says(message: Message, log: ObservedLog): void {
    const { kind, from, to, term } = message;
    const { hardState } = log;
    // A pre-vote is about a term that nobody is in yet (thesis §9.6).
    if (kind === 'preVote' || kind === 'preVoteResponse') return;
    if (term > hardState.term) {
      this.#verdict.broken(
        'durable before said',
        `${from} says ${kind} of term ${term}; its disk has term ${hardState.term}`,
      );
    }
    if (kind === 'vote') this.#votesFor(from, term, from, hardState);
    if (kind === 'voteResponse' && message.granted) this.#votesFor(from, term, to, hardState);
    if (kind === 'appendResponse' && !message.rejected && message.index > log.syncedIndex) {
      this.#verdict.broken(
        'durable before said',
        `${from} acknowledges entries up to ${message.index}; its disk has them up to ${log.syncedIndex}`,
      );
    }
  }

  #votesFor(member: MemberId, term: number, candidate: MemberId, durable: HardState): void {
    let votes = this.#votes.get(member);
    if (votes === undefined) {
      votes = new Map();
      this.#votes.set(member, votes);
    }
    const known = votes.get(term);
    if (known !== undefined && known !== candidate) {
      this.#verdict.broken(
        'one vote per term',
        `${member} votes for ${known} and for ${candidate} in term ${term}`,
      );
    }
    votes.set(term, candidate);
    if (durable.term === term && durable.votedFor !== candidate) {
      this.#verdict.broken(
        'durable before said',
        `${member} votes for ${candidate} in term ${term}; its disk has a vote for ${durable.votedFor ?? 'nobody'}`,
      );
    }
  }

  /** The disk of `member` was taken from it: what it forgot is not held against it. */
  forgotten(member: MemberId): void {
    this.#votes.delete(member);
  }
}
