import type { RaftOptions } from '../raft/raft-node.js';
import type { Entry, HardState, LogPosition, MemberId, Membership, RaftStatus } from '../raft/types.js';
import type { PeerReport } from './node-reports.js';
import type { AppliedEntry, ProposeFailure, StateMachine } from './ordered-log.js';
import type { NodeReport, PeerMessage } from './peer-message.js';
import type { Timing } from './timing.js';

/** One record of the durable log: all of it is there after a crash, or none. */
export interface PersistBatch {
  readonly entries: readonly Entry[];
  readonly hardState: HardState | null;
}

/**
 * What the loop asks of its surroundings. Each call returns at once. Results come back through the methods of
 * `ReplicationLoop` with the ticket given; a disk that fails ends the process instead.
 */
export interface LoopPorts<R> {
  /** Append and sync; then `persisted(ticket)`. One at a time. */
  persist(ticket: number, batch: PersistBatch): void;
  /** Make a received snapshot durable in place of the log; then `persisted(ticket)`. `records`: as the state machine takes them. */
  persistSnapshot(
    ticket: number,
    at: LogPosition,
    records: readonly Uint8Array[],
    hardState: HardState | null,
  ): void;
  /** Write a snapshot of our own state beside the log and its marker into it; then `snapshotSaved(ticket)`. One at a time. */
  saveSnapshot(ticket: number, at: LogPosition, records: Iterable<Uint8Array>): void;
  /** Lossy. */
  send(to: MemberId, message: PeerMessage): void;
  /** Outcome of `propose(proposalId, …)`, once. */
  proposed(
    proposalId: string,
    outcome:
      | { readonly ok: true; readonly value: AppliedEntry<R> }
      | { readonly ok: false; readonly error: ProposeFailure },
  ): void;
  /** Outcome of `readIndex(readId)`, once: an index that is applied, or `null` for no quorum in time. */
  read(readId: string, index: number | null): void;
  /** In order, each right after its application. */
  applied(entry: AppliedEntry<R>): void;
  restored(index: number): void;
  fresh(asOfMs: number, index: number): void;
  /** Who the members are has changed, or is known for the first time: connect to them. */
  membershipChanged(membership: Membership): void;
  /**
   * This replica can't go on: an entry could not be applied, its log ends before what was committed, its state differs
   * from the majority's. Once. It must not serve any more. In the last case its log goes on, proposals with it, so that
   * the others keep their quorum (replication.md 9); in the others nothing does.
   */
  halted(reason: string): void;
  /** For the operator. */
  warn(message: string): void;
}

/** What bounds the consensus core; see `RaftOptions`. */
export type CoreLimits = Pick<
  RaftOptions,
  'inflightMessagesMax' | 'inflightBytesMax' | 'appendBytesMax' | 'uncommittedBytesMax' | 'committedBytesMax'
>;

/** The times in it are those where the state machine says nothing of them. */
export interface LoopLimits extends Timing {
  readonly proposalsMax: number;
  readonly commandBytesMax: number;
  readonly snapshotEntries: number;
  readonly snapshotBytes: number;
  readonly reportIntervalMs: number;
  readonly stateHashInterval: number;
  /** Others than usual: small ones bring about with few entries what takes many. */
  readonly core?: CoreLimits;
}

export interface LoopOptions<R> {
  readonly memberId: MemberId;
  /** This member founded the cluster (`cluster init`): sole voter until a command says who the members are. */
  readonly founder: boolean;
  /** Restored to `recovered.snapshot`; the loop applies what is committed after it. */
  readonly stateMachine: StateMachine<R>;
  readonly recovered: {
    readonly hardState: HardState;
    readonly snapshot: LogPosition;
    /** All after the snapshot. */
    readonly entries: readonly Entry[];
  };
  readonly limits: LoopLimits;
  readonly random: () => number;
  /** Boot clock (CLOCK_BOOTTIME), ms. */
  readonly nowMs: () => number;
  /** What this node reports of itself; the loop fills in applied index and state hashes. */
  readonly report: () => Omit<NodeReport, 'appliedIndex' | 'stateHashes'>;
  readonly ports: LoopPorts<R>;
}

export interface LoopStatus {
  readonly raft: RaftStatus;
  /** Newest confirmed freshness (boot clock, ms); `null` before the first since the start. */
  readonly freshAsOfMs: number | null;
  readonly snapshotIndex: number;
  /** What `LoopPorts.halted` was told. */
  readonly halted: string | null;
  /** Members whose state hash differs from ours at the same index. */
  readonly divergent: readonly MemberId[];
  readonly reports: readonly PeerReport[];
}
