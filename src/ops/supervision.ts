/**
 * What the supervisor and its children say to each other, over the IPC channel that `child_process` gives them, and
 * how a child is told who it is. The supervisor is the parent of one replica and N serving processes.
 */

import type { Config } from './config.js';

export type ChildRole = 'replica' | 'serving';

/** What a process of a node is called, wherever people meet it: `supervisor`, `replica`, `serving-1`. */
export const processName = (role: ChildRole | 'supervisor', slot: number): string =>
  role === 'serving' ? `serving-${slot}` : role;

/** Child → supervisor. */
export type ChildMessage =
  /** The event loop turns. Sent every `heartbeatIntervalMs`; missing for `heartbeatTimeoutMs` means stuck. */
  | { readonly kind: 'heartbeat' }
  /**
   * Whether this child can do its job now, sent on every change. For a serving process: key state applied and one
   * usable token (X-H4). `reason` is for people; it names what is missing when not ready.
   */
  | { readonly kind: 'readiness'; readonly ready: boolean; readonly reason: string }
  /**
   * Why a serving process cannot recover by itself: calls into the HSM's library that never return. `null` once it has
   * after all. It goes on, and may serve still; the supervisor replaces one such process after the other.
   */
  | { readonly kind: 'stuck'; readonly reason: string | null }
  /** The child cannot go on and restarting it won't help before a person acts (bad data directory, bad config). */
  | { readonly kind: 'fatal'; readonly message: string };

/**
 * Supervisor → child, first of all: the configuration as the supervisor read and checked it at its own start. A child
 * that is replaced must not come back with a file that somebody is in the middle of editing.
 */
export interface ConfigMessage {
  readonly kind: 'config';
  readonly config: Config;
}

export interface RunningServingProcess {
  readonly slot: number;
  readonly pid: number;
}

/** Supervisor → child, after that. */
export type SupervisorMessage =
  /** The serving processes, sent on every change and once to a new child. */
  | {
      readonly kind: 'fleet';
      readonly readyServingProcesses: number;
      readonly servingProcesses: number;
      /** Those that run, ready or not: any may serve, with whatever key state it has. */
      readonly running: readonly RunningServingProcess[];
    }
  /**
   * Drain: say "not ready" to load balancers and close connections politely, but keep accepting for `drainMs`; then
   * stop accepting, finish what is in flight and exit 0. A second one with a shorter `drainMs` hurries the first.
   */
  | { readonly kind: 'drain'; readonly drainMs: number }
  /**
   * To one serving process that is to be replaced: stop accepting, close each connection with its next answer and the
   * rest after `leaveMs`, then exit 0. Load balancers hear nothing of it, since the others serve.
   */
  | { readonly kind: 'leave'; readonly leaveMs: number };

export const heartbeatIntervalMs = 500;
/** A serving process silent for so long is stuck (its requests time out at KMS after 250 ms) and is replaced. */
export const servingHeartbeatTimeoutMs = 5_000;
/** The replica may be stuck longer: serving goes on without it. */
export const replicaHeartbeatTimeoutMs = 30_000;

/** Environment of a child. Descriptors are inherited at the numbers given. */
export interface ChildEnvironment {
  /** 1-based place among the serving processes, kept over restarts; `0` for the replica. */
  readonly XKSD_SLOT: string;
  /** Random, of this run of the supervisor: by it the replica knows the serving processes that are its own node's. */
  readonly XKSD_SUPERVISOR_NONCE: string;
  /** Descriptor of the HTTPS listener (serving). */
  readonly XKSD_XKS_FD?: string;
  /** Descriptor of the plain-HTTP health listener (serving). */
  readonly XKSD_HEALTH_FD?: string;
  /** Descriptor of the metrics listener (replica). */
  readonly XKSD_METRICS_FD?: string;
}
