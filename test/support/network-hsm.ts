import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Test } from 'tap';

const run = promisify(execFile);
const sources = join(dirname(fileURLToPath(import.meta.url)), '../../../test/native');

/** An HSM behind a socket: a PKCS#11 module, and a server that can be stopped, killed and started (test/native/network-hsm.h). */
export interface NetworkHsm {
  /** Of the client half. */
  readonly modulePath: string;
  /** SIGSTOP to the server and its processes: calls wait. */
  pause(): void;
  /** SIGCONT. */
  resume(): void;
  /** SIGKILL. Resolves when it is gone. */
  kill(): Promise<void>;
  /** After `kill`. Resolves when it listens. */
  start(): Promise<void>;
}

export interface NetworkHsmOptions {
  /** The module that the server loads; a fault shim makes it slow. */
  readonly modulePath: string;
  /** Of the server: `SOFTHSM2_CONF`. */
  readonly env: Readonly<Record<string, string>>;
  /** The `CK_RV` of calls while the server is gone: CKR_DEVICE_ERROR by default. */
  readonly goneRv?: number;
  /** Whether the client takes up with a server that is back by itself (default), or only in the next C_Initialize. */
  readonly recovery?: 'reconnect' | 'initialize';
}

const ckrDeviceError = 0x30;

/** Builds both halves and starts the server. Undone after the test. */
export async function makeNetworkHsm(
  t: Pick<Test, 'teardown'>,
  options: NetworkHsmOptions,
): Promise<NetworkHsm> {
  const directory = await mkdtemp(join(tmpdir(), 'xksd-net-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const [client, server, socket] = ['client.so', 'server', 'hsm'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  const source = (name: string): string => join(sources, `network-hsm-${name}.c`);
  const flags = ['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-O1', '-g'];
  await Promise.all([
    run('cc', [...flags, '-shared', '-fPIC', source('client'), source('link'), '-o', client]),
    run('cc', [...flags, source('server'), '-o', server, '-ldl', '-lpthread']),
  ]);
  writeFileSync(
    `${client}.network`,
    `${socket}\n${options.goneRv ?? ckrDeviceError}\n${options.recovery ?? 'reconnect'}\n`,
  );

  let running: { readonly child: ChildProcess; readonly ended: Promise<unknown> } | null = null;
  // The server and the processes it forks are a group of their own.
  const signal = (name: NodeJS.Signals): void => {
    if (running?.child.pid !== undefined) process.kill(-running.child.pid, name);
  };
  const start = async (): Promise<void> => {
    const child = spawn(server, [options.modulePath, socket], {
      detached: true,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...options.env },
    });
    const ended = once(child, 'exit');
    running = { child, ended };
    const failed = ended.then(([code]) => Promise.reject(new Error(`the network HSM ended with ${code}`)));
    await Promise.race([once(child.stdout, 'data'), failed]);
    failed.catch(() => {});
    child.stdout.destroy();
    child.unref();
  };
  const kill = async (): Promise<void> => {
    const killed = running;
    signal('SIGKILL');
    running = null;
    killed?.child.ref();
    await killed?.ended;
  };
  await start();
  t.teardown(kill);
  return {
    modulePath: client,
    pause: () => signal('SIGSTOP'),
    resume: () => signal('SIGCONT'),
    kill,
    start,
  };
}
