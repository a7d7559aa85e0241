import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { LatencySlice } from './latency-slices.js';
import type { XksAccess } from './xks-caller.js';

/** connection: no answer came. unavailable: a 503 or 429. wrong: an answer that must never be given. */
export type FailureKind = 'connection' | 'unavailable' | 'wrong';

export interface LoadFailure {
  readonly key: string;
  readonly kind: FailureKind;
  /** Wall clock, ms. */
  readonly sentMs: number;
  readonly endedMs: number;
  readonly detail: string;
}

export interface LoadOrders {
  readonly access: XksAccess;
  /** Enabled, and staying so. */
  readonly keys: readonly string[];
  /** Requests per second. */
  readonly rate: number;
}

/** What became of the load so far. */
export interface LoadCounts {
  readonly succeeded: number;
  /** Of the successes, those that took more than KMS's 250 ms. */
  readonly slow: number;
  /** Not sent: too many were on the way. */
  readonly unsent: number;
}

export type LoadMessage =
  | { readonly counts: LoadCounts; readonly slices: readonly LatencySlice[] }
  | { readonly failed: LoadFailure }
  | { readonly stoodStill: { readonly fromMs: number; readonly untilMs: number } };

/** A time in which failures of some kinds are what a fault costs. */
interface Excuse {
  readonly kinds: readonly FailureKind[];
  readonly why: string;
  readonly fromMs: number;
  untilMs: number;
}

export interface LoadReport extends LoadCounts {
  /** Why → how many failures that explains. */
  readonly explained: Readonly<Record<string, number>>;
  readonly unexplained: readonly LoadFailure[];
}

const failuresMax = 100_000;
/** Ends of requests are noted in another process. */
const clockMarginMs = 50;

/** The load that goes on while things break, and the account of what it cost. */
export class Load {
  readonly #child: ChildProcess;
  readonly #failures: LoadFailure[] = [];
  readonly #excuses: Excuse[] = [];
  readonly #waiting: { readonly at: number; readonly resolve: () => void }[] = [];
  #counts: LoadCounts = { succeeded: 0, slow: 0, unsent: 0 };
  /** Of earlier cases. */
  #before: LoadCounts = this.#counts;
  #watcher: (slices: readonly LatencySlice[]) => void = () => {};

  constructor(orders: LoadOrders) {
    this.#child = fork(fileURLToPath(new URL('load-process.js', import.meta.url)), { stdio: 'inherit' });
    this.#child.on('message', (message) => this.#hear(message as LoadMessage));
    this.#child.send(orders);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get succeeded(): number {
    return this.#counts.succeeded;
  }

  /** Told how long answers took, a while after they came. */
  watch(watcher: (slices: readonly LatencySlice[]) => void): void {
    this.#watcher = watcher;
  }

  /** Resolves after `count` more successes. */
  afterMore(count: number): Promise<void> {
    return new Promise((resolve) => this.#waiting.push({ at: this.succeeded + count, resolve }));
  }

  /** From now on failures of these kinds are expected; the answer ends that. */
  expect(kinds: readonly FailureKind[], why: string): () => void {
    const excuse: Excuse = {
      kinds,
      why,
      fromMs: Date.now() - clockMarginMs,
      untilMs: Number.POSITIVE_INFINITY,
    };
    this.#excuses.push(excuse);
    return () => {
      excuse.untilMs = Date.now() + clockMarginMs;
    };
  }

  report(): LoadReport {
    const explained: Record<string, number> = {};
    const unexplained: LoadFailure[] = [];
    for (const failure of this.#failures) {
      const excuse = this.#excuses.find(
        ({ kinds, fromMs, untilMs }) =>
          kinds.includes(failure.kind) && failure.endedMs >= fromMs && failure.sentMs <= untilMs,
      );
      if (excuse === undefined) unexplained.push(failure);
      else explained[excuse.why] = (explained[excuse.why] ?? 0) + 1;
    }
    const before = this.#before;
    const { succeeded, slow, unsent } = this.#counts;
    return {
      succeeded: succeeded - before.succeeded,
      slow: slow - before.slow,
      unsent: unsent - before.unsent,
      explained,
      unexplained,
    };
  }

  /** Forgets what was, for the next case. */
  reset(): void {
    this.#failures.length = 0;
    this.#excuses.length = 0;
    this.#before = this.#counts;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.disconnect();
    await ended;
  }

  #hear(message: LoadMessage): void {
    if ('failed' in message) {
      if (this.#failures.length < failuresMax) this.#failures.push(message.failed);
      return;
    }
    if ('stoodStill' in message) {
      const why = 'the machine was too busy to run the load';
      this.#excuses.push({ kinds: ['connection'], why, ...message.stoodStill });
      return;
    }
    this.#counts = message.counts;
    this.#watcher(message.slices);
    for (const waiter of this.#waiting.splice(0)) {
      if (this.succeeded >= waiter.at) waiter.resolve();
      else this.#waiting.push(waiter);
    }
  }
}
