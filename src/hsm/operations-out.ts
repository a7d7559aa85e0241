import { type Arrival, ArrivalList } from '../base/arrival-list.js';
import type { Clock } from '../base/clock.js';
import type { NativeBinding, Pkcs11OperationQueue } from '../base/native.js';
import { err, ok, type Result } from '../base/result.js';
import { type CellOutcome, type CellRef, type Cells, cellsMax, encryptionsPerOperationMax } from './cells.js';
import type { CiphertextDoubt } from './ciphertext-doubt.js';
import { failed } from './hsm-failure.js';
import { lanesWanted } from './lanes.js';
import { hasRoom, isTooLate } from './queue-room.js';
import type { ServiceTime } from './service-time.js';
import type { HsmFailure } from './types.js';

/** How often deadlines and overdue calls are looked for while anything is out. */
const sweepMs = 5;
/** The same while only abandoned calls are out. */
const stuckSweepMs = 50;

export interface OperationsOutOptions {
  readonly binding: NativeBinding;
  readonly cells: Cells;
  readonly serviceTime: ServiceTime;
  readonly doubt: CiphertextDoubt;
  readonly clock: Clock;
  /** Lanes that a quick token gets, and those of a slow one at most. */
  readonly lanesMin: number;
  readonly lanesMax: number;
  /** Operations were submitted: lanes are wanted for them. */
  readonly onSubmitted: () => void;
  /** After an operation has been answered, also when nobody waited for it any more; `null`: it succeeded. */
  readonly onOutcome: (outcome: CellOutcome, failure: HsmFailure | null) => void;
}

/** An operation from its arrival until its cell is free again. */
interface Pending extends Arrival<Pending> {
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
 * The operations of a pool that have a cell: this thread submits it to the native operation queue; a lane takes it, and
 * its completion comes back through `#collect`. Each is answered by its deadline, whatever becomes of its call.
 */
export class OperationsOut {
  readonly queue: Pkcs11OperationQueue;
  readonly #options: OperationsOutOptions;
  readonly #cells: Cells;
  readonly #submitted = new Uint32Array(2 * cellsMax);
  readonly #done = new Uint32Array(2 * cellsMax);

  readonly #pending = new ArrivalList<Pending>();
  /** The same by the numbers of their cells. */
  readonly #pendingIn = new Array<Pending | null>(cellsMax).fill(null);
  /** Those that arrived in this turn of the loop, and lie in their cells only. */
  #arrived: Pending[] = [];
  #overdue = 0;
  #stuck = 0;
  #sweepTimer: NodeJS.Timeout | null = null;
  /** It was armed while only abandoned calls were out. */
  #isSweepSlow = false;
  #onIdle: (() => void) | null = null;
  #keepsLanes = true;

  constructor(options: OperationsOutOptions) {
    this.#options = options;
    this.#cells = options.cells;
    this.queue = options.binding.openPkcs11OperationQueue({
      submitted: this.#submitted,
      done: this.#done,
      completed: this.#collect,
    });
  }

  /** Operations that wait or are being carried out, abandoned ones apart. */
  get outstanding(): number {
    return this.#pending.size - this.#stuck;
  }

  /** Cells whose request was answered at its deadline while the call is still out. */
  get stuck(): number {
    return this.#stuck;
  }

  /** Whether one more can be done in so many milliseconds. */
  hasRoom(msLeft: number): boolean {
    const ahead = this.outstanding;
    // Most often so, and the lanes are the queue's to tell: a native call, under its lock.
    if (ahead === 0) return true;
    const { operationMicros } = this.#options.serviceTime;
    return hasRoom({ ahead, lanes: this.#lanesAtHand, operationMicros, msLeft });
  }

  submit<T>(
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
        before: null,
        after: null,
      };
      this.#pending.add(pending);
      this.#pendingIn[cell.index] = pending;
      this.#armSweep();
      this.#arrived.push(pending);
      // After the poll phase: what arrived in this turn of the loop wakes a lane once, and nothing waits longer for it.
      if (this.#arrived.length === 1) setImmediate(this.#submitArrived);
    });
  }

