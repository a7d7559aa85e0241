import { spawn } from 'node:child_process';
import { isJsonObject } from '../base/guards.js';
import type {
  ChildEnvironment,
  ChildMessage,
  ChildRole,
  ConfigMessage,
  SupervisorMessage,
} from '../ops/supervision.js';

/** How long a dead child's last messages may take, when something it started still holds the channel. */
const lastMessagesMs = 200;

/** What a role is started with: the program and its arguments. `standby`: a replica that waits for its configuration. */
export type ChildCommand = (role: ChildRole | 'standby') => readonly [program: string, ...args: string[]];

/** Who hears of a child. */
export interface ChildOwner {
  onMessage(message: ChildMessage): void;
  /** Once, after the last message. */
  onExit(code: number | null, signal: string | null): void;
}

interface SpawnOptions extends ChildOwner {
  readonly command: readonly [program: string, ...args: string[]];
  readonly environment: Pick<ChildEnvironment, 'XKSD_SLOT' | 'XKSD_SUPERVISOR_NONCE'>;
  /** Descriptors of ours that the child gets, under the variables that tell it their numbers. */
  readonly descriptors: readonly (readonly [variable: keyof ChildEnvironment, fd: number])[];
}

export interface ChildHandle {
  /** `null` of a process that could not be started; `onExit` follows. */
  readonly pid: number | null;
  send(message: ConfigMessage | SupervisorMessage): void;
  /** SIGKILL. */
  kill(): void;
}

/** Of standard input, output, error and the IPC channel, the descriptors start after. */
const descriptorsFrom = 4;

export function spawnChild(options: SpawnOptions): ChildHandle {
  const [program, ...args] = options.command;
  const given = options.descriptors.map(([variable], index) => [variable, String(descriptorsFrom + index)]);
  const environment = { ...process.env, ...options.environment, ...Object.fromEntries(given) };
  // systemd listens to the main process only (NotifyAccess=main), and a child must not believe it is that.
  for (const own of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete environment[own];
  const child = spawn(program, args, {
    env: environment,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...options.descriptors.map(([, fd]) => fd)],
  });

  let ended = false;
  const end = (code: number | null, signal: string | null): void => {
    if (ended) return;
    ended = true;
    options.onExit(code, signal);
  };
  child.on('message', (message: unknown) => {
    if (isChildMessage(message) && !ended) options.onMessage(message);
  });
  // Of a process that could not be started, or to which a message could not be sent because it is ending.
  child.on('error', () => {
    if (child.pid === undefined) end(null, null);
  });
  child.on('exit', (code, signal) => {
    // What it said last (`fatal`) may still be in the channel, whose end comes after it.
    if (!child.connected) {
      end(code, signal);
      return;
    }
    const timer = setTimeout(() => end(code, signal), lastMessagesMs);
    child.once('disconnect', () => {
      clearTimeout(timer);
      end(code, signal);
    });
  });
  return {
    pid: child.pid ?? null,
    send: (message) => {
      if (child.connected) child.send(message, () => {});
    },
    kill: () => void child.kill('SIGKILL'),
  };
}

function isChildMessage(message: unknown): message is ChildMessage {
  if (!isJsonObject(message)) return false;
  switch (message['kind']) {
    case 'heartbeat':
      return true;
    case 'readiness':
      return typeof message['ready'] === 'boolean' && typeof message['reason'] === 'string';
    case 'stuck':
      return typeof message['reason'] === 'string' || message['reason'] === null;
    case 'fatal':
      return typeof message['message'] === 'string';
    default:
      return false;
  }
}
