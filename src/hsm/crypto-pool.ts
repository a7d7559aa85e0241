import { Piscina } from 'piscina';
import type { Clock } from '../base/clock.js';
import { loadNativeBinding, type NativeBinding, type Pkcs11Outcome } from '../base/native.js';
import { err, ok, type Result } from '../base/result.js';
import {
  type CellOutcome,
  type CellRef,
  Cells,
  cellsMax,
  fitsCell,
  isKeyWellFormed,
  isSealWellFormed,
} from './cells.js';
import type { CryptoWorkerData, CryptoWorkerReport } from './crypto-worker.js';
import type {
  DecryptOperation,
  EncryptOperation,
  EncryptResult,
  HsmCrypto,
  HsmFailure,
  KeyObject,
} from './types.js';

/** Operations in one task. */
const batchOperationsMax = 32;
/** A task is not made longer than this on one session, going by the recent average. */
const batchMicrosMax = 5_000;
/** Tasks that a worker with native threads holds at once, so that a slow operation keeps no session idle. */
const tasksPerThreadedWorker = 16;
/** Operations handed to native threads, per session: the second is at hand when the first is done. */
const operationsPerSession = 2;
/** Operations waiting for a worker. */
const queuedMax = 256;
/** Cells whose call is still out although their request was answered; at the bound the token counts as stuck. */
const stuckCellsMax = 64;
/** How often deadlines, and completions inside unfinished tasks, are looked for while anything is out. */
const sweepMs = 5;
/** The same while only abandoned calls are out. */
const stuckSweepMs = 50;
const openMsMax = 15_000;
const resumeMsMax = 5_000;
/** For operations that are out when the pool is closed, then for the workers to end. */
const closeMsMax = 2_000;
/** What the end of the process may take while workers come back from their calls. */
const exitMsMax = 500;

export interface CryptoPoolOptions {
  /** The module's path, already loaded through `loadPkcs11Module`. */
  readonly modulePath: string;
  readonly initArgs: string;
  readonly slotId: bigint;
  /** Piscina workers (threads). */
  readonly workers: number;
  /** Sessions per worker. 1: blocking calls on the worker's thread. More: a native thread for each. */
  readonly sessions: number;
  /** What every witness is made of: its plaintext and its AAD. */
  readonly witness: { readonly plaintext: Uint8Array; readonly gcmAad: Uint8Array };
  readonly clock: Clock;
  /**
   * Called once when the login is gone, the token removed or the module finalised, with the `CKR_…` that said so.
   * From then on operations fail with `token-unavailable` until the owner has logged in again and called `resume`.
   */
  readonly onSessionsLost: (rv: string) => void;
}

export interface CryptoPoolStats {
  readonly sessions: number;
  readonly cells: number;
  /** Cells with an operation or an abandoned call in them. */
  readonly cellsInUse: number;
  /** Cells whose request was answered at its deadline while the call is still out. */
  readonly stuckCells: number;
  /** Operations waiting for a worker. */
  readonly queued: number;
  /** Operations handed to workers. */
  readonly inFlight: number;
  /** Since the pool was opened. */
  readonly operations: number;
  /** PKCS#11 calls those operations took, prefetched randomness and finds included. */
  readonly roundTrips: number;
  /** Microseconds an operation spends in the module, recent average; 0 before the first. */
  readonly operationMicros: number;
}

/** The cryptography of one token over its logged-in sessions. */
export interface CryptoPool extends HsmCrypto {
  stats(): CryptoPoolStats;
  /** The key whose witness tells an ill token from a bad ciphertext when the caller's key has no witness. */
  setCanary(key: KeyObject | null): void;
  /** Opens the sessions again after a new login; every cached key handle is found and witnessed anew. */
  resume(): Promise<Result<void, HsmFailure>>;
  /** Waits for what is out (bounded), closes the sessions, ends the workers. Later operations fail. */
  close(): Promise<void>;
}

/**
 * Starts the workers and opens their sessions; fails when one of them cannot. The owner keeps a logged-in session of
 * its own open meanwhile: a token whose last session closes logs out (PKCS#11 v2.40 §5.6, C_CloseSession).
 */
export async function openCryptoPool(options: CryptoPoolOptions): Promise<Result<CryptoPool, HsmFailure>> {
  const pool = new PiscinaCryptoPool(options);
  const failure = await pool.opened();
  if (failure === null) return ok(pool);
  await pool.close();
  return err(failure);
}

/** An operation from its arrival until its cell is free again. */
interface Pending {
  readonly cell: CellRef;
  readonly deadlineMs: number;
  /** Copies the result out of the cell and answers; `null`: answer with `failure`. */
  readonly settle: (failure: HsmFailure | null) => void;
  /** Answered, while native code still has the cell. */
  abandoned: boolean;
}

