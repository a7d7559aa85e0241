import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** Stands in for systemd's end of `$NOTIFY_SOCKET`. */
export interface NotifySocket {
  /** The next datagram, in order of arrival. */
  next(): Promise<string>;
  close(): Promise<void>;
}

const script = fileURLToPath(new URL('../../../test/support/datagram-socket.py', import.meta.url));

/** `name`: an absolute path, or `@name` in the abstract namespace. */
export async function listenForNotifications(name: string): Promise<NotifySocket> {
  const receiver: ChildProcess = spawn('python3', [script, name], { stdio: ['ignore', 'pipe', 'inherit'] });
  if (receiver.stdout === null) throw new Error('no stdout');
  const lines = createInterface({ input: receiver.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<string> => {
    const { value, done } = await lines.next();
    if (done === true) throw new Error('the receiver ended');
    return String(value);
  };
  await line();
  return {
    next: async () => String(JSON.parse(await line())),
    close: async () => {
      const exited = once(receiver, 'exit');
      receiver.kill('SIGKILL');
      await exited;
    },
  };
}
