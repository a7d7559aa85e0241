import type { ChildHandle, ChildOwner } from './child-process.js';
import { type StartPriority, standbyNiceness } from './start-priority.js';

/** One that has said something and then nothing for so long does not answer; heartbeats come every half second. */
const silenceMsMax = 3_000;
/** One that loads for longer hangs: it has the least of the cores, so this is generous. */
const loadingMsMax = 300_000;

interface StandbyOptions {
  readonly spawn: (owner: ChildOwner) => ChildHandle;
  readonly priority: Pick<StartPriority, 'lower' | 'restore'>;
  /** Monotonic. */
  readonly nowMs: () => number;
  /** One has loaded everything, and waits. */
  readonly onLoaded: (pid: number | null) => void;
  /** One that waited has ended by itself. */
  readonly onDied: (code: number | null, signal: string | null) => void;
}

interface Waiting {
  readonly child: ChildHandle;
  /** Whose it is; `null` while it waits. */
  owner: ChildOwner | null;
  readonly startedAtMs: number;
  /** `null`: it has not loaded everything yet. */
  heardAtMs: number | null;
}

/**
 * A process that has loaded what it needs and waits for its configuration, to take the place of one that dies: loading is
 * most of what a start costs, and is done while nobody waits for it, with what the others leave of the cores.
 */
export class Standby {
  readonly #options: StandbyOptions;
  #waiting: Waiting | null = null;

  constructor(options: StandbyOptions) {
    this.#options = options;
  }

  /** Starts one, unless one waits that answers, or may yet. */
  prepare(): void {
    const { spawn, priority, nowMs, onLoaded, onDied } = this.#options;
    if (this.#waiting !== null) {
      const { startedAtMs, heardAtMs } = this.#waiting;
      const isLoading = heardAtMs === null && nowMs() - startedAtMs <= loadingMsMax;
      if (isLoading || this.#answers(this.#waiting)) return;
    }
    this.end();
    const waiting: Waiting = {
      owner: null,
      startedAtMs: nowMs(),
      heardAtMs: null,
      child: spawn({
        onMessage: (message) => {
          if (waiting.heardAtMs === null) onLoaded(waiting.child.pid);
          waiting.heardAtMs = nowMs();
          waiting.owner?.onMessage(message);
        },
        onExit: (code, signal) => {
          waiting.owner?.onExit(code, signal);
          if (this.#waiting !== waiting) return;
          this.#waiting = null;
          onDied(code, signal);
        },
      }),
    };
    this.#waiting = waiting;
    if (waiting.child.pid !== null) priority.lower(waiting.child.pid, standbyNiceness);
  }

  /** The one that waits, with its own priority again; its owner's from now on. `null`: there is none that is of use. */
  take(owner: ChildOwner): ChildHandle | null {
    const waiting = this.#waiting;
    if (waiting === null) return null;
    const { pid } = waiting.child;
    // One that has to keep its low priority would be of no use.
    if (pid === null || !this.#answers(waiting) || !this.#options.priority.restore(pid)) {
      this.end();
      return null;
    }
    this.#waiting = null;
    waiting.owner = owner;
    return waiting.child;
  }

  /** Ends the one that waits. */
  end(): void {
    this.#waiting?.child.kill();
    this.#waiting = null;
  }

  /** One that is still loading does not: it goes on as slowly as it has begun, and one that is started now is ahead of it. */
  #answers({ heardAtMs }: Waiting): boolean {
    return heardAtMs !== null && this.#options.nowMs() - heardAtMs <= silenceMsMax;
  }
}
