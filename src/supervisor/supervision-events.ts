import type { LogFields } from '../base/logger.js';
import type { ChildMessage, ChildRole, SupervisorMessage } from '../ops/supervision.js';

/** What `Supervision` hears, and what it wants done. */

export const exitCodes = {
  ok: 0,
  failed: 1,
  /** A restart will not help before a person acts; the unit's RestartPreventExitStatus. */
  needsPerson: 2,
} as const;

export type Event =
  | { readonly kind: 'start' }
  /** A `spawn` was carried out. */
  | { readonly kind: 'spawned'; readonly slot: number; readonly pid: number }
  | { readonly kind: 'message'; readonly slot: number; readonly message: ChildMessage }
  /** The process has ended and everything it sent has been handled. */
  | {
      readonly kind: 'exited';
      readonly slot: number;
      readonly code: number | null;
      readonly signal: string | null;
    }
  | { readonly kind: 'tick' }
  /** SIGTERM or SIGINT: the first drains, the second hurries, the third kills. */
  | { readonly kind: 'stop' };

export type Action =
  | { readonly kind: 'spawn'; readonly slot: number; readonly role: ChildRole }
  /** SIGKILL. */
  | { readonly kind: 'kill'; readonly slot: number }
  /** `start`: it comes after those that serve until it does. */
  | { readonly kind: 'priority'; readonly slot: number; readonly level: 'start' | 'normal' }
  /** Whether a process should wait to take the replica's place. Said again now and then: it may have ended. */
  | { readonly kind: 'standby'; readonly wanted: boolean }
  | { readonly kind: 'send'; readonly slot: number; readonly message: SupervisorMessage }
  | { readonly kind: 'notify'; readonly state: 'ready' | 'stopping'; readonly status: string }
  | { readonly kind: 'status'; readonly status: string }
  /** Nobody will be started again: once the serving processes have closed the listeners, the ports must refuse. */
  | { readonly kind: 'close-listeners' }
  | {
      readonly kind: 'log';
      readonly level: 'info' | 'warn' | 'error';
      readonly message: string;
      readonly fields: LogFields;
    }
  /** End the supervisor, and what children are left with it. */
  | { readonly kind: 'finish'; readonly code: number; readonly message: string | null };
