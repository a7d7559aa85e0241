import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ChaosNode, ProcessKind } from '../test/chaos/chaos-node.js';

const pollMs = 10;
/** Below what one interval of the node's own event-loop monitor (10 ms) can tell from none. */
const monitorMs = 10;

export interface Interval {
  readonly fromMs: number;
  readonly toMs: number;
}

/** Sees from outside when a node writes a snapshot: the file has another name while it is written. */
export class SnapshotWatch {
  readonly intervals: Interval[] = [];
  readonly #directory: string;
  readonly #timer: NodeJS.Timeout;
  #sinceMs: number | null = null;

  constructor(node: ChaosNode) {
    this.#directory = join(node.dataDir, 'snapshots');
    this.#timer = setInterval(() => this.#look(), pollMs);
  }

  get writing(): boolean {
    return this.#sinceMs !== null;
  }

  /** Index of the newest that is whole; 0 for none. */
  get newestIndex(): number {
    return Math.max(0, ...this.#names().map((name) => Number(/^snapshot-(\d+)$/.exec(name)?.[1] ?? 0)));
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #names(): string[] {
    try {
      return readdirSync(this.#directory);
    } catch {
      return [];
    }
  }

  #look(): void {
    const isWriting = this.#names().some((name) => name.endsWith('.tmp'));
    const nowMs = performance.now();
    if (isWriting) this.#sinceMs ??= nowMs;
    else if (this.#sinceMs !== null) {
      this.intervals.push({ fromMs: this.#sinceMs, toMs: nowMs });
      this.#sinceMs = null;
    }
  }
}

/**
 * The longest time for which the event loop of a node's replica did nothing else, since the last call: milliseconds, to
 * about 10; `null` when it did not say.
 */
export async function longestStallMs(node: ChaosNode): Promise<number | null> {
  const text = await fetch(node.demo.description.metricsUrl, { headers: { connection: 'close' } })
    .then((answer) => answer.text())
    .catch(() => '');
  const line = /^nodejs_eventloop_lag_max_seconds\{process="replica"\} (\S+)$/m.exec(text);
  return line === null ? null : Math.max(0, Number(line[1]) * 1_000 - monitorMs);
}

/** While `work` is under way: the longest stall of a node's replica, looked at each second. */
export async function stallDuring<T>(
  node: ChaosNode,
  work: () => Promise<T>,
): Promise<{ readonly value: T; readonly stallMs: number }> {
  let stallMs = 0;
  const ended = new AbortController();
  await longestStallMs(node);
  const looking = (async () => {
    while (!ended.signal.aborted) {
      await delay(1_000, undefined, { signal: ended.signal }).catch(() => {});
      stallMs = Math.max(stallMs, (await longestStallMs(node)) ?? 0);
    }
  })();
  try {
    const value = await work();
    ended.abort();
    await looking;
    return { value, stallMs };
  } finally {
    ended.abort();
  }
}

/** MiB of memory that a node's processes of one kind have each: the largest of them. */
export function residentMiB(node: ChaosNode, kind: ProcessKind): number {
  const sizes = node.processes(kind).map((pid) => {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1_024;
  });
  return Math.max(0, ...sizes);
}