  /** Fails what no lane has taken. */
  failWaiting(failure: HsmFailure): void {
    this.#pending.each((pending) => {
      if (!pending.abandoned) this.#withdraw(pending, failure);
    });
  }

  /** Resolves when nothing is out but abandoned calls, or after `msMax`. */
  idle(msMax: number): Promise<void> {
    if (this.outstanding === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, msMax);
      this.#onIdle = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Fails everything that is left, when nothing will complete any more. */
  end(failure: HsmFailure): void {
    this.#pending.each((pending) => {
      // Nobody will hear of its call any more.
      pending.begun?.(encryptionsPerOperationMax);
      if (!pending.abandoned) pending.settle(failure);
      this.#remove(pending);
    });
    if (this.#sweepTimer !== null) clearTimeout(this.#sweepTimer);
    this.#sweepTimer = null;
  }

  get #lanes(): number {
    return lanesWanted({
      outstanding: this.outstanding,
      overdue: this.#overdue,
      abandoned: this.#stuck,
      typicalMicros: this.#options.serviceTime.typicalMicros,
      lanesMin: this.#options.lanesMin,
      lanesMax: this.#options.lanesMax,
    });
  }

  /** Lanes that share what is out, as far as is known. */
  get #lanesAtHand(): number {
    const { serviceTime, lanesMax } = this.#options;
    const open = this.queue.lanes();
    // A slow token has one for each operation that was offered to it, unless it refused a session. What arrived in this turn
    // was not yet: after a quiet time a burst finds one session, and gets the others.
    const offered = this.outstanding - this.#arrived.length;
    const wanted = serviceTime.isQuick ? this.#lanes : lanesMax;
    const lanes = open < Math.min(wanted, offered + this.#stuck) ? open : wanted;
    return Math.max(1, lanes - this.#stuck);
  }

  readonly #submitArrived = (): void => {
    const arrived = this.#arrived;
    this.#arrived = [];
    // Some may have been given up in the same turn.
    const wanted = arrived.filter((pending) => this.#pendingIn[pending.cell.index] === pending);
    let at = 0;
    for (const { cell } of wanted) {
      this.#submitted[at++] = cell.index;
      this.#submitted[at++] = cell.generation;
    }
    const accepted = this.queue.submit(wanted.length, this.#lanes);
    for (const pending of wanted.slice(accepted)) this.#withdraw(pending, failed('overloaded'));
    if (this.outstanding > 0) this.#options.onSubmitted();
  };

  /** Consumes all completions that there are. */
  readonly #collect = (): void => {
    for (let count = this.queue.collect(); count > 0; count = this.queue.collect()) {
      for (let at = 0; at < 2 * count; at += 2) {
        const pending = this.#pendingIn[this.#done[at] ?? 0] ?? null;
        if (pending !== null && pending.cell.generation === this.#done[at + 1]) this.#consume(pending);
      }
    }
    if (this.outstanding === 0) this.#onIdle?.();
  };

  #consume(pending: Pending): void {
    const { cell } = pending;
    const outcome = this.#cells.outcome(cell);
    this.#options.serviceTime.measured(outcome);
    if (outcome.spurious) this.#options.doubt.spurious(this.#options.clock.monotonicMs());
    pending.begun?.(outcome.encryptions);
    const failure = outcome.result === 'ok' ? null : this.#cellFailure(outcome);
    this.#finish(pending, failure);
    this.#cells.release(cell);
    this.#options.onOutcome(outcome, failure);
  }

  #remove(pending: Pending): void {
    this.#pending.remove(pending);
    this.#pendingIn[pending.cell.index] = null;
  }

  #finish(pending: Pending, failure: HsmFailure | null): void {
    this.#remove(pending);
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
    this.queue.forget(pending.cell.index, pending.cell.generation);
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

  #armSweep(): void {
    const onlyStuck = this.outstanding === 0;
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
    const { operationMicros } = this.#options.serviceTime;
    const lanes = this.#lanesAtHand;
    let ahead = 0;
    this.#pending.each((pending) => {
      if (pending.abandoned) return;
      const msLeft = pending.deadlineMs - nowMs;
      if (msLeft <= 0) {
        if (!this.#withdraw(pending, failed('deadline'))) this.#abandon(pending);
        return;
      }
      if (this.#cells.isRunning(pending.cell)) {
        pending.sweepsRunning += 1;
        if (pending.sweepsRunning === overdueSweeps) this.#overdue += 1;
      } else if (
        isTooLate({ ahead, lanes, operationMicros, msLeft }) &&
        this.#withdraw(pending, failed('overloaded'))
      ) {
        // The token has become slower since it was let in.
        return;
      }
      ahead += 1;
    });
    if (this.outstanding > 0) this.queue.allowLanes(this.#lanes);
    else this.#onIdle?.();
    this.#keepLanes(!this.#options.serviceTime.isQuick);
    if (this.#pending.size > 0) this.#armSweep();
  };

  /** Opening a session takes some calls: a burst on a slow token would have to wait for them after each quiet time. */
  #keepLanes(keep: boolean): void {
    if (keep === this.#keepsLanes) return;
    this.#keepsLanes = keep;
    this.queue.keepLanes(keep ? 1 : 0);
  }

  #cellFailure(outcome: CellOutcome): HsmFailure {
    const { binding, clock, doubt } = this.#options;
    const isDoubted =
      outcome.doubted ||
      (outcome.result === 'bad-ciphertext' && !doubt.isEnough(outcome.refusals, clock.monotonicMs()));
    const failure = failed(
      outcome.result === 'ok' || isDoubted ? 'failed' : outcome.result,
      outcome.rv === 0 ? null : binding.pkcs11RvName(outcome.rv),
      binding.pkcs11FunctionName(outcome.functionIndex),
    );
    return isDoubted ? { ...failure, isDoubted } : failure;
  }
}

/** The call was out at the sweep before as well. */
const overdueSweeps = 2;
const isOverdue = (pending: Pending): boolean => pending.sweepsRunning >= overdueSweeps;
