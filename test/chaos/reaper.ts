import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** A process, told from a later one of the same number by when it started. */
export interface StartedProcess {
  readonly pid: number;
  /** In the kernel's ticks since boot (proc(5), `starttime`). */
  readonly startTime: string;
}

export interface ReaperOrders {
  /** Each is killed with its children. */
  readonly processes: readonly StartedProcess[];
  /** Mounted, to be unmounted after that. */
  readonly mounts: readonly string[];
}

/** `starttime` is the 22nd field; the second, in parentheses, may hold blanks itself. */
const startTimeAt = 22 - 3;

/** `null`: there is no such process. */
export function startedProcess(pid: number): StartedProcess | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { pid, startTime: fields[startTimeAt] ?? '' };
  } catch {
    return null;
  }
}

/**
 * A process that outlives this one however it ends, and then ends what it left behind: nodes lead process groups of
 * their own, so that neither a terminal nor `kill -9` of their parent reaches them.
 */
export class Reaper {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(): Promise<Reaper> {
    const child = fork(fileURLToPath(new URL('reaper-process.js', import.meta.url)), {
      // Not in our group: what ends that must not end this.
      detached: true,
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      execArgv: [],
    });
    // From now on it notices the end of this process, however early.
    await once(child, 'message');
    // It does not keep us: we may end without a word to it.
    child.unref();
    child.channel?.unref();
    return new Reaper(child);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** All there is to end from now on, instead of what was named before. */
  watch(pids: readonly number[], mounts: readonly string[]): void {
    const processes = pids.flatMap((pid) => startedProcess(pid) ?? []);
    const orders: ReaperOrders = { processes, mounts };
    if (this.#child.connected) this.#child.send(orders, () => {});
  }

  /** There is nothing left to end. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.ref();
    this.watch([], []);
    this.#child.disconnect();
    await ended;
  }
}
