import type { Timers } from '../base/timers.js';
import type { ClusterEngine } from './cluster-engine.js';
import type { DataDirectory } from './data-directory.js';
import type { OrderedLog, StateMachine } from './ordered-log.js';
import type { PeerInbox, PeerTransport } from './peer-transport.js';
import type { LoopLimits, LoopOptions, ReplicationLoop } from './replication-loop.js';

/** What is asked of the loop: the seam for tests of this driver alone. */
export type DrivenLoop<R> = Pick<ReplicationLoop<R>, keyof ReplicationLoop<R>>;

export interface RaftLogOptions<R> {
  /** Opened; the log closes it. */
  readonly directory: DataDirectory;
  /** Fresh: it gets the last snapshot and the committed entries since. */
  readonly stateMachine: StateMachine<R>;
  /** The log closes it. None for a cluster of one. */
  readonly transport?: PeerTransport;
  readonly timers: Timers;
  /** Boot clock (CLOCK_BOOTTIME), ms. */
  readonly bootTimeMs: () => number;
  /** In [0, 1). */
  readonly random: () => number;
  readonly report: LoopOptions<R>['report'];
  /**
   * Called at most once: the disk failed, or there is a bug. Nothing is acknowledged, sent or written any more and the
   * process should end; what was acknowledged is on the disk.
   */
  readonly onFatal: (message: string) => void;
  /** Called at most once: this replica must not lead or be relied on any more, and a restart would not help. */
  readonly onHalted: (reason: string) => void;
  /** For the operator: damage that could be gone around, a torn write that was cut off. */
  readonly onWarning: (message: string) => void;
  readonly limits?: Partial<LoopLimits>;
  readonly segmentBytesMax?: number;
  readonly createLoop?: (options: LoopOptions<R>) => DrivenLoop<R>;
}

export interface OpenedRaftLog<R> {
  readonly log: OrderedLog<R>;
  readonly engine: ClusterEngine;
  readonly inbox: PeerInbox;
}
