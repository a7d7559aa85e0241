import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { isJsonObject } from '../../src/base/guards.js';
import { loadNativeBinding } from '../../src/base/native.js';
import { loadConfig } from '../../src/ops/config.js';
import type { ConfigMessage, SupervisorMessage } from '../../src/ops/supervision.js';
import { testNonce } from '../replica/fake-serving-process.js';
import { shortDirectory } from '../support/short-directory.js';

const programs = fileURLToPath(new URL('../../src/cli/', import.meta.url));
const xksctl = join(programs, 'xksctl.js');

export interface CommandResult {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `xksctl` as a process of its own. */
export async function runXksctl(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  const child = spawn(process.execPath, [xksctl, ...args], {
    env: { PATH: process.env['PATH'] ?? '', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [exitCode] = (await once(child, 'close')) as [number | null];
  return { exitCode, stdout, stderr };
}

export interface NodeFiles {
  readonly directory: string;
  readonly configPath: string;
  readonly dataDir: string;
  readonly adminSocket: string;
  readonly stateSocket: string;
}

/** Directories and configuration of a node; nothing runs, and no data directory is made. */
export function nodeFiles(t: Test, name = 'node-1'): NodeFiles {
  const directory = shortDirectory(t);
  const configPath = join(directory, 'xksd.toml');
  const dataDir = join(directory, 'data');
  const certificate = join(directory, 'tls.pem');
  const config = `
[node]
name = "${name}"
data_dir = "${dataDir}"
runtime_dir = "${directory}/run"

[xks]
listen = "127.0.0.1:0"
tls_certificate = "${certificate}"
tls_private_key = "${certificate}"

[health]
listen = "127.0.0.1:0"

[metrics]
listen = "127.0.0.1:0"

[[hsm]]
uri = "pkcs11:token=none?module-path=/nonexistent.so&pin-source=file:/nonexistent"
`;
  writeFileSync(configPath, config, { mode: 0o600 });
  return {
    directory,
    configPath,
    dataDir,
    adminSocket: join(directory, 'run', 'admin.sock'),
    stateSocket: join(directory, 'run', 'state.sock'),
  };
}

/** The real replica in a process of its own, tied to us in the supervisor's stead. */
export class ReplicaProcess {
  readonly child: ChildProcess;
  readonly metricsUrl: string;
  /** What it said was fatal; `null` while nothing was. */
  fatal: string | null = null;
  log = '';
  readonly #ready: Promise<void>;

  private constructor(files: NodeFiles, fileBytesMax: number | null) {
    const native = loadNativeBinding();
    const metricsFd = native.bindTcp('127.0.0.1', 0, 16);
    this.metricsUrl = `http://127.0.0.1:${native.boundPort(metricsFd)}/metrics`;
    const limit = fileBytesMax === null ? [] : ['prlimit', `--fsize=${fileBytesMax}`];
    const [program = '', ...args] = [...limit, process.execPath, join(programs, 'xksd.js'), 'replica'];
    this.child = spawn(program, args, {
      env: {
        PATH: process.env['PATH'] ?? '',
        XKSD_SLOT: '0',
        XKSD_SUPERVISOR_NONCE: testNonce,
        XKSD_METRICS_FD: '4',
      },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc', metricsFd],
    });
    native.closeFd(metricsFd);
    const config = loadConfig(files.configPath);
    if (!config.ok) throw new Error(config.error.message);
    const message: ConfigMessage = { kind: 'config', config: config.value };
    this.child.send(message);
    this.send({ kind: 'fleet', readyServingProcesses: 0, servingProcesses: 0, running: [] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.log += text;
      });
    }
    this.#ready = new Promise((resolve, reject) => {
      this.child.on('message', (message: unknown) => {
        if (!isJsonObject(message)) return;
        if (message['kind'] === 'readiness' && message['ready'] === true) resolve();
        if (message['kind'] === 'fatal') this.fatal = String(message['message']);
      });
      this.child.once('close', () => reject(new Error(this.fatal ?? `the replica ended: ${this.log}`)));
    });
    this.#ready.catch(() => {});
  }

  /**
   * Resolves when it is ready; rejects with what it said when it ended instead.
   *
   * @param fileBytesMax RLIMIT_FSIZE: a write beyond it fails with EFBIG, as on a full disk with ENOSPC.
   */
  static async start(t: Test, files: NodeFiles, fileBytesMax: number | null = null): Promise<ReplicaProcess> {
    const replica = new ReplicaProcess(files, fileBytesMax);
    t.teardown(() => replica.kill());
    await replica.#ready;
    return replica;
  }

  send(message: SupervisorMessage): void {
    this.child.send(message);
  }

  async metrics(): Promise<string> {
    return (await fetch(this.metricsUrl)).text();
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill('SIGKILL');
    await once(this.child, 'close');
  }

  async ended(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'close');
    return this.child.exitCode;
  }
}

/** A node with a data directory and a running replica; `run` is `xksctl` pointed at it. */
export async function startReplica(t: Test): Promise<{
  readonly files: NodeFiles;
  readonly replica: ReplicaProcess;
  readonly run: (...args: readonly string[]) => Promise<CommandResult>;
}> {
  const files = nodeFiles(t);
  const made = await runXksctl(['cluster', 'init', '--config', files.configPath]);
  if (made.exitCode !== 0) throw new Error(made.stderr);
  const replica = await ReplicaProcess.start(t, files);
  return { files, replica, run: (...args) => runXksctl(['--socket', files.adminSocket, ...args]) };
}

export const readText = (path: string): string => readFileSync(path, 'utf8');
