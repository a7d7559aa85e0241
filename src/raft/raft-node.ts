import { invariant } from '../base/guards.js';
import type { Result } from '../base/result.js';
import { Core } from './core.js';
import { campaign, countOwnVote, takeOver } from './election.js';
import {
  adoptMembership,
  maybeCommit,
  propose,
  replicate,
  tickLeader,
  transferLeadership,
} from './leader.js';
import type { SnapshotInstall } from './raft-log.js';
import { askReadIndex } from './read-index.js';
import { stepMessage } from './step.js';
import type {
  Entry,
  EntryKind,
  HardState,
  LogPosition,
  MemberId,
  Membership,
  Message,
  PeerProgress,
  ProposeError,
  RaftStatus,
  Ready,
} from './types.js';

export interface RaftOptions {
  readonly memberId: MemberId;
  /** Ticks without a word from the leader before a member campaigns: a random number from here to twice this - 1. */
  readonly electionTicks: number;
  /** Ticks between heartbeats; less than half of `electionTicks`. */
  readonly heartbeatTicks: number;
  /** In [0, 1). Injected. */
  readonly random: () => number;
  readonly inflightMessagesMax: number;
  readonly inflightBytesMax: number;
  /** Of the entries in one append; one longer entry goes alone. */
  readonly appendBytesMax: number;
  readonly uncommittedBytesMax: number;
  /** Of `committed` in one Ready. */
  readonly committedBytesMax: number;
}

/** What a member knows when it starts. */
export interface RaftState {
  readonly hardState: HardState;
  /** Of the newest snapshot; index 0 and term 0 before the first. */
  readonly snapshot: LogPosition;
  /** All after the snapshot. */
  readonly entries: readonly Entry[];
  /** As of `appliedIndex`. */
  readonly membership: Membership;
  /** Entries up to here are not handed out as committed again. ≥ snapshot.index, ≤ commitIndex. */
  readonly appliedIndex: number;
}

/**
 * One member of a Raft group, in the manner of etcd's: no I/O, no timers, no randomness of its own. Inputs are `tick`,
 * `step`, `propose`, `readIndex`, …; what they come to is collected in `ready`.
 */
export class RaftNode {
  readonly #core: Core;
  /** As last handed out to be made durable. */
  #hardState: HardState;
  /** Of the Ready that is being worked on; `null` between `advance` and `ready`. */
  #underWay: UnderWay | null = null;

  constructor(options: RaftOptions, state: RaftState) {
    checkOptions(options);
    this.#core = new Core(options, state);
    this.#hardState = this.#currentHardState();
  }

  tick(): void {
    const core = this.#core;
    if (core.role === 'leader') {
      tickLeader(core);
      return;
    }
    core.electionElapsed += 1;
    // One that may not campaign yet goes on waiting, and does so at once when it may.
    if (core.electionElapsed >= core.randomizedElectionTicks) campaign(core, 'preVote');
  }

