import { Piscina } from 'piscina';
import type { Pkcs11Outcome } from '../base/native.js';
import type { CryptoWorkerData, CryptoWorkerReport } from './crypto-worker.js';

/** How long a worker takes operations off the queue before it sees to its event loop. */
const shiftMs = 1_000;

/** What ended a shift: its time, a worker without a session (why), or the end of the worker. */
export type ShiftEnd =
  | { readonly kind: 'over' | 'worker-ended' }
  | { readonly kind: 'unopened'; readonly outcome: Pkcs11Outcome };

/**
 * The workers of a pool. Piscina starts and replaces them; a task is a shift, during which a worker's thread takes
 * operations off the native queue.
 */
export class WorkerShifts {
  readonly #workers: number;
  readonly #onEnd: (end: ShiftEnd) => void;
  readonly #piscina: Piscina;
  #out = 0;

  /** `onEnd` is called after each shift; whether there is another is for it to say, by `call`. */
  constructor(workers: number, workerData: CryptoWorkerData, onEnd: (end: ShiftEnd) => void) {
    this.#workers = workers;
    this.#onEnd = onEnd;
    this.#piscina = new Piscina({
      filename: new URL('./crypto-worker.js', import.meta.url).href,
      name: 'workShift',
      minThreads: workers,
      maxThreads: workers,
      concurrentTasksPerWorker: 1,
      maxQueue: workers,
      recordTiming: false,
      workerData,
    });
  }

  /**
   * Resolves when every worker has a session (`CKR_OK`), or with why one has none; `late` after `msMax`, `ended` when a
   * worker cannot be started.
   */
  opened(msMax: number): Promise<Pkcs11Outcome | 'late' | 'ended'> {
    return new Promise((resolve) => {
      let toReport = this.#workers;
      const end = (outcome: Pkcs11Outcome | 'late' | 'ended'): void => {
        clearTimeout(timer);
        resolve(outcome);
      };
      const timer = setTimeout(() => end('late'), msMax);
      // A worker that ends later fails its shift and is replaced; there is nothing else to do about it.
      this.#piscina.on('error', () => end('ended'));
      this.#piscina.on('message', (report: CryptoWorkerReport) => {
        toReport -= 1;
        if (report.rv !== 'CKR_OK' || toReport === 0) end(report);
      });
    });
  }

  /** Sends every worker on shift that is not. */
  call(): void {
    while (this.#out < this.#workers) {
      this.#out += 1;
      this.#piscina.run(shiftMs).then(
        (outcome: Pkcs11Outcome | null) =>
          this.#end(outcome === null ? { kind: 'over' } : { kind: 'unopened', outcome }),
        () => this.#end({ kind: 'worker-ended' }),
      );
    }
  }

  #end(end: ShiftEnd): void {
    this.#out -= 1;
    this.#onEnd(end);
  }

  /** Ends the workers. @returns whether they have ended within `msMax`; the others keep nothing alive. */
  async close(msMax: number): Promise<boolean> {
    const threads = [...this.#piscina.threads];
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), msMax);
    });
    const ended = await Promise.race([this.#piscina.destroy().then(() => true), late]);
    clearTimeout(timer);
    // A worker inside a call that doesn't return cannot be ended; it must not keep this process alive either.
    if (!ended) for (const thread of threads) thread.unref();
    return ended;
  }
}
