import { invariant } from '../base/guards.js';
import { Outbox } from './outbox.js';
import { ProgressTracker } from './progress-tracker.js';
import { RaftLog } from './raft-log.js';
import type { RaftOptions, RaftState } from './raft-node.js';
import { abandonReads, noReads, type Reads } from './read-index.js';
import type { MemberId, Role } from './types.js';

/** What a member is at a moment. The rules are in the files beside this one; here are only those of changing roles. */
export class Core {
  options: RaftOptions;
  readonly memberId: MemberId;
  readonly log: RaftLog;
  readonly tracker: ProgressTracker;
  readonly outbox: Outbox;
  readonly reads: Reads = noReads();
  currentTerm: number;
  votedFor: MemberId | null;
  role: Role = 'follower';
  leader: MemberId | null = null;
  electable = true;

  /** Ticks since the leader was heard of or a campaign began; at the leader, since the last CheckQuorum. */
  electionElapsed = 0;
  randomizedElectionTicks = 0;
  /** The leader asked it to take over (thesis §3.10) while it had a membership change to apply first. */
  takeoverDue = false;
  readonly votes = new Map<MemberId, boolean>();

  /** Up to here the log is known to be that of this term's leader. */
  verifiedIndex = 0;
  /** The leader of this term was told by this member that it held more than it does: the end of its log is lost. */
  lostAcknowledged = false;

  heartbeatElapsed = 0;
  /** Number of the newest heartbeat round of this term. */
  heartbeatRound = 0;
  /** Its heartbeats have not left yet. */
  roundOpen = false;
  transferee: MemberId | null = null;
  transferElapsed = 0;
  /** The successor holds all there is: tell it to campaign, after what it is sent now. */
  timeoutNowDue = false;
  /** No membership change is proposed before this index is applied. */
  pendingMembershipIndex = 0;
  /** Of the leader's entries that are not committed. */
  uncommittedBytes = 0;

  constructor(options: RaftOptions, state: RaftState) {
    const { hardState } = state;
    this.options = options;
    this.memberId = options.memberId;
    this.currentTerm = hardState.term;
    this.votedFor = hardState.votedFor;
    this.log = new RaftLog(state.snapshot, state.entries, {
      commitIndex: hardState.commitIndex,
      appliedIndex: state.appliedIndex,
    });
    this.tracker = new ProgressTracker(options.memberId, options, state.membership);
    this.outbox = new Outbox(options.memberId);
    invariant(
      this.log.lastTerm <= hardState.term,
      `term ${hardState.term} is behind that of the log, ${this.log.lastTerm}`,
    );
    this.randomizeElectionTicks();
  }

  /** Paper §5.2: so that split votes are rare. */
  randomizeElectionTicks(): void {
    const { electionTicks, random } = this.options;
    this.randomizedElectionTicks = electionTicks + Math.floor(random() * electionTicks);
  }

  #enter(role: Role, leader: MemberId | null): void {
    abandonReads(this);
    this.role = role;
    this.leader = leader;
    this.electionElapsed = 0;
    this.heartbeatElapsed = 0;
    this.roundOpen = false;
    this.transferee = null;
    this.timeoutNowDue = false;
    this.takeoverDue = false;
    this.votes.clear();
    this.tracker.stop();
    this.randomizeElectionTicks();
  }

  /** A vote is for a whole term: within one it is never taken back (etcd-io/etcd#2461). */
  #enterTerm(term: number, votedFor: MemberId | null): void {
    if (term === this.currentTerm) return;
    invariant(term > this.currentTerm, `term ${term} after ${this.currentTerm}`);
    this.currentTerm = term;
    this.votedFor = votedFor;
    this.verifiedIndex = 0;
    this.outbox.dropAcknowledgements();
  }

  becomeFollower(term: number, leader: MemberId | null): void {
    this.#enterTerm(term, null);
    this.#enter('follower', leader);
  }

  /** Neither term nor vote change (thesis §9.6). */
  becomePreCandidate(): void {
    invariant(this.role !== 'leader', 'a leader does not campaign');
    this.#enter('preCandidate', null);
  }

  /** The vote for itself counts once it is durable. */
  becomeCandidate(): void {
    invariant(this.role !== 'leader', 'a leader does not campaign');
    this.#enterTerm(this.currentTerm + 1, this.memberId);
    this.#enter('candidate', null);
  }

  becomeLeader(): void {
    invariant(this.role === 'candidate', `a ${this.role} does not become leader`);
    const { log } = this;
    this.#enter('leader', this.memberId);
    this.heartbeatRound = 0;
    this.uncommittedBytes = log.bytesBetween(log.commitIndex, log.lastIndex);
    this.tracker.start(log.lastIndex + 1);
    const noop = {
      index: log.lastIndex + 1,
      term: this.currentTerm,
      kind: 'noop',
      data: new Uint8Array(),
    } as const;
    log.append([noop]);
    // Whatever membership changes it inherits stand before its no-op.
    this.pendingMembershipIndex = noop.index;
  }

  /** Whether the newest committed entry is of this term: only then does a leader know what is committed (paper §8). */
  hasCommittedInTerm(): boolean {
    return this.log.term(this.log.commitIndex) === this.currentTerm;
  }

  /** Whether it may campaign: it is a voter, and is not about to learn that it is none (etcd-io/etcd#12133). */
  isPromotable(): boolean {
    return (
      this.electable &&
      this.tracker.isVoter &&
      this.log.pendingSnapshot === null &&
      !this.log.hasUnappliedMembership()
    );
  }
}
