import type { NativeBinding } from '../base/native.js';

/** What sd_notify(3) can say, for a service of `Type=notify`. Does nothing outside systemd. */
export interface ServiceNotifier {
  /** Milliseconds between two `watchdog()` calls: half of what systemd allows; `null` when it has no watchdog on us. */
  readonly watchdogIntervalMs: number | null;
  ready(status: string): void;
  /** One line for `systemctl status`. */
  status(text: string): void;
  stopping(status: string): void;
  watchdog(): void;
}

interface NotifierEnvironment {
  readonly NOTIFY_SOCKET?: string;
  /** Microseconds (sd_watchdog_enabled(3)). */
  readonly WATCHDOG_USEC?: string;
  readonly WATCHDOG_PID?: string;
}

/** systemd does not read now (its socket is full); the message is sent again with the next one. */
const retryErrnos = new Set([11 /* EAGAIN */, 105 /* ENOBUFS */]);

export function createServiceNotifier(
  native: Pick<NativeBinding, 'sdNotify'>,
  environment: NotifierEnvironment = process.env,
  pid: number = process.pid,
): ServiceNotifier {
  const socketPath = environment.NOTIFY_SOCKET ?? '';
  /** States that must not be lost, oldest first: at most READY, STOPPING. */
  const pending: string[] = [];
  const send = (message: string): boolean =>
    socketPath === '' || !retryErrnos.has(native.sdNotify(socketPath, message));
  const sendPending = (): boolean => {
    while (pending[0] !== undefined) {
      if (!send(pending[0])) return false;
      pending.shift();
    }
    return true;
  };
  const announce = (state: string, status: string): void => {
    pending.push(`${state}\nSTATUS=${oneLine(status)}`);
    sendPending();
  };
  return {
    watchdogIntervalMs: watchdogInterval(environment, pid),
    ready: (status) => announce('READY=1', status),
    stopping: (status) => announce('STOPPING=1', status),
    status: (text) => {
      if (sendPending()) send(`STATUS=${oneLine(text)}`);
    },
    watchdog: () => {
      if (sendPending()) send('WATCHDOG=1');
    },
  };
}

function watchdogInterval(
  { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID }: NotifierEnvironment,
  pid: number,
): number | null {
  const microseconds = Number(WATCHDOG_USEC);
  if (NOTIFY_SOCKET === undefined || !Number.isSafeInteger(microseconds) || microseconds <= 0) return null;
  if (WATCHDOG_PID !== undefined && Number(WATCHDOG_PID) !== pid) return null;
  return microseconds / 2_000;
}

const oneLine = (text: string): string => text.replaceAll('\n', ' ');
