import type { Clock } from '../base/clock.js';
import { loadNativeBinding, type NativeBinding, type Pkcs11Outcome } from '../base/native.js';
import { err, ok, type Result } from '../base/result.js';
import { type CallCounts, callCounts, callNumbers } from './call-counts.js';
import {
  type CellContext,
  Cells,
  cellsMax,
  fitsCell,
  isKeyWellFormed,
  isSealWellFormed,
  plainContext,
} from './cells.js';
import { CiphertextDoubt } from './ciphertext-doubt.js';
import { failed } from './hsm-failure.js';
import { OperationsOut } from './operations-out.js';
import { formFlags, type GcmForm } from './profile/gcm-form.js';
import { ServiceTime } from './service-time.js';
import { trialContext, withoutWitness } from './trial-operation.js';
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
/** Cells whose call is still out although their request was answered; at the bound the token counts as stuck. */
const stuckCellsMax = 64;
const openMsMax = 15_000;
const resumeMsMax = 5_000;
/** For operations that are out when the pool is closed, then for the workers to end. */
const closeMsMax = 2_000;
/**
 * So long a session that a quick token does not need is kept: what a slow hour has opened is not held for ever, as others may
 * share the token's. A slow token's stay: the next burst would have to wait for them.
 */
const sessionIdleMsDefault = 300_000;
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
  /** After which a quick token's session that nothing came for is closed, each worker's first apart; 300,000 when not given. */
  readonly sessionIdleMs?: number;
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
  /** Open sessions that are known to work: the first of each worker, and those that did something. */
  readonly sessions: number;
  readonly cells: number;
  /** Cells with an operation or an abandoned call in them. */
  readonly cellsInUse: number;
  /** Cells whose request was answered at its deadline while the call is still out. */
  readonly stuckCells: number;
  /** So many of them that no operation is taken any more, whatever sessions are open. */
  readonly isStuck: boolean;
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

/** Fills cells with operations, and knows when none of them can be done: lost sessions, want of room, a closed pool. */
class QueuedCryptoPool implements CryptoPool {
  readonly #options: CryptoPoolOptions;
  readonly #binding: NativeBinding = loadNativeBinding();
  readonly #cells = new Cells();
  readonly #callNumbers = callNumbers(this.#binding);
  readonly #serviceTime = new ServiceTime();
  readonly #doubt: CiphertextDoubt;
  readonly #out: OperationsOut;
  readonly #shifts: WorkerShifts;
  readonly #lanesMax: number;

  /** Replaced as a whole: it goes into every cell. */
  #context: CellContext = plainContext;
  #lastOperationMs = 0;
  /** The `CKR_…` by which the login went, until it is back. */
  #lostRv: string | null = null;
  #closed = false;

  constructor(options: CryptoPoolOptions) {
    const { workers, modulePath, initArgs, slotId, sessionsMax, witness, clock } = options;
    this.#options = options;
    this.#lanesMax = workers * sessionsMax;
    this.#doubt = new CiphertextDoubt(this.#binding.monotonicMicros() - 1_000 * clock.monotonicMs());
    this.#out = new OperationsOut({
      binding: this.#binding,
      cells: this.#cells,
      serviceTime: this.#serviceTime,
      doubt: this.#doubt,
      clock,
      lanesMin: workers,
      lanesMax: this.#lanesMax,
      onSubmitted: () => {
        if (!this.#closed) this.#shifts.call();
      },
      onOutcome: (outcome, failure) => {
        if (outcome.loginLost && failure?.rv) this.#lose(failure.rv);
        if (outcome.result === 'unsafe-iv' && !outcome.isTrial && !this.#closed) options.onUnsafeIv();
      },
    });
    const workerData = {
      memory: this.#cells.memory,
      queueId: this.#out.queue.id,
      modulePath,
      initArgs,
      slotId,
      sessionsMax,
      sessionIdleMs: options.sessionIdleMs ?? sessionIdleMsDefault,
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
    return this.#out.submit(cell, deadlineMs, begun, () => this.#cells.encryptResult(cell));
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
    const nowMs = this.#options.clock.monotonicMs();
    const asked = this.#doubt.asked(nowMs, deadlineMs, operation.hasFailed === true);
    const cell = this.#cells.putDecrypt(operation, context, asked);
    if (cell === null) return Promise.resolve(err(failed('overloaded')));
    return this.#out.submit(cell, deadlineMs, null, () => this.#cells.plaintext(cell));
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
    const probed = await this.#out.submit(cell, deadlineMs, null, () => undefined);
    if (probed.ok) this.#lostRv = null;
    return probed;
  }

  stats(): CryptoPoolStats {
    const queued = this.#out.queue.waiting();
    return {
      sessions: this.#out.queue.provenLanes(),
      cells: cellsMax,
      cellsInUse: cellsMax - this.#cells.free,
      stuckCells: this.#out.stuck,
      isStuck: this.#isStuck,
      queued,
      inFlight: Math.max(0, this.#out.outstanding - queued),
      operations: this.#serviceTime.operations,
      roundTrips: this.#serviceTime.roundTrips,
      operationMicros: Math.round(this.#serviceTime.operationMicros),
    };
  }

  get #isStuck(): boolean {
    return this.#out.stuck >= Math.min(stuckCellsMax, this.#lanesMax);
  }

  calls(): CallCounts {
    this.#out.queue.readCalls(this.#callNumbers);
    const { operations, roundTrips } = this.#serviceTime;
    return callCounts(this.#binding, this.#callNumbers, { operations, roundTrips });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#out.failWaiting(failed('token-unavailable'));
    await this.#out.idle(closeMsMax);
    // So that the workers come back from their shifts.
    this.#out.queue.stop();
    const ended = await this.#shifts.close(closeMsMax);
    this.#out.queue.close();
    this.#out.end(failed('token-unavailable'));
    // Otherwise it is still wanted, for the worker that is inside a call.
    if (ended) process.off('exit', this.#onExit);
  }

  readonly #onExit = (code: number): void => {
    // Node joins its workers before it exits: those on shift come back at once, and one inside a call that never
    // returns would hold the process for ever.
    this.#out.queue.stop();
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
    if (this.#isStuck) return failed('token-unavailable');
    return this.#out.hasRoom(deadlineMs - nowMs) ? null : failed('overloaded');
  }

  readonly #shiftEnded = (end: ShiftEnd): void => {
    if (this.#closed) return;
    if (end.kind === 'unopened') {
      // Others may have sessions. Otherwise the next operation lets it try again.
      if (this.#out.queue.lanes() > 0) return;
      const failure = this.#outcomeFailure(end.outcome) ?? failed('failed');
      this.#out.failWaiting(failure);
      if (failure.rv !== null) this.#lose(failure.rv);
      return;
    }
    // Nothing but work keeps the process alive. What was queued with a worker that ended is for the next.
    const idleMs = this.#options.clock.monotonicMs() - this.#lastOperationMs;
    if (this.#out.outstanding > 0 || idleMs < idleMsMax) this.#shifts.call();
  };

  #lose(rv: string): void {
    if (this.#lostRv !== null || this.#closed) return;
    this.#lostRv = rv;
    this.#out.failWaiting(failed('token-unavailable', rv));
    this.#options.onSessionsLost(rv);
  }

  #outcomeFailure(outcome: Pkcs11Outcome): HsmFailure | null {
    if (outcome.rv === 'CKR_OK') return null;
    const kind = outcome.rv === null ? 'failed' : 'token-unavailable';
    return { kind, rv: outcome.rv, functionName: outcome.functionName };
  }
}
