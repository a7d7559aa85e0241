import type { ChildRole } from '../ops/supervision.js';
import { RestartPolicy } from './restart-policy.js';

export const replicaSlot = 0;

/** What the supervisor knows of one of its children, over all its starts. Times are monotonic. */
export interface ChildRecord {
  readonly slot: number;
  readonly role: ChildRole;
  readonly restarts: RestartPolicy;
  /** waiting: to be started at `startAtMs`; ended: for good. */
  state: 'waiting' | 'running' | 'ended';
  startAtMs: number;
  startedAtMs: number;
  /** `null` while it does not run. */
  pid: number | null;
  /** Of the last heartbeat; `null` before the first of this start. */
  heardAtMs: number | null;
  killed: boolean;
  ready: boolean;
  /** Since when it has been ready without a break; of no meaning while it is not. */
  readySinceMs: number;
  reason: string;
  /** What it said in its `fatal` message, of this start. */
  fatal: string | null;
  /** Why it cannot recover by itself, of this start. */
  stuck: string | null;
  /** When it is killed although it was told to leave, to be replaced; `null` while it is not. */
  replaceByMs: number | null;
  /** It took the place of one that was stuck, and has not told yet how it fares. */
  isSuccessor: boolean;
  /** It starts at a lower priority, while others serve. */
  isBehind: boolean;
  /** It was ready, or said why it is not, or ended, at least once. */
  concluded: boolean;
  wasReady: boolean;
}

/** Of a child that has not been started. */
export const newChild = (slot: number, random: () => number): ChildRecord => ({
  slot,
  role: slot === replicaSlot ? 'replica' : 'serving',
  restarts: new RestartPolicy(random),
  state: 'waiting',
  startAtMs: 0,
  startedAtMs: 0,
  pid: null,
  heardAtMs: null,
  killed: false,
  ready: false,
  readySinceMs: 0,
  reason: 'starting',
  fatal: null,
  stuck: null,
  replaceByMs: null,
  isSuccessor: false,
  isBehind: false,
  concluded: false,
  wasReady: false,
});
