import type { Clock } from '../base/clock.js';
import {
  loadNativeBinding,
  type NativeBinding,
  type Pkcs11OperationQueue,
  type Pkcs11Outcome,
} from '../base/native.js';
import { err, ok, type Result } from '../base/result.js';
import { type CallCounts, callCounts, callNumbers } from './call-counts.js';
import {
  type CellContext,
  type CellOutcome,
  type CellRef,
  Cells,
  cellsMax,
  encryptionsPerOperationMax,
  fitsCell,
  isKeyWellFormed,
  isSealWellFormed,
  plainContext,
} from './cells.js';
import { isQuick, lanesWanted, typicalMicros } from './lanes.js';
import { formFlags, type GcmForm } from './profile/gcm-form.js';
import type {
  DecryptOperation,
  EncryptOperation,
  EncryptResult,
  HsmCrypto,
  HsmFailure,
  KeyObject,
} from './types.js';
import { type ShiftEnd, WorkerShifts } from './worker-shifts.js';

/** Without an operation for so long, workers are sent on no further shift. Longer than between two health checks (X-H3). */
const idleMsMax = 2_500;
/** Operations waiting for a lane. */
const queuedMax = 256;
/** Cells whose call is still out although their request was answered; at the bound the token counts as stuck. */
const stuckCellsMax = 64;
/** How often deadlines and overdue calls are looked for while anything is out. */
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
  /** Sessions (lanes) of each worker at most, 1 to 256; `lanes.ts` says how many of them work. */
  readonly sessionsMax: number;
  /** What every witness is made of: its plaintext and its AAD. */
  readonly witness: { readonly plaintext: Uint8Array; readonly gcmAad: Uint8Array };
  readonly clock: Clock;
  /**
   * Called once when the login is gone, the token removed or the module finalised, with the `CKR_…` that said so.
   * From then on operations fail with `token-unavailable` until the owner has logged in again and called `resume`.
   */
  readonly onSessionsLost: (rv: string) => void;
  /** Called whenever a session met an IV that must not be used, but in a trial. The owner uses the token no more. */
  readonly onUnsafeIv: () => void;
}

export interface CryptoPoolStats {
  /** Sessions that are known to work or have worked: the first of each worker, and those that did something. */
  readonly sessions: number;
  readonly cells: number;
  /** Cells with an operation or an abandoned call in them. */
  readonly cellsInUse: number;
  /** Cells whose request was answered at its deadline while the call is still out. */
  readonly stuckCells: number;
  /** Operations waiting for a session. */
  readonly queued: number;
  /** Operations being carried out. */
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
  /** What was called since the pool was opened. */
  calls(): CallCounts;
  /** The key whose witness tells an ill token from a bad ciphertext when the caller's key has no witness. */
  setCanary(key: KeyObject | null): void;
  /**
   * How the token wants AES-GCM from the next operation on, and every code by which it refuses a bad ciphertext, where
   * that is known. Until it is told: as callers give the IV.
   */
  setProfile(profile: { readonly form: GcmForm; readonly badTagCodes: ReadonlySet<string> | null }): void;
  /** One case of a probe, in this form: no witness, no canary, no second try; `failed` is what the token said. */
  tryEncrypt(
    form: GcmForm,
    operation: EncryptOperation,
    deadlineMs: number,
  ): Promise<Result<EncryptResult, HsmFailure>>;
  tryDecrypt(
    form: GcmForm,
    operation: DecryptOperation,
    deadlineMs: number,
  ): Promise<Result<Uint8Array, HsmFailure>>;
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
  const pool = new QueuedCryptoPool(options);
  const failure = await pool.opened();
  if (failure === null) return ok(pool);
  await pool.close();
  return err(failure);
}

/** An operation from its arrival until its cell is free again. */
interface Pending {
  readonly cell: CellRef;
  readonly deadlineMs: number;
  /** `EncryptOperation.begun`; `null` for what encrypts nothing that counts. */
  readonly begun: ((encryptions: number) => void) | null;
  /** Copies the result out of the cell and answers; `null`: answer with `failure`. */
  readonly settle: (failure: HsmFailure | null) => void;
  /** Sweeps that found its call out; from the second on it is overdue. */
  sweepsRunning: number;
  /** Answered, while native code still has the cell. */
  abandoned: boolean;
}

