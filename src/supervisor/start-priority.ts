import { readdirSync, readFileSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';

/**
 * The start of a serving process takes about a second of a core, which the others need when all cores are busy: theirs are
 * the requests that its death has left to them, and new connections. A third of a share is enough to be back soon.
 */
const startNiceness = 5;

const capSysNice = 1n << 23n;

/**
 * Whether a process may give a lowered priority back (getrlimit(2), RLIMIT_NICE; capabilities(7), CAP_SYS_NICE): otherwise
 * it stays as it is. Pure. `limits`, `status`: of `/proc/self`. `niceness`: −20 to 19, which is to be reached again.
 */
export function mayReturnTo(niceness: number, limits: string, status: string): boolean {
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  if (capabilities !== undefined && (BigInt(`0x${capabilities}`) & capSysNice) !== 0n) return true;
  const ceiling = /^Max nice priority\s+(\d+|unlimited)/m.exec(limits)?.[1];
  if (ceiling === undefined) return false;
  return ceiling === 'unlimited' || niceness >= 20 - Number(ceiling);
}

/** Lowers the priority of children while they start, where that can be undone. Never fails: a start without it is a start. */
export class StartPriority {
  readonly #own = getPriority();
  readonly #isPossible: boolean;

  constructor() {
    this.#isPossible = isPossible(this.#own);
  }

  /** Of a process that has just been spawned: the threads that it starts have it too. */
  lower(pid: number): void {
    if (!this.#isPossible) return;
    try {
      setPriority(pid, Math.min(19, this.#own + startNiceness));
    } catch {
      // It has ended, or may not be told.
    }
  }

  /** Of all threads of the process, since each has its own (setpriority(2), Linux). */
  restore(pid: number): void {
    if (!this.#isPossible) return;
    // A thread that another one starts meanwhile has its priority: by the second time, the right one.
    for (let round = 0; round < 2; round++) {
      for (const thread of threadsOf(pid)) {
        try {
          setPriority(thread, this.#own);
        } catch {
          // It has ended.
        }
      }
    }
  }
}

function isPossible(niceness: number): boolean {
  try {
    const read = (name: string): string => readFileSync(`/proc/self/${name}`, 'utf8');
    return mayReturnTo(niceness, read('limits'), read('status'));
  } catch {
    return false;
  }
}

function threadsOf(pid: number): readonly number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number);
  } catch {
    return [];
  }
}
