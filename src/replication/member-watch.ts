import type { MemberId, Membership, Message, PeerProgress } from '../raft/types.js';
import { AcknowledgedLogs } from './acknowledged-logs.js';
import { NodeReports, type PeerReport } from './node-reports.js';
import type { NodeReport } from './peer-message.js';
import { type StateHash, StateHashComparison } from './state-hash-comparison.js';

export interface MemberWatchOptions {
  readonly memberId: MemberId;
  readonly membership: () => Membership;
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
  readonly #logs = new AcknowledgedLogs();
  /** Members known to have lost acknowledged entries. */
  readonly #lost = new Set<MemberId>();

  constructor(options: MemberWatchOptions) {
    this.#options = options;
    this.#hashes = new StateHashComparison(options.memberId);
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
    const { voters, learners } = this.#options.membership();
    // One that was removed may not know it yet.
    if (!voters.includes(from) && !learners.includes(from)) return;
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

  sent(message: Message): void {
    if (message.kind === 'heartbeat') this.#logs.heartbeatSent(message);
  }

  /** A message of the present term. `commitIndex`: ours. */
  received(message: Message, commitIndex: number): void {
    if (message.kind === 'appendResponse') this.#logs.appended(message, commitIndex);
    if (message.kind !== 'heartbeatResponse') return;
    const lost = this.#logs.heartbeatAnswered(message);
    if (lost === null) return;
    const { memberId, lastIndex, acknowledgedIndex } = lost;
    this.#warnOfLost(
      memberId,
      `ends at index ${lastIndex}, before index ${acknowledgedIndex}, which it acknowledged`,
    );
  }

  /** As the leader sees the members. */
  progress(progress: readonly PeerProgress[]): void {
    for (const { memberId, lostAcknowledged } of progress) {
      if (lostAcknowledged) this.#warnOfLost(memberId, 'ends before what it acknowledged');
    }
  }

  membersAre({ voters, learners }: Membership): void {
    const members = new Set([...voters, ...learners]);
    this.#reports.retain(members);
    this.#hashes.retain(members);
    this.#logs.retain(members);
    for (const memberId of [...this.#lost]) if (!members.has(memberId)) this.#lost.delete(memberId);
  }

  /** Once a member. */
  #warnOfLost(memberId: MemberId, what: string): void {
    if (this.#lost.has(memberId)) return;
    this.#lost.add(memberId);
    this.#options.warn(
      `the log of ${this.#reports.nameOf(memberId)} ${what}: its disk was wiped or set back. It counts for nothing any more: remove it from the cluster, empty its data directory and add it anew`,
    );
  }

  #judge(found: readonly { readonly memberId: MemberId; readonly index: number }[]): void {
    for (const { memberId, index } of found) {
      this.#options.warn(
        `the state of ${this.#reports.nameOf(memberId)} differs from this node's as of index ${index}: one of them is wrong. Ask each node for its status; a node in the minority stops serving by itself, is to be removed, emptied and added anew. Report this`,
      );
    }
    const index = this.#hashes.minorityAt(this.#options.membership().voters);
    if (index === null) return;
    this.#options.inMinority(
      `state differs from the majority at index ${index}: this node's disk or memory is not to be trusted. Remove it from the cluster, empty its data directory and add it anew`,
    );
  }
}