/**
 * This thread fills a cell and submits it to the native operation queue; a lane takes it, and its completion comes back
 * through `#collect`.
 */
class QueuedCryptoPool implements CryptoPool {
  readonly #options: CryptoPoolOptions;
  readonly #binding: NativeBinding = loadNativeBinding();
  readonly #cells = new Cells();
  readonly #submitted = new Uint32Array(2 * cellsMax);
  readonly #done = new Uint32Array(2 * cellsMax);
  readonly #callNumbers = callNumbers(this.#binding);
  readonly #queue: Pkcs11OperationQueue;
  readonly #shifts: WorkerShifts;
  readonly #lanesMax: number;

  /** Replaced as a whole: it goes into every cell. */
  #context: CellContext = plainContext;
  /** By cell number, in the order of their arrival. */
  readonly #pending = new Map<number, Pending>();
  /** Those that arrived in this turn of the loop, and lie in their cells only. */
  #arrived: Pending[] = [];
  #overdue = 0;
  #stuck = 0;
  #lastOperationMs = 0;
  #sweepTimer: NodeJS.Timeout | null = null;
  /** It was armed while only abandoned calls were out. */
  #isSweepSlow = false;
  /** The `CKR_…` by which the login went, until it is back. */
  #lostRv: string | null = null;
  #closed = false;
  #onIdle: (() => void) | null = null;

  #operations = 0;
  #roundTrips = 0;
  #operationMicros = 0;
  #typicalMicros = 0;

