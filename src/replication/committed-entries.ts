import type { RaftNode } from '../raft/raft-node.js';
import type { Entry, LogPosition } from '../raft/types.js';
import type { Applier } from './applier.js';
import type { LoopOptions } from './loop-contract.js';
import { recoveredLastIndex } from './loop-core.js';
import type { MemberWatch } from './member-watch.js';
import type { Proposals } from './proposals.js';
import type { SnapshotExchange } from './snapshot-exchange.js';

export interface CommittedEntriesOptions<R>
  extends Pick<LoopOptions<R>, 'recovered' | 'limits' | 'stateMachine' | 'ports'> {
  readonly applier: Applier<R>;
  readonly raft: () => RaftNode;
  readonly proposals: Proposals<R>;
  readonly snapshots: SnapshotExchange;
  readonly watch: MemberWatch;
  /** False once nothing more may be applied. */
  readonly isRunning: () => boolean;
  /** This replica can't go on. */
  readonly freeze: (reason: string) => void;
  /** What is applied now may say so. */
  readonly timingMayHaveChanged: () => void;
}

/** What is committed, applied in order; and all who are to hear of it told, each before the next entry. */
export class CommittedEntries<R> {
  readonly #options: CommittedEntriesOptions<R>;

  constructor(options: CommittedEntriesOptions<R>) {
    this.#options = options;
  }

  /** What was committed before the start; false when this replica can't go on. */
  applyRecovered(): boolean {
    const { recovered, freeze } = this.#options;
    const { commitIndex } = recovered.hardState;
    const lastIndex = recoveredLastIndex(recovered);
    if (lastIndex < commitIndex) {
      freeze(
        `the log ends at index ${lastIndex}, before index ${commitIndex}, which was committed: this node's disk has lost the end of it. Remove it from the cluster, empty its data directory and add it anew`,
      );
      return false;
    }
    for (const entry of recovered.entries) {
      if (entry.index > commitIndex) break;
      if (!this.#apply(entry)) return false;
    }
    return true;
  }

  /** False when this replica can't go on. */
  apply(entry: Entry): boolean {
    const { applier, raft, isRunning, timingMayHaveChanged } = this.#options;
    if (!this.#apply(entry)) return false;
    const changed = applier.refreshMembership();
    // Each change of the members is the core's before the next entry is applied (thesis §4.1, effective when applied here).
    raft().applied(entry.index, applier.membership);
    if (changed) this.#membersChanged();
    timingMayHaveChanged();
    return isRunning();
  }

  /** The received snapshot is durable; false when this replica can't go on. */
  restore(position: LogPosition): boolean {
    const { applier, raft, proposals, snapshots, watch, ports, isRunning, freeze, timingMayHaveChanged } =
      this.#options;
    const restored = applier.restore(position, snapshots.installed());
    if (!restored.ok) {
      freeze(restored.error);
      return false;
    }
    watch.restored();
    const changed = applier.refreshMembership();
    raft().applied(position.index, applier.membership);
    ports.restored(position.index);
    proposals.restored(position.index);
    if (changed) this.#membersChanged();
    timingMayHaveChanged();
    return isRunning();
  }

  #apply(entry: Entry): boolean {
    const { applier, proposals, snapshots, watch, ports, limits, stateMachine, isRunning, freeze } =
      this.#options;
    const applied = applier.apply(entry);
    if (!applied.ok) {
      freeze(applied.error);
      return false;
    }
    snapshots.applied(entry.data.byteLength);
    ports.applied(applied.value);
    proposals.applied(entry.term, applied.value);
    if (entry.index % limits.stateHashInterval === 0) {
      watch.noteStateHash(entry.index, stateMachine.stateHash());
    }
    return isRunning();
  }

  #membersChanged(): void {
    const { applier, watch, ports } = this.#options;
    watch.membersAre(applier.membership);
    ports.membershipChanged(applier.membership);
  }
}
