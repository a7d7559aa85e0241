import { readdirSync, readFileSync } from 'node:fs';
import { constants, getPriority, setPriority } from 'node:os';
import { getSystemErrorName } from 'node:util';

/**
 * The start of a process takes half a second of a core and more, which the others need when all cores are busy: theirs are
 * the requests that a serving process's death has left to them, and new connections. A third of a share is enough to be
 * back soon.
 */
export const startNiceness = 5;
/** What nobody waits for gets what the others leave. */
export const standbyNiceness = 19;
const nicenessMax = 19;

const capSysNice = 1n << 23n;

/** What `/proc/self` says of this process. */
export interface ProcessFacts {
  readonly limits: string;
  readonly status: string;
  readonly uidMap: string;
}

/**
 * Whether a process may give a lowered priority back (getrlimit(2), RLIMIT_NICE; capabilities(7), CAP_SYS_NICE): otherwise
 * it stays as it is. Pure. `niceness`: −20 to 19, which is to be reached again.
 */
export function mayReturnTo(niceness: number, { limits, status, uidMap }: ProcessFacts): boolean {
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  const hasCapability = capabilities !== undefined && (BigInt(`0x${capabilities}`) & capSysNice) !== 0n;
  if (hasCapability && isInitialUserNamespace(uidMap)) return true;
  const ceiling = /^Max nice priority\s+(\d+|unlimited)/m.exec(limits)?.[1];
  if (ceiling === undefined) return false;
  return ceiling === 'unlimited' || niceness >= 20 - Number(ceiling);
}

/** The capability of another one is of no use here (user_namespaces(7)). The initial one maps all ids to themselves. */
const isInitialUserNamespace = (uidMap: string): boolean => /^\s*0\s+0\s+4294967295\s*$/.test(uidMap);

/** The system's calls: they throw what `node:os` does. */
export interface PrioritySystem {
  readonly facts: () => ProcessFacts;
  readonly get: (pid: number) => number;
  readonly set: (pid: number, niceness: number) => void;
}

const system: PrioritySystem = {
  facts: () => {
    const read = (name: string): string => readFileSync(`/proc/self/${name}`, 'utf8');
    return { limits: read('limits'), status: read('status'), uidMap: read('uid_map') };
  },
  get: getPriority,
  set: setPriority,
};

/** Lowers the priority of children while they start, where that can be undone. Never fails: a start without it is a start. */
export class StartPriority {
  readonly #system: PrioritySystem;
  readonly #own: number;
  readonly #onRefused: (reason: string) => void;
  #isPossible: boolean;

  /** `onRefused`: once, when the system does not give priority back although it should: no other is lowered then. */
  constructor(onRefused: (reason: string) => void, calls = system) {
    this.#system = calls;
    this.#own = calls.get(process.pid);
    this.#onRefused = onRefused;
    this.#isPossible = this.#mayReturn();
  }

  /** Of a process that has just been spawned: the threads that it starts have it too. */
  lower(pid: number, byNiceness: number): void {
    if (!this.#isPossible) return;
    try {
      this.#system.set(pid, Math.min(nicenessMax, this.#own + byNiceness));
    } catch {
      // It has ended, or may not be told.
    }
  }

  /** Of all threads of the process, since each has its own (setpriority(2), Linux). False when it keeps the lower one. */
  restore(pid: number): boolean {
    // A thread that another one starts meanwhile has its priority: by the second time, the right one.
    for (let round = 0; round < 2; round++) {
      const threads = threadsOf(pid);
      if (threads.length === 0) return false;
      for (const thread of threads) {
        if (this.#isPossible) this.#restoreThread(thread);
      }
    }
    return this.#isPossible || this.#isAtOwn(pid);
  }

  #isAtOwn(pid: number): boolean {
    try {
      return this.#system.get(pid) === this.#own;
    } catch {
      return false; // It has ended.
    }
  }

  #mayReturn(): boolean {
    try {
      return mayReturnTo(this.#own, this.#system.facts());
    } catch {
      return false;
    }
  }

  #restoreThread(thread: number): void {
    try {
      this.#system.set(thread, this.#own);
    } catch (thrown) {
      if (!isRefusal(thrown)) return; // It has ended.
      this.#isPossible = false;
      const code = getSystemErrorName(thrown.errno);
      this.#onRefused(`the system does not let a process have its priority back (${code})`);
    }
  }
}

/** setpriority(2): not by this user, or not by this process. */
const isRefusal = (thrown: unknown): thrown is Error & { readonly errno: number } =>
  thrown instanceof Error &&
  'errno' in thrown &&
  (thrown.errno === -constants.errno.EACCES || thrown.errno === -constants.errno.EPERM);

function threadsOf(pid: number): readonly number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number);
  } catch {
    return [];
  }
}