  constructor(options: CryptoPoolOptions) {
    const { workers, modulePath, initArgs, slotId, sessionsMax, witness } = options;
    this.#options = options;
    this.#lanesMax = workers * sessionsMax;
    this.#queue = this.#binding.openPkcs11OperationQueue({
      submitted: this.#submitted,
      done: this.#done,
      completed: this.#collect,
    });
    const workerData = {
      memory: this.#cells.memory,
      queueId: this.#queue.id,
      modulePath,
      initArgs,
      slotId,
      sessionsMax,
      witnessPlaintext: witness.plaintext,
      witnessAad: witness.gcmAad,
    };
    this.#shifts = new WorkerShifts(workers, workerData, this.#shiftEnded);
    process.on('exit', this.#onExit);
  }

  /** Resolves when every worker has a session, or one has none. */
  async opened(): Promise<HsmFailure | null> {
    const outcome = await this.#shifts.opened(openMsMax);
    if (outcome === 'late') return failed('deadline', null, 'C_OpenSession');
    return outcome === 'ended' ? failed('failed') : this.#outcomeFailure(outcome);
  }

  encrypt(operation: EncryptOperation, deadlineMs: number): Promise<Result<EncryptResult, HsmFailure>> {
    return this.#encrypt(operation, this.#context, deadlineMs);
  }

  decrypt(operation: DecryptOperation, deadlineMs: number): Promise<Result<Uint8Array, HsmFailure>> {
    return this.#decrypt(operation, this.#context, deadlineMs);
  }

  tryEncrypt(
    form: GcmForm,
    operation: EncryptOperation,
    deadlineMs: number,
  ): Promise<Result<EncryptResult, HsmFailure>> {
    return this.#encrypt(withoutWitness(operation), trialContext(form), deadlineMs);
  }

  tryDecrypt(
    form: GcmForm,
    operation: DecryptOperation,
    deadlineMs: number,
  ): Promise<Result<Uint8Array, HsmFailure>> {
    return this.#decrypt(withoutWitness(operation), trialContext(form), deadlineMs);
  }

  #encrypt(
    operation: EncryptOperation,
    context: CellContext,
    deadlineMs: number,
  ): Promise<Result<EncryptResult, HsmFailure>> {
    const begun = operation.begun ?? null;
    const refusal = this.#refusal(operation, deadlineMs);
    const cell = refusal === null ? this.#cells.putEncrypt(operation, context) : null;
    if (cell === null) {
      begun?.(0);
      return Promise.resolve(err(refusal ?? failed('overloaded')));
    }
    return this.#submit(cell, deadlineMs, begun, () => this.#cells.encryptResult(cell));
  }

  #decrypt(
    operation: DecryptOperation,
    context: CellContext,
    deadlineMs: number,
  ): Promise<Result<Uint8Array, HsmFailure>> {
    // X-D2: decoded values of a wrong length are the caller's; no token need be asked.
    if (!isSealWellFormed(operation)) return Promise.resolve(err(failed('bad-ciphertext')));
    const refusal = this.#refusal(operation, deadlineMs);
    if (refusal !== null) return Promise.resolve(err(refusal));
    const cell = this.#cells.putDecrypt(operation, context);
    if (cell === null) return Promise.resolve(err(failed('overloaded')));
    return this.#submit(cell, deadlineMs, null, () => this.#cells.plaintext(cell));
  }

  setCanary(key: KeyObject | null): void {
    this.#context = { ...this.#context, canary: key };
  }

  setProfile({
    form,
    badTagCodes,
  }: {
    readonly form: GcmForm;
    readonly badTagCodes: ReadonlySet<string> | null;
  }): void {
    this.#context = { ...this.#context, formFlags: formFlags(form, badTagCodes) };
  }

  async resume(): Promise<Result<void, HsmFailure>> {
    if (this.#closed) return err(failed('token-unavailable'));
    this.#cells.beginLogin();
    const cell = this.#cells.putProbe();
    if (cell === null) return err(failed('overloaded'));
    // Still lost while the probe is out, so that its failure is not reported as another loss.
    this.#lostRv ??= 'CKR_USER_NOT_LOGGED_IN';
    const deadlineMs = this.#options.clock.monotonicMs() + resumeMsMax;
    const probed = await this.#submit(cell, deadlineMs, null, () => undefined);
    if (probed.ok) this.#lostRv = null;
    return probed;
  }

  stats(): CryptoPoolStats {
    const queued = this.#queue.waiting();
    return {
      sessions: this.#queue.provenLanes(),
      cells: cellsMax,
      cellsInUse: cellsMax - this.#cells.free,
      stuckCells: this.#stuck,
      queued,
      inFlight: Math.max(0, this.#outstanding - queued),
      operations: this.#operations,
      roundTrips: this.#roundTrips,
      operationMicros: Math.round(this.#operationMicros),
    };
  }

  calls(): CallCounts {
    this.#queue.readCalls(this.#callNumbers);
    return callCounts(this.#binding, this.#callNumbers, {
      operations: this.#operations,
      roundTrips: this.#roundTrips,
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#failWaiting(failed('token-unavailable'));
    if (this.#outstanding > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, closeMsMax);
        this.#onIdle = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    // So that the workers come back from their shifts.
    this.#queue.stop();
    const ended = await this.#shifts.close(closeMsMax);
    this.#queue.close();
    for (const pending of this.#pending.values()) {
      // Nobody will hear of its call any more.
      pending.begun?.(encryptionsPerOperationMax);
      if (!pending.abandoned) pending.settle(failed('token-unavailable'));
    }
    this.#pending.clear();
    if (this.#sweepTimer !== null) clearTimeout(this.#sweepTimer);
    this.#sweepTimer = null;
    // Otherwise it is still wanted, for the worker that is inside a call.
    if (ended) process.off('exit', this.#onExit);
  }

  /** Operations that wait or are being carried out, abandoned ones apart. */
  get #outstanding(): number {
    return this.#pending.size - this.#stuck;
  }

  get #lanes(): number {
    return lanesWanted({
      outstanding: this.#outstanding,
      overdue: this.#overdue,
      abandoned: this.#stuck,
      typicalMicros: this.#typicalMicros,
      lanesMin: this.#options.workers,
      lanesMax: this.#lanesMax,
    });
  }

  readonly #onExit = (code: number): void => {
    // Node joins its workers before it exits: those on shift come back at once, and one inside a call that never
    // returns would hold the process for ever.
    this.#queue.stop();
    this.#binding.exitDespiteHungCalls(code, exitMsMax);
  };

  /** Why an operation gets no cell at all: what cannot be done in time is refused at once. */
  #refusal(operation: EncryptOperation | DecryptOperation, deadlineMs: number): HsmFailure | null {
    if (!isKeyWellFormed(operation.key)) return failed('failed');
    if (!fitsCell(operation)) return failed('too-large');
    if (this.#closed) return failed('token-unavailable');
    if (this.#lostRv !== null) return failed('token-unavailable', this.#lostRv);
    const nowMs = this.#options.clock.monotonicMs();
    this.#lastOperationMs = nowMs;
    if (nowMs >= deadlineMs) return failed('deadline');
    if (this.#stuck >= stuckCellsMax || this.#stuck >= this.#lanesMax) return failed('token-unavailable');
    const ahead = this.#outstanding;
    // With nothing ahead there is always one that measures the token anew.
    if (ahead === 0) return null;
    const lanes = this.#lanesAtHand(ahead);
    if (ahead - lanes >= queuedMax) return failed('overloaded');
    // Its own time included: an answer that comes too late is work for nothing.
    const doneInMs = (Math.ceil((ahead + 1) / lanes) * this.#operationMicros) / 1_000;
    return nowMs + doneInMs > deadlineMs ? failed('overloaded') : null;
  }

  /** Lanes that share the operations ahead, as far as is known. */
  #lanesAtHand(ahead: number): number {
    if (isQuick(this.#typicalMicros)) return this.#options.workers;
    const open = this.#queue.lanes();
    // There is one for each operation already, unless the token refused a session.
    const lanes = open < Math.min(this.#lanesMax, ahead) ? open : this.#lanesMax;
    return Math.max(1, lanes - this.#stuck);
  }

  #submit<T>(
    cell: CellRef,
    deadlineMs: number,
    begun: Pending['begun'],
    read: () => T,
  ): Promise<Result<T, HsmFailure>> {
    return new Promise((resolve) => {
      const pending: Pending = {
        cell,
        deadlineMs,
        begun,
        settle: (failure) => resolve(failure === null ? ok(read()) : err(failure)),
        sweepsRunning: 0,
        abandoned: false,
      };
      this.#pending.set(cell.index, pending);
      this.#armSweep();
      this.#arrived.push(pending);
      // After the poll phase: what arrived in this turn of the loop wakes a lane once, and nothing waits longer for it.
      if (this.#arrived.length === 1) setImmediate(this.#submitArrived);
    });
  }

  readonly #submitArrived = (): void => {
    const arrived = this.#arrived;
    this.#arrived = [];
    // Some may have been given up in the same turn.
    const wanted = arrived.filter((pending) => this.#pending.get(pending.cell.index) === pending);
    let at = 0;
    for (const { cell } of wanted) {
      this.#submitted[at++] = cell.index;
      this.#submitted[at++] = cell.generation;
    }
    const accepted = this.#queue.submit(wanted.length, this.#lanes);
    for (const pending of wanted.slice(accepted)) this.#withdraw(pending, failed('overloaded'));
    if (this.#outstanding > 0 && !this.#closed) this.#shifts.call();
  };

  readonly #shiftEnded = (end: ShiftEnd): void => {
    if (this.#closed) return;
    if (end.kind === 'unopened') {
      // Others may have sessions. Otherwise the next operation lets it try again.
      if (this.#queue.lanes() > 0) return;
      const failure = this.#outcomeFailure(end.outcome) ?? failed('failed');
      this.#failWaiting(failure);
      if (failure.rv !== null) this.#lose(failure.rv);
      return;
    }
    // Nothing but work keeps the process alive. What was queued with a worker that ended is for the next.
    const idleMs = this.#options.clock.monotonicMs() - this.#lastOperationMs;
    if (this.#outstanding > 0 || idleMs < idleMsMax) this.#shifts.call();
  };

  /** Consumes all completions that there are. */
  readonly #collect = (): void => {
    for (let count = this.#queue.collect(); count > 0; count = this.#queue.collect()) {
      for (let at = 0; at < 2 * count; at += 2) {
        const pending = this.#pending.get(this.#done[at] ?? 0);
        if (pending !== undefined && pending.cell.generation === this.#done[at + 1]) this.#consume(pending);
      }
    }
    if (this.#outstanding === 0) this.#onIdle?.();
  };

  #consume(pending: Pending): void {
    const { cell } = pending;
    const outcome = this.#cells.outcome(cell);
    this.#measure(outcome);
    pending.begun?.(outcome.encryptions);
    const failure = outcome.result === 'ok' ? null : this.#cellFailure(outcome);
    this.#finish(pending, failure);
    this.#cells.release(cell);
    if (outcome.loginLost && failure?.rv) this.#lose(failure.rv);
    if (outcome.result === 'unsafe-iv' && !outcome.isTrial && !this.#closed) this.#options.onUnsafeIv();
  }

  #finish(pending: Pending, failure: HsmFailure | null): void {
    this.#pending.delete(pending.cell.index);
    if (pending.abandoned) {
      // Too late: nobody sees it, and the cell is wiped like any other.
      this.#stuck -= 1;
    } else {
      if (isOverdue(pending)) this.#overdue -= 1;
      pending.settle(failure);
    }
  }

  /** Ends an operation that no lane has taken. @returns whether that is so. */
  #withdraw(pending: Pending, failure: HsmFailure): boolean {
    if (!this.#cells.withdraw(pending.cell)) return false;
    this.#queue.forget(pending.cell.index, pending.cell.generation);
    pending.begun?.(0);
    this.#finish(pending, failure);
    return true;
  }

  /** Answers a request whose call is out. */
  #abandon(pending: Pending): void {
    if (isOverdue(pending)) this.#overdue -= 1;
    pending.abandoned = true;
    this.#stuck += 1;
    pending.settle(failed('deadline'));
  }

  #measure(outcome: CellOutcome): void {
    this.#operations += 1;
    this.#roundTrips += outcome.roundTrips;
    // What fails at once says nothing of how long the others take.
    if (outcome.result === 'ok') this.#typicalMicros = typicalMicros(this.#typicalMicros, outcome.micros);
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
    for (const pending of this.#pending.values()) {
      if (!pending.abandoned) this.#withdraw(pending, failure);
    }
  }

  #armSweep(): void {
    const onlyStuck = this.#outstanding === 0;
    if (this.#sweepTimer !== null) {
      if (onlyStuck || !this.#isSweepSlow) return;
      // An operation has come meanwhile, whose deadline and lanes want to be looked after.
      clearTimeout(this.#sweepTimer);
    }
    this.#isSweepSlow = onlyStuck;
    this.#sweepTimer = setTimeout(this.#sweep, onlyStuck ? stuckSweepMs : sweepMs);
    // An abandoned call is nothing to stay alive for.
    if (onlyStuck) this.#sweepTimer.unref();
  }

  readonly #sweep = (): void => {
    this.#sweepTimer = null;
    // Timers come before the completions that lie ready in the same turn of the loop.
    this.#collect();
    const nowMs = this.#options.clock.monotonicMs();
    for (const pending of this.#pending.values()) {
      if (pending.abandoned) continue;
      if (nowMs >= pending.deadlineMs) {
        if (!this.#withdraw(pending, failed('deadline'))) this.#abandon(pending);
      } else if (this.#cells.isRunning(pending.cell)) {
        pending.sweepsRunning += 1;
        if (pending.sweepsRunning === overdueSweeps) this.#overdue += 1;
      }
    }
    if (this.#outstanding > 0) this.#queue.allowLanes(this.#lanes);
    else this.#onIdle?.();
    if (this.#pending.size > 0) this.#armSweep();
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

/** A trial knows nothing but the key: its witness was made in a form that may be another. */
const withoutWitness = <Operation extends { readonly key: KeyObject }>(operation: Operation): Operation => ({
  ...operation,
  key: { objectId: operation.key.objectId, witness: null },
});

const trialContext = (form: GcmForm): CellContext => ({
  canary: null,
  formFlags: formFlags(form, null),
  isTrial: true,
});

/** The call was out at the sweep before as well. */
const overdueSweeps = 2;
const isOverdue = (pending: Pending): boolean => pending.sweepsRunning >= overdueSweeps;

const failed = (
  kind: HsmFailure['kind'],
  rv: string | null = null,
  functionName: string | null = null,
): HsmFailure => ({ kind, rv, functionName });