  /** A message from another member. Malformed or stale ones change nothing. */
  step(message: Message): void {
    stepMessage(this.#core, message);
  }

  /** Appends at the leader. What is returned is where it stands; committed or not is seen from `Ready.committed`. */
  propose(kind: Exclude<EntryKind, 'noop'>, data: Uint8Array): Result<LogPosition, ProposeError> {
    return propose(this.#core, kind, data);
  }

  /**
   * Asks for a quorum-confirmed read index (thesis §6.4); the answer comes in `Ready.reads`, or never: use timeouts. Each
   * try has an id of its own: at a follower, a late answer to an earlier try would pass for one to this.
   */
  readIndex(readId: string): void {
    askReadIndex(this.#core, null, readId);
  }

  /** Campaigns at once (PreVote first). For a cluster of one, and tests. */
  campaign(): void {
    campaign(this.#core, 'preVote');
  }

  /** Leader: hands leadership over (thesis §3.10). False when not leader or `to` is no voter. */
  transferLeadership(to: MemberId): boolean {
    return transferLeadership(this.#core, to);
  }

  /** Leader: becomes follower in the same term without electing another (a stalled disk, a state hash in the minority). */
  stepDown(): void {
    const core = this.#core;
    if (core.role === 'leader') core.becomeFollower(core.currentTerm, null);
  }

  /**
   * Other ticks from now on, as `RaftOptions` has them. Members may differ in them for a while: that costs at most an
   * election, never safety, which rests on no time (paper §5.6).
   */
  setTiming(electionTicks: number, heartbeatTicks: number): void {
    const core = this.#core;
    const options = { ...core.options, electionTicks, heartbeatTicks };
    checkOptions(options);
    core.options = options;
    // What went by so far was counted in other ticks.
    core.electionElapsed = 0;
    core.randomizeElectionTicks();
  }

  /** No campaigns and no leadership while set. */
  setElectable(electable: boolean): void {
    const core = this.#core;
    core.electable = electable;
    if (!electable && core.role !== 'follower') core.becomeFollower(core.currentTerm, null);
  }

  /**
   * The surroundings have applied entries up to `appliedIndex` (of `Ready.committed`, in order); `membership` is the
   * state machine's as of it. Must be called after each applied membership entry before any later entry is applied, and
   * at the latest before `advance`.
   */
  applied(appliedIndex: number, membership: Membership): void {
    const core = this.#core;
    core.log.appliedTo(appliedIndex);
    // A snapshot that came in meanwhile knows better.
    if (core.log.pendingSnapshot !== null) return;
    if (core.tracker.setMembership(membership)) {
      if (core.role === 'leader') adoptMembership(core);
      else if (core.role !== 'follower' && !core.tracker.isVoter) core.becomeFollower(core.currentTerm, null);
    }
    if (core.takeoverDue) takeOver(core);
  }

  /** The log up to `index` (≤ applied) is covered by a durable snapshot and may be forgotten. */
  compact(index: number): void {
    this.#core.log.compact(index);
  }

  /** Leader: a snapshot message could not be carried to the end (`false`) or was (`true`). */
  reportSnapshot(to: MemberId, delivered: boolean): void {
    this.#core.tracker.peer(to)?.snapshotDone(delivered);
  }

  /** Leader: messages to `to` are being lost. */
  reportUnreachable(to: MemberId): void {
    const peer = this.#core.tracker.peer(to);
    if (peer?.state === 'replicate') peer.becomeProbe();
  }

  /** False also while a Ready is under way. */
  hasReady(): boolean {
    if (this.#underWay !== null) return false;
    const { log, outbox, reads, role } = this.#core;
    if (role === 'leader') replicate(this.#core);
    return (
      !outbox.isEmpty ||
      log.hasUnstable ||
      log.hasNextCommitted ||
      log.pendingSnapshot !== null ||
      reads.answers.length > 0 ||
      this.#hardStateChanged()
    );
  }

  /**
   * What is to be done. One at a time: the next after `advance`. With a snapshot come neither entries nor committed
   * ones: it replaces the log as a whole, and `advance` says that it is restored.
   */
  ready(): Ready {
    invariant(this.#underWay === null, 'ready before advance');
    const core = this.#core;
    const { log } = core;
    if (core.role === 'leader') replicate(core);
    const hardState = this.#hardStateChanged() ? this.#currentHardState() : null;
    if (hardState !== null) this.#hardState = hardState;
    core.roundOpen = false;
    const snapshot = log.pendingSnapshot;
    const entries = log.takeUnstable();
    const committed = log.takeCommitted(core.options.committedBytesMax);
    const messages = core.outbox.take();
    const reads = core.reads.answers.length > 0 ? core.reads.answers.splice(0) : none;
    this.#underWay = { hardState: this.#hardState, snapshot, committedIndex: committed.at(-1)?.index ?? 0 };
    return { hardState, entries, snapshot, messages, committed, reads };
  }

  /** `entries`, `hardState` and `snapshot` of the last `ready` are durable, its messages sent, its `committed` applied. */
  advance(): void {
    invariant(this.#underWay !== null, 'advance without ready');
    const { hardState, snapshot, committedIndex } = this.#underWay;
    this.#underWay = null;
    const core = this.#core;
    const { log } = core;
    invariant(committedIndex <= log.appliedIndex, `advance before entry ${committedIndex} was applied`);
    log.persisted();
    if (snapshot !== null) log.restored(snapshot);
    if (core.role === 'leader') maybeCommit(core);
    else if (hardState.term === core.currentTerm && hardState.votedFor === core.memberId) countOwnVote(core);
  }

  #currentHardState(): HardState {
    const { currentTerm, votedFor, log } = this.#core;
    return { term: currentTerm, votedFor, commitIndex: log.commitIndex };
  }

  #hardStateChanged(): boolean {
    const { term, votedFor, commitIndex } = this.#hardState;
    const core = this.#core;
    return term !== core.currentTerm || votedFor !== core.votedFor || commitIndex !== core.log.commitIndex;
  }

  /** As in `status`, for each message. */
  get lostAcknowledged(): boolean {
    return this.#core.lostAcknowledged;
  }

  status(): RaftStatus {
    const core = this.#core;
    const { log, tracker } = core;
    return {
      memberId: core.memberId,
      role: core.role,
      term: core.currentTerm,
      votedFor: core.votedFor,
      leader: core.leader,
      commitIndex: log.commitIndex,
      appliedIndex: log.appliedIndex,
      firstIndex: log.firstIndex,
      lastIndex: log.lastIndex,
      lastTerm: log.lastTerm,
      membership: tracker.membership,
      progress: core.role === 'leader' ? progressOf(core) : none,
      transferee: core.transferee,
      lostAcknowledged: core.lostAcknowledged,
    };
  }

  /** Of what is held in memory; `null` outside. For the simulator's checkers and for sending. */
  entry(index: number): Entry | null {
    return this.#core.log.entry(index);
  }
}

interface UnderWay {
  readonly hardState: HardState;
  readonly snapshot: SnapshotInstall | null;
  /** Last of its `committed`; 0 without any. */
  readonly committedIndex: number;
}

const none: readonly never[] = [];

/** The leader's own with the others': as far as its log is durable. */
function progressOf({ memberId, log, tracker }: Core): readonly PeerProgress[] {
  const own: PeerProgress = {
    memberId,
    learner: false,
    state: 'replicate',
    matchIndex: log.stableIndex,
    nextIndex: log.lastIndex + 1,
    recentlyActive: true,
    inflightMessages: 0,
    lostAcknowledged: false,
  };
  return [own, ...tracker.peers.map((peer) => peer.view())].sort((left, right) =>
    left.memberId < right.memberId ? -1 : 1,
  );
}

function checkOptions(options: RaftOptions): void {
  invariant(options.memberId !== '', 'a member without id');
  invariant(
    options.heartbeatTicks >= 1 && options.heartbeatTicks * 2 < options.electionTicks,
    'heartbeatTicks must be less than half of electionTicks',
  );
  invariant(options.inflightMessagesMax >= 1, 'inflightMessagesMax must be at least 1');
  invariant(
    options.appendBytesMax >= 1 && options.inflightBytesMax >= options.appendBytesMax,
    'inflightBytesMax must be at least appendBytesMax',
  );
}