class PiscinaCryptoPool implements CryptoPool {
  readonly #options: CryptoPoolOptions;
  readonly #binding: NativeBinding = loadNativeBinding();
  readonly #cells = new Cells();
  readonly #piscina: Piscina;
  readonly #threaded: boolean;
  readonly #opened: Promise<HsmFailure | null>;

  #canary: KeyObject | null = null;
  #waiting: Pending[] = [];
  readonly #out = new Set<Pending>();
  #tasksOut = 0;
  #stuck = 0;
  #dispatchScheduled = false;
  #sweepTimer: NodeJS.Timeout | null = null;
  /** The `CKR_…` by which the login went, until it is back. */
  #lostRv: string | null = null;
  #closed = false;
  #onIdle: (() => void) | null = null;

  #operations = 0;
  #roundTrips = 0;
  #operationMicros = 0;

  constructor(options: CryptoPoolOptions) {
    this.#options = options;
    this.#threaded = options.sessions > 1;
    const workerData: CryptoWorkerData = {
      memory: this.#cells.memory,
      modulePath: options.modulePath,
      initArgs: options.initArgs,
      slotId: options.slotId,
      sessions: options.sessions,
      witnessPlaintext: options.witness.plaintext,
      witnessAad: options.witness.gcmAad,
    };
    const tasksPerWorker = this.#threaded ? tasksPerThreadedWorker : 1;
    this.#piscina = new Piscina({
      filename: new URL('./crypto-worker.js', import.meta.url).href,
      name: 'runBatch',
      minThreads: options.workers,
      maxThreads: options.workers,
      concurrentTasksPerWorker: tasksPerWorker,
      maxQueue: options.workers * tasksPerWorker,
      // hsm.md: inside Atomics.wait asynchronous completions don't arrive.
      atomics: this.#threaded ? 'disabled' : 'sync',
      recordTiming: false,
      workerData,
    });
    process.on('exit', this.#onExit);
    this.#opened = new Promise((resolve) => {
      let toReport = options.workers;
      const end = (failure: HsmFailure | null): void => {
        clearTimeout(timer);
        resolve(failure);
      };
      const timer = setTimeout(() => end(failed('deadline', null, 'C_OpenSession')), openMsMax);
      // A worker that ends later fails its tasks and is replaced; there is nothing else to do about it.
      this.#piscina.on('error', () => end(failed('failed')));
      this.#piscina.on('message', (report: CryptoWorkerReport) => {
        toReport -= 1;
        const failure = this.#outcomeFailure(report);
        if (failure !== null || toReport === 0) end(failure);
      });
    });
  }

  /** Resolves when every worker has a session, or one has none. */
  opened(): Promise<HsmFailure | null> {
    return this.#opened;
  }

  encrypt(operation: EncryptOperation, deadlineMs: number): Promise<Result<EncryptResult, HsmFailure>> {
    const refusal = this.#refusal(operation, deadlineMs);
    if (refusal !== null) return Promise.resolve(err(refusal));
    const cell = this.#cells.putEncrypt(operation, this.#canary);
    if (cell === null) return Promise.resolve(err(failed('overloaded')));
    return this.#submit(cell, deadlineMs, () => this.#cells.encryptResult(cell));
  }

  decrypt(operation: DecryptOperation, deadlineMs: number): Promise<Result<Uint8Array, HsmFailure>> {
    // X-D2: decoded values of a wrong length are the caller's; no token need be asked.
    if (!isSealWellFormed(operation)) return Promise.resolve(err(failed('bad-ciphertext')));
    const refusal = this.#refusal(operation, deadlineMs);
    if (refusal !== null) return Promise.resolve(err(refusal));
    const cell = this.#cells.putDecrypt(operation, this.#canary);
    if (cell === null) return Promise.resolve(err(failed('overloaded')));
    return this.#submit(cell, deadlineMs, () => this.#cells.plaintext(cell));
  }

  setCanary(key: KeyObject | null): void {
    this.#canary = key;
  }

  async resume(): Promise<Result<void, HsmFailure>> {
    if (this.#closed) return err(failed('token-unavailable'));
    this.#cells.beginLogin();
    const cell = this.#cells.putProbe();
    if (cell === null) return err(failed('overloaded'));
    // Still lost while the probe is out, so that its failure is not reported as another loss.
    this.#lostRv ??= 'CKR_USER_NOT_LOGGED_IN';
    const deadlineMs = this.#options.clock.monotonicMs() + resumeMsMax;
    const probed = await this.#submit(cell, deadlineMs, () => undefined);
    if (probed.ok) this.#lostRv = null;
    return probed;
  }

  stats(): CryptoPoolStats {
    return {
      sessions: this.#sessions,
      cells: cellsMax,
      cellsInUse: cellsMax - this.#cells.free,
      stuckCells: this.#stuck,
      queued: this.#waiting.length,
      inFlight: this.#out.size - this.#stuck,
      operations: this.#operations,
      roundTrips: this.#roundTrips,
      operationMicros: Math.round(this.#operationMicros),
    };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#failWaiting(failed('token-unavailable'));
    if (this.#out.size > this.#stuck) {
      await bounded(
        new Promise<void>((resolve) => {
          this.#onIdle = resolve;
        }),
        closeMsMax,
      );
    }
    const threads = [...this.#piscina.threads];
    const ended = await bounded(
      this.#piscina.destroy().then(() => true),
      closeMsMax,
    );
    for (const pending of this.#out) {
      if (!pending.abandoned) pending.settle(failed('token-unavailable'));
    }
    this.#out.clear();
    if (this.#sweepTimer !== null) clearTimeout(this.#sweepTimer);
    this.#sweepTimer = null;
    if (ended === true) {
      process.off('exit', this.#onExit);
    } else {
      // A worker inside a call that doesn't return cannot be ended; it must not keep this process alive either.
      for (const thread of threads) thread.unref();
    }
  }

  get #sessions(): number {
    return this.#options.workers * this.#options.sessions;
  }

  readonly #onExit = (code: number): void => {
    // Node joins its workers before it exits; one inside a call that never returns would hold the process for ever.
    this.#binding.exitDespiteHungCalls(code, exitMsMax);
  };

  /** Why an operation gets no cell at all: what cannot be done in time is refused at once. */
  #refusal(operation: EncryptOperation | DecryptOperation, deadlineMs: number): HsmFailure | null {
    if (!isKeyWellFormed(operation.key)) return failed('failed');
    if (!fitsCell(operation)) return failed('too-large');
    if (this.#closed) return failed('token-unavailable');
    if (this.#lostRv !== null) return failed('token-unavailable', this.#lostRv);
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs >= deadlineMs) return failed('deadline');
    if (this.#stuck >= stuckCellsMax || this.#stuck >= this.#sessions) return failed('token-unavailable');
    if (this.#waiting.length >= queuedMax) return failed('overloaded');
    const ahead = this.#waiting.length + this.#out.size - this.#stuck;
    const waitMs = (ahead * this.#operationMicros) / 1_000 / (this.#sessions - this.#stuck);
    // With nothing ahead there is always one that measures the token anew.
    return ahead > 0 && nowMs + waitMs > deadlineMs ? failed('overloaded') : null;
  }

  #submit<T>(cell: CellRef, deadlineMs: number, read: () => T): Promise<Result<T, HsmFailure>> {
    return new Promise((resolve) => {
      this.#waiting.push({
        cell,
        deadlineMs,
        settle: (failure) => resolve(failure === null ? ok(read()) : err(failure)),
        abandoned: false,
      });
      this.#armSweep();
      if (this.#dispatchScheduled || this.#room() === 0) return;
      // After the poll phase: everything that arrived in this turn of the loop goes together, and nothing waits
      // longer for it.
      this.#dispatchScheduled = true;
      setImmediate(() => {
        this.#dispatchScheduled = false;
        this.#dispatch();
      });
    });
  }

  /** How many operations may go out now. */
  #room(): number {
    const { workers, sessions } = this.#options;
    if (!this.#threaded) return (workers - this.#tasksOut) * batchOperationsMax;
    if (this.#tasksOut >= workers * tasksPerThreadedWorker) return 0;
    return Math.max(0, workers * sessions * operationsPerSession - this.#out.size);
  }

  #batchSize(): number {
    const { workers } = this.#options;
    const sharers = this.#threaded ? workers : workers - this.#tasksOut;
    const fair = Math.ceil(this.#waiting.length / sharers);
    const quick =
      this.#threaded || this.#operationMicros === 0
        ? batchOperationsMax
        : Math.max(1, Math.floor(batchMicrosMax / this.#operationMicros));
    return Math.min(fair, quick, batchOperationsMax, this.#room());
  }

  #dispatch(): void {
    while (this.#waiting.length > 0 && this.#room() > 0) {
      const batch = this.#waiting.splice(0, this.#batchSize());
      const message: number[] = [];
      for (const pending of batch) {
        this.#out.add(pending);
        message.push(pending.cell.index, pending.cell.generation);
      }
      this.#tasksOut += 1;
      this.#piscina.run(message).then(
        (outcome: Pkcs11Outcome | null) =>
          this.#taskEnded(batch, outcome === null ? null : this.#outcomeFailure(outcome)),
        // The worker ended.
        () => this.#taskEnded(batch, failed('token-unavailable')),
      );
    }
  }

  /** `unopened`: why the worker looked at none of the cells. */
  #taskEnded(batch: readonly Pending[], unopened: HsmFailure | null): void {
    this.#tasksOut -= 1;
    for (const pending of batch) {
      if (!this.#out.has(pending) || this.#collect(pending)) continue;
      // Neither looked at nor in a call: the worker had no session, or is no more.
      if (this.#cells.withdraw(pending.cell)) {
        this.#finish(pending, unopened ?? failed('token-unavailable'));
      }
    }
    if (unopened?.rv) this.#lose(unopened.rv);
    if (this.#out.size <= this.#stuck) this.#onIdle?.();
    this.#dispatch();
  }

  /** Consumes the completion of an operation, if there is one. */
  #collect(pending: Pending): boolean {
    const { cell } = pending;
    if (!this.#cells.isDone(cell)) return false;
    const outcome = this.#cells.outcome(cell);
    this.#measure(outcome);
    const failure = outcome.result === 'ok' ? null : this.#cellFailure(outcome);
    this.#finish(pending, failure);
    this.#cells.release(cell);
    if (outcome.loginLost && failure?.rv) this.#lose(failure.rv);
    return true;
  }

  #finish(pending: Pending, failure: HsmFailure | null): void {
    this.#out.delete(pending);
    if (pending.abandoned) {
      // Too late: nobody sees it, and the cell is wiped like any other.
      this.#stuck -= 1;
    } else {
      pending.settle(failure);
    }
  }

  #measure(outcome: CellOutcome): void {
    this.#operations += 1;
    this.#roundTrips += outcome.roundTrips;
    // One call that hung must not make every later one look impossible.
    const known = this.#operationMicros;
    const sample = known === 0 ? outcome.micros : Math.min(outcome.micros, 8 * known + 1_000);
    this.#operationMicros = known === 0 ? sample : known + (sample - known) / 16;
  }

  #lose(rv: string): void {
    if (this.#lostRv !== null || this.#closed) return;
    this.#lostRv = rv;
    this.#failWaiting(failed('token-unavailable', rv));
    this.#options.onSessionsLost(rv);
  }

  #failWaiting(failure: HsmFailure): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const pending of waiting) {
      this.#cells.withdraw(pending.cell);
      pending.settle(failure);
    }
  }

  #armSweep(): void {
    if (this.#sweepTimer !== null) return;
    const onlyStuck = this.#waiting.length === 0 && this.#out.size <= this.#stuck;
    this.#sweepTimer = setTimeout(this.#sweep, onlyStuck ? stuckSweepMs : sweepMs);
    // An abandoned call is nothing to stay alive for.
    if (onlyStuck) this.#sweepTimer.unref();
  }

  readonly #sweep = (): void => {
    this.#sweepTimer = null;
    const nowMs = this.#options.clock.monotonicMs();
    for (const pending of this.#out) {
      if (this.#collect(pending) || pending.abandoned || nowMs < pending.deadlineMs) continue;
      if (this.#cells.withdraw(pending.cell)) {
        this.#finish(pending, failed('deadline'));
      } else {
        pending.abandoned = true;
        this.#stuck += 1;
        pending.settle(failed('deadline'));
      }
    }
    if (this.#waiting.some((pending) => nowMs >= pending.deadlineMs)) {
      const waiting = this.#waiting;
      this.#waiting = waiting.filter((pending) => nowMs < pending.deadlineMs);
      for (const pending of waiting) {
        if (nowMs < pending.deadlineMs) continue;
        this.#cells.withdraw(pending.cell);
        pending.settle(failed('deadline'));
      }
    }
    if (this.#out.size <= this.#stuck) this.#onIdle?.();
    this.#dispatch();
    if (this.#waiting.length + this.#out.size > 0) this.#armSweep();
  };

  #cellFailure(outcome: CellOutcome): HsmFailure {
    return {
      kind: outcome.result === 'ok' ? 'failed' : outcome.result,
      rv: outcome.rv === 0 ? null : this.#binding.pkcs11RvName(outcome.rv),
      functionName: this.#binding.pkcs11FunctionName(outcome.functionIndex),
    };
  }

  #outcomeFailure(outcome: Pkcs11Outcome): HsmFailure | null {
    if (outcome.rv === 'CKR_OK') return null;
    const kind = outcome.rv === null ? 'failed' : 'token-unavailable';
    return { kind, rv: outcome.rv, functionName: outcome.functionName };
  }
}

const failed = (
  kind: HsmFailure['kind'],
  rv: string | null = null,
  functionName: string | null = null,
): HsmFailure => ({ kind, rv, functionName });

/** `promise`, or `null` after `ms`. */
async function bounded<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), ms);
  });
  const first = await Promise.race([promise, timeout]);
  clearTimeout(timer);
  return first;
}
