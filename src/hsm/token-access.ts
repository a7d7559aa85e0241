import { err, type Result } from '../base/result.js';
import { addCalls, type CallCounts, noCalls } from './call-counts.js';
import { type CryptoPool, openCryptoPool } from './crypto-pool.js';
import { Management } from './management.js';
import type { DiscoveredToken, ManagementResult, ManagementWorkerData } from './management-protocol.js';
import { loginInOrder } from './ordered-login.js';
import { readPin } from './pin.js';
import { PinRefusals, tokenIdentity } from './pin-refusals.js';
import type { TokenOptions } from './token.js';
import type { HsmFailure } from './types.js';
import { witnessAad, witnessPlaintext } from './witness.js';

export type Attempt =
  | { readonly ok: true }
  /** `anew`: the module is to be closed and opened again before the next attempt. */
  | { readonly ok: false; readonly reason: string; readonly anew: boolean };

/** What the owner of an access is told. */
export interface TokenAccessEvents {
  /** The token was found, and let us in; awaited before anything is done with it. */
  readonly onLoggedIn: (token: DiscoveredToken) => Promise<void>;
  readonly onPoolOpened: (pool: CryptoPool) => void;
  readonly onSessionsLost: (rv: string) => void;
  readonly onUnsafeIv: () => void;
}

/** The way to a token: its module, its slot, the login and the pool of sessions, as far as they are open. */
export class TokenAccess {
  readonly #options: TokenOptions;
  readonly #events: TokenAccessEvents;
  readonly #refusals: PinRefusals;
  #management: Management | null = null;
  #discovered: DiscoveredToken | null = null;
  #pool: CryptoPool | null = null;
  /** Of pools that are closed. */
  #earlierCalls: CallCounts = noCalls;
  #finalizeHangs = false;

  constructor(options: TokenOptions, events: TokenAccessEvents) {
    this.#options = options;
    this.#events = events;
    this.#refusals = new PinRefusals({ ...options, directory: options.dataDir });
  }

  get discovered(): DiscoveredToken | null {
    return this.#discovered;
  }

  get pool(): CryptoPool | null {
    return this.#pool;
  }

  /** The management call that has not returned from the HSM; `null` when none is overdue. */
  get stuck(): string | null {
    return this.#management?.stuck ?? null;
  }

  /** The module cannot be opened: it has not come back from C_Finalize. */
  get finalizeHangs(): boolean {
    return this.#finalizeHangs;
  }

  /** The PKCS#11 calls of its sessions for cryptography. */
  calls(): CallCounts {
    return this.#pool === null ? this.#earlierCalls : addCalls(this.#earlierCalls, this.#pool.calls());
  }

  /** One attempt to find the token, log in and open its sessions. */
  async reach(forgive: boolean): Promise<Attempt> {
    const { uri, initArgs, timers, credentialsDirectory, openManagement } = this.#options;
    const failed = (reason: string, anew: boolean): Attempt => ({ ok: false, reason, anew });
    const module: ManagementWorkerData = { modulePath: uri.modulePath, initArgs };
    this.#management ??= openManagement?.(module) ?? new Management({ ...module, timers });
    const management = this.#management;

    const discovered = await management.discover(uri.token);
    this.#finalizeHangs = !discovered.ok && discovered.error.functionName === 'C_Finalize';
    if (!discovered.ok) return failed(discovered.error.message, true);
    const sameSlot = this.#discovered?.slotId === discovered.value.slotId;
    this.#discovered = discovered.value;

    const pin = await readPin(uri.pinSource, credentialsDirectory);
    if (!pin.ok) return failed(pin.error, false);
    const login = await loginInOrder({
      management,
      token: discovered.value,
      pin: pin.value,
      refusals: this.#refusals,
      forgive,
    });
    // Anew even when the PIN was refused: SoftHSM2 learns only so that it was set anew.
    if (login.kind !== 'logged-in') return failed(login.reason, true);

    await this.#events.onLoggedIn(discovered.value);
    const pool = await this.#openOrResume(discovered.value.slotId, sameSlot);
    return pool.ok ? { ok: true } : failed(`its sessions cannot be opened: ${failureText(pool.error)}`, true);
  }

  /** This process needs no login; another of this host may have been refused, and will be asked next. */
  async forgetRefusals(): Promise<void> {
    const discovered = this.#discovered;
    if (discovered === null) return;
    const forgotten = await this.#refusals.exclusively((record) => record.forget(tokenIdentity(discovered)));
    const written = forgotten.ok ? forgotten.value : forgotten;
    if (!written.ok) this.#options.logger.warn('refused PINs are not forgotten', { reason: written.error });
  }

  async manage<T>(
    run: (management: Management, slotId: bigint) => Promise<ManagementResult<T>>,
  ): Promise<ManagementResult<T> | null> {
    if (this.#management === null || this.#discovered === null) return null;
    return run(this.#management, this.#discovered.slotId);
  }

  /**
   * Closes the sessions and gives the module back. A call that never returned stays; its worker thread is not followed
   * by another, unless this is the `end`.
   */
  async closeModule(end: boolean): Promise<void> {
    await this.#closePool();
    const management = this.#management;
    if (management === null || (management.stuck !== null && !end)) return;
    this.#management = null;
    await management.close();
  }

  async #openOrResume(slotId: bigint, sameSlot: boolean): Promise<Result<unknown, HsmFailure>> {
    if (this.#pool !== null) {
      if (sameSlot) return this.#pool.resume();
      // The token came back in another slot.
      await this.#closePool();
    }
    const { uri, initArgs, workers, sessionsMax, clock } = this.#options;
    const { onSessionsLost, onUnsafeIv, onPoolOpened } = this.#events;
    const pool = await (this.#options.openPool ?? openCryptoPool)({
      modulePath: uri.modulePath,
      initArgs,
      slotId,
      workers,
      sessionsMax,
      witness: { plaintext: witnessPlaintext, gcmAad: witnessAad },
      clock,
      onSessionsLost,
      onUnsafeIv,
    });
    if (!pool.ok) return err(pool.error);
    this.#pool = pool.value;
    onPoolOpened(pool.value);
    return pool;
  }

  async #closePool(): Promise<void> {
    const pool = this.#pool;
    if (pool === null) return;
    this.#pool = null;
    // Before it is closed, so that the sum never falls; what closing calls is in nobody's way.
    this.#earlierCalls = addCalls(this.#earlierCalls, pool.calls());
    await pool.close();
  }
}

function failureText(failure: HsmFailure): string {
  return failure.rv === null
    ? failure.kind
    : `${failure.functionName ?? failure.kind} returned ${failure.rv}`;
}
