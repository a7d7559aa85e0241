import type { SeededRandom } from '../support/seeded-random.js';
import type { AdminHistory } from './admin-history.js';
import type { ChaosCluster } from './chaos-cluster.js';

export interface CaseContext {
  readonly cluster: ChaosCluster;
  readonly history: AdminHistory;
  readonly random: SeededRandom;
  /** A case that repeats itself goes on until then (`performance.now()`). */
  readonly deadlineMs: number;
  /** As one test among many: without what is done only to have figures. */
  readonly brief: boolean;
  /** For the time line, where one is kept: something is done to the nodes now. */
  event(text: string): void;
  /** For the summary. */
  note(text: string): void;
  /** What must hold; the case goes on, and has failed. */
  check(holds: boolean, otherwise: string): void;
}

/** Something that breaks, and what must go on all the same. Everything is healed and compared after it by the runner. */
export interface ChaosCase {
  readonly name: string;
  readonly nodes: 3 | 5;
  /** Its part of the budget. */
  readonly seconds: number;
  /** Requests per second through the balancer, if not as many as all others have. */
  readonly rate?: number;
  /** Between the changes of one operator, if not as short as with all others: each starts a process. Not when brief. */
  readonly adminPauseMs?: number;
  /** What it leaves is no cluster for other cases. */
  readonly last?: true;
  run(context: CaseContext): Promise<void>;
}

/** A time from `minMs` to `maxMs`, evenly over the orders of magnitude: what goes wrong may do so at any of them. */
export const drawnMs = (random: SeededRandom, minMs: number, maxMs: number): number =>
  Math.round(minMs * (maxMs / minMs) ** (random.integer(1_000_000) / 1_000_000));
