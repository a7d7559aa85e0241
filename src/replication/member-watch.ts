import type { MemberId, Membership, Message } from '../raft/types.js';
import { AcknowledgedLogs } from './acknowledged-logs.js';
import { NodeReports, type PeerReport } from './node-reports.js';
import type { NodeReport } from './peer-message.js';
import { type StateHash, StateHashComparison } from './state-hash-comparison.js';

export interface MemberWatchOptions {
  readonly memberId: MemberId;
  readonly voters: () => readonly MemberId[];
  /** How long a member's answers must say that its log is too short. */
  readonly confirmTicks: number;
  /** For the operator. */
  readonly warn: (message: string) => void;
  /** Our state differs from the majority's. */
  readonly inMinority: (reason: string) => void;
}

/** What the members say of themselves, and what is wrong with it: states that differ, logs that were lost. */
export class MemberWatch {
  readonly #options: MemberWatchOptions;
  readonly #reports = new NodeReports();
  readonly #hashes: StateHashComparison;
  readonly #logs: AcknowledgedLogs;

  constructor(options: MemberWatchOptions) {
    this.#options = options;
    this.#hashes = new StateHashComparison(options.memberId);
    this.#logs = new AcknowledgedLogs(options.confirmTicks);
  }

  get reports(): readonly PeerReport[] {
    return this.#reports.list();
  }

  get divergent(): readonly MemberId[] {
    return this.#hashes.divergent;
  }

  /** Ours, by index, ascending. */
  get stateHashes(): readonly StateHash[] {
    return this.#hashes.own;
  }

  reported(from: MemberId, report: NodeReport, nowMs: number): void {
    this.#reports.received(from, report, nowMs);
    this.#logs.applied(from, report.appliedIndex);
    this.#judge(this.#hashes.reported(from, report.stateHashes));
  }

  noteStateHash(index: number, hash: string): void {
    this.#judge(this.#hashes.note(index, hash));
  }

  restored(): void {
    this.#hashes.restored();
  }

  /** An answer of the present term. */
  answered(
    message: Extract<Message, { kind: 'appendResponse' | 'heartbeatResponse' }>,
    commitIndex: number,
    tick: number,
  ): void {
    const lost = this.#logs.answered(message, commitIndex, tick);
    if (lost === null) return;
    const name = this.#reports.nameOf(lost.memberId);
    this.#options.warn(
      `the log of ${name} ends at index ${lost.lastIndex}, before index ${lost.acknowledgedIndex}, which it acknowledged: its disk was wiped or set back. It counts for nothing any more: remove it from the cluster, empty its data directory and add it anew`,
    );
  }

  membersAre({ voters, learners }: Membership): void {
    const members = new Set([...voters, ...learners]);
    this.#reports.retain(members);
    this.#hashes.retain(members);
    this.#logs.retain(members);
  }

  #judge(found: readonly { readonly memberId: MemberId; readonly index: number }[]): void {
    for (const { memberId, index } of found) {
      this.#options.warn(
        `the state of ${this.#reports.nameOf(memberId)} differs from this node's as of index ${index}: one of them is wrong. Ask each node for its status; a node in the minority stops serving by itself, is to be removed, emptied and added anew. Report this`,
      );
    }
    const index = this.#hashes.minorityAt(this.#options.voters());
    if (index === null) return;
    this.#options.inMinority(
      `state differs from the majority at index ${index}: this node's disk or memory is not to be trusted. Remove it from the cluster, empty its data directory and add it anew`,
    );
  }
}
