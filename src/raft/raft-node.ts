import type { Result } from '../base/result.js';
import type {
  EntryKind,
  Entry,
  HardState,
  LogPosition,
  MemberId,
  Membership,
  Message,
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
  constructor(_options: RaftOptions, _state: RaftState) {
    throw new Error('contract');
  }

  tick(): void {
    throw new Error('contract');
  }

  /** A message from another member. Malformed or stale ones change nothing. */
  step(_message: Message): void {
    throw new Error('contract');
  }

  /** Appends at the leader. What is returned is where it stands; committed or not is seen from `Ready.committed`. */
  propose(_kind: Exclude<EntryKind, 'noop'>, _data: Uint8Array): Result<LogPosition, ProposeError> {
    throw new Error('contract');
  }

  /** Asks for a quorum-confirmed read index (thesis §6.4); the answer comes in `Ready.reads`, or never: use timeouts. */
  readIndex(_readId: string): void {
    throw new Error('contract');
  }

  /** Campaigns at once (PreVote first). For a cluster of one, and tests. */
  campaign(): void {
    throw new Error('contract');
  }

  /** Leader: hands leadership over (thesis §3.10). False when not leader or `to` is no voter. */
  transferLeadership(_to: MemberId): boolean {
    throw new Error('contract');
  }

  /** Leader: becomes follower in the same term without electing another (a stalled disk, a state hash in the minority). */
  stepDown(): void {
    throw new Error('contract');
  }

  /** No campaigns and no leadership while set. */
  setElectable(_electable: boolean): void {
    throw new Error('contract');
  }

  /**
   * The surroundings have applied entries up to `appliedIndex` (of `Ready.committed`, in order); `membership` is the
   * state machine's as of it. Must be called after each applied membership entry before any later entry is applied, and
   * at the latest before `advance`.
   */
  applied(_appliedIndex: number, _membership: Membership): void {
    throw new Error('contract');
  }

  /** The log up to `index` (≤ applied) is covered by a durable snapshot and may be forgotten. */
  compact(_index: number): void {
    throw new Error('contract');
  }

  /** Leader: a snapshot message could not be carried to the end (`false`) or was (`true`). */
  reportSnapshot(_to: MemberId, _delivered: boolean): void {
    throw new Error('contract');
  }

  /** Leader: messages to `to` are being lost. */
  reportUnreachable(_to: MemberId): void {
    throw new Error('contract');
  }

  hasReady(): boolean {
    throw new Error('contract');
  }

  /** What is to be done. One at a time: the next after `advance`. */
  ready(): Ready {
    throw new Error('contract');
  }

  /** `entries`, `hardState` and `snapshot` of the last `ready` are durable, its messages sent, its `committed` applied. */
  advance(): void {
    throw new Error('contract');
  }

  status(): RaftStatus {
    throw new Error('contract');
  }

  /** Of what is held in memory; `null` outside. For the simulator's checkers and for sending. */
  entry(_index: number): Entry | null {
    throw new Error('contract');
  }
}
