import { constants } from 'node:os';
import { isJsonObject } from '../base/guards.js';
import { loadNativeBinding } from '../base/native.js';
import type { Config } from './config.js';
import {
  type ChildMessage,
  type ConfigMessage,
  heartbeatIntervalMs,
  type SupervisorMessage,
} from './supervision.js';

/** A child's end of its tie to the supervisor. */
export interface SupervisorLink {
  /** The node's configuration, from the supervisor. */
  readonly config: Promise<Config>;
  /** Of forbidding core dumps; 0 when they are. For the log, as they would hold plaintexts. */
  readonly coreDumpErrno: number;
  /** Whether this child can do its job now; call it on every change. `reason` names what is missing when it can't. */
  reportReadiness(ready: boolean, reason: string): void;
  /** Says that this child cannot recover by itself, and why; `null`: it has after all. */
  reportStuck(reason: string | null): void;
  /** Says that a restart would not help before a person acts, and ends this process when the message is out. */
  reportFatal(message: string): Promise<never>;
}

interface AttachOptions {
  onMessage(message: SupervisorMessage): void;
}

/**
 * Ties this process to the supervisor that started it: heartbeats while the loop turns, the supervisor's messages
 * come in, and when the supervisor ends, however, so does this process. Also forbids core dumps, which would hold
 * plaintexts.
 */
export function attachToSupervisor(options: AttachOptions): SupervisorLink {
  const native = loadNativeBinding();
  const coreDumpErrno = native.forbidCoreDumps();
  // The supervisor's death by signal reaches us at once, even when our loop is stuck in an HSM's library …
  native.setParentDeathSignal(constants.signals.SIGKILL);
  // … and when it died before that call, its end of the channel is closed.
  process.on('disconnect', () => process.exit(1));
  if (!process.connected) process.exit(1);

  // systemd and terminals signal whole groups; when and how a child ends is the supervisor's to say ('drain').
  process.on('SIGTERM', () => {});
  process.on('SIGINT', () => {});

  const send = (message: ChildMessage): Promise<void> =>
    new Promise((resolve) => {
      if (process.connected && process.send !== undefined) process.send(message, () => resolve());
      else resolve();
    });
  const config = new Promise<Config>((resolve) => {
    process.on('message', (message: unknown) => {
      if (isConfigMessage(message)) resolve(message.config);
      else if (isSupervisorMessage(message)) options.onMessage(message);
    });
  });
  void send({ kind: 'heartbeat' });
  setInterval(() => void send({ kind: 'heartbeat' }), heartbeatIntervalMs);

  return {
    config,
    coreDumpErrno,
    reportReadiness: (ready, reason) => void send({ kind: 'readiness', ready, reason }),
    reportStuck: (reason) => void send({ kind: 'stuck', reason }),
    reportFatal: async (message) => {
      await send({ kind: 'fatal', message });
      process.exit(1);
    },
  };
}

function isConfigMessage(message: unknown): message is ConfigMessage {
  return isJsonObject(message) && message['kind'] === 'config';
}

const supervisorMessageKinds: ReadonlySet<unknown> = new Set<SupervisorMessage['kind']>([
  'fleet',
  'drain',
  'leave',
]);

function isSupervisorMessage(message: unknown): message is SupervisorMessage {
  return isJsonObject(message) && supervisorMessageKinds.has(message['kind']);
}
