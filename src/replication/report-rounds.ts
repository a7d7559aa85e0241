import type { Membership, RaftStatus } from '../raft/types.js';
import type { LoopOptions } from './loop-contract.js';
import type { MemberWatch } from './member-watch.js';
import type { PeerMessage } from './peer-message.js';

export interface ReportRoundsOptions extends Pick<LoopOptions<unknown>, 'memberId' | 'report'> {
  readonly intervalMs: number;
  readonly applied: () => { readonly index: number; readonly membership: Membership };
  readonly raftStatus: () => RaftStatus;
  readonly watch: MemberWatch;
  readonly send: (to: string, message: PeerMessage) => void;
}

/** Now and then this node tells the other members what it is at (replication.md 9 and 15). */
export class ReportRounds {
  readonly #options: ReportRoundsOptions;
  #nextAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: ReportRoundsOptions) {
    this.#options = options;
  }

  tick(nowMs: number): void {
    if (nowMs < this.#nextAtMs) return;
    const { memberId, intervalMs, applied, raftStatus, report, watch, send } = this.#options;
    this.#nextAtMs = nowMs + intervalMs;
    const { index: appliedIndex, membership } = applied();
    // One that has not applied its own addition yet has others, too, and learns from them that it was left behind.
    const others = [...membership.voters, ...membership.learners].filter((member) => member !== memberId);
    if (others.length === 0) return;
    watch.progress(raftStatus().progress);
    const message: PeerMessage = {
      kind: 'report',
      report: { ...report(), appliedIndex, stateHashes: watch.stateHashes },
    };
    for (const member of others) send(member, message);
  }
}
