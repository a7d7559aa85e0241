import { readFileSync } from 'node:fs';
import { AdminClient } from '../../src/cli/admin-client.js';
import { type CommandOutcome, runNode } from '../../src/demo/command.js';
import type { DemoNode } from '../../src/demo/demo-node.js';
import type { AdminCommand, AdminRequest, AdminResponse } from '../../src/replica/admin-contract.js';
import { whileNobodyLogsIn } from '../support/login-lock.js';
import { childrenOf, eventually, isAlive, xksctlPath } from '../support/running-node.js';

export type ClusterStatus = AdminResponse<'cluster.status'>;

export type ProcessKind = 'supervisor' | 'replica' | 'serving';

/** A look at a node's status that takes longer says nothing of now. */
const lookTimeoutMs = 1_500;

/** A node as those see it who break it. */
export class ChaosNode {
  readonly demo: DemoNode;
  readonly name: string;
  readonly #stopped = new Set<number>();

  constructor(demo: DemoNode) {
    this.demo = demo;
    this.name = demo.description.name;
  }

  get pid(): number {
    return this.demo.description.pid;
  }

  get dataDir(): string {
    return this.demo.description.dataDir;
  }

  /** `127.0.0.1:port` of its XKS listener. */
  get host(): string {
    return new URL(this.demo.description.url).host;
  }

  /** Processes of that kind that are alive now. */
  processes(kind: ProcessKind): readonly number[] {
    const supervisor = this.pid;
    if (supervisor === 0) return [];
    if (kind === 'supervisor') return [supervisor];
    return childrenOf(supervisor).filter((pid) => roleOf(pid) === kind);
  }

  /** The pid that was sent the signal; `null` when there was none. */
  signal(kind: ProcessKind, signal: 'SIGKILL' | 'SIGSTOP'): number | null {
    const [pid] = this.processes(kind);
    if (pid === undefined) return null;
    process.kill(pid, signal);
    if (signal === 'SIGSTOP') this.#stopped.add(pid);
    return pid;
  }

  /** Lets every process go on that was stopped. */
  resume(): void {
    for (const pid of this.#stopped) {
      if (isAlive(pid)) process.kill(pid, 'SIGCONT');
    }
    this.#stopped.clear();
  }

  /** Everything of it at once, as when the power fails; resolves when nothing of it is left. */
  async killAll(): Promise<void> {
    const { pid } = this;
    if (pid === 0) return;
    await whileNobodyLogsIn(this.dataDir, async () => {
      const all = [pid, ...childrenOf(pid)];
      for (const each of all) if (isAlive(each)) process.kill(each, 'SIGKILL');
      await this.demo.exitCode;
      await eventually(`the end of ${this.name}`, () => !all.some(isAlive));
    });
    this.#stopped.clear();
  }

  /** As systemd would end it. The exit code. */
  async terminate(): Promise<number | null> {
    const { pid } = this;
    if (pid === 0) return this.demo.exitCode;
    const all = [pid, ...childrenOf(pid)];
    process.kill(pid, 'SIGTERM');
    const code = await this.demo.exitCode;
    await eventually(`the end of ${this.name}`, () => !all.some(isAlive));
    return code;
  }

  /** @param xksdPath of another release, if not of this one. */
  start(xksdPath?: string): void {
    this.demo.start(xksdPath);
  }

  /** `xksctl ARGS` on this node, as an operator. */
  xksctl(...args: readonly string[]): Promise<CommandOutcome> {
    return runNode([xksctlPath, '--socket', this.demo.adminSocket, ...args], {});
  }

  call<C extends AdminCommand>(command: C, request: AdminRequest<C>): Promise<AdminResponse<C>> {
    return new AdminClient(this.demo.adminSocket, null, () => {}).call(command, request);
  }

  /** `null`: nobody answers soon. */
  async status(): Promise<ClusterStatus | null> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(() => resolve(null), lookTimeoutMs);
    });
    const asked = this.call('cluster.status', {}).catch(() => null);
    const status = await Promise.race([asked, late]);
    clearTimeout(timer);
    return status;
  }

  /** Whether its replica answers, and has not stopped replicating. */
  async replicates(): Promise<boolean> {
    const status = await this.status();
    return status !== null && status.halted === null;
  }

  /** Whether its replica answers that it replicates no more. */
  async hasHalted(): Promise<boolean> {
    return (await this.status())?.halted != null;
  }

  /** Whether each of its serving processes is ready. */
  isWhole(): Promise<boolean> {
    return this.call('status', {}).then(
      ({ servingProcesses: { configured, ready } }) => ready === configured,
      () => false,
    );
  }

  /** What its health listener says; 0: nothing. */
  health(): Promise<number> {
    return fetch(this.demo.description.healthUrl, { headers: { connection: 'close' } }).then(
      async (answer) => {
        await answer.text();
        return answer.status;
      },
      () => 0,
    );
  }

  /** The log, from its byte `from` on. */
  log(from = 0): string {
    try {
      return readFileSync(this.demo.logFile).subarray(from).toString('utf8');
    } catch {
      return '';
    }
  }

  logEnd(): number {
    try {
      return readFileSync(this.demo.logFile).byteLength;
    } catch {
      return 0;
    }
  }
}

function roleOf(pid: number): ProcessKind | null {
  try {
    // One that was a standby has written its new name over all of it.
    const role = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split(/[\0 ]/).filter(Boolean).at(-1);
    return role === 'replica' || role === 'serving' ? role : null;
  } catch {
    return null;
  }
}
