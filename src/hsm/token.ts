import type { Clock } from '../base/clock.js';
import { errorText } from '../base/guards.js';
import type { Logger } from '../base/logger.js';
import type { RandomSource } from '../base/random.js';
import { err, ok, type Result } from '../base/result.js';
import type { Timers } from '../base/timers.js';
import { backOffMs } from './back-off.js';
import { addCalls, type CallCounts, noCalls } from './call-counts.js';
import { type CryptoPool, openCryptoPool } from './crypto-pool.js';
import { type Hang, HangWatch } from './hang-watch.js';
import { checkTestKey, type FailedCheck } from './health-check.js';
import { Management } from './management.js';
import type {
  DiscoveredToken,
  ManagementResult,
  ManagementWorkerData,
  ObjectDescription,
  ObjectListing,
} from './management-protocol.js';
import { loginInOrder } from './ordered-login.js';
import { readPin } from './pin.js';
import { PinRefusals, tokenIdentity } from './pin-refusals.js';
import { formatPkcs11Uri, type Pkcs11Uri } from './pkcs11-uri.js';
import { poolTrials } from './profile/pool-trials.js';
import { profilePins } from './profile/profile-pins.js';
import { type ProfileProbe, TokenProfile } from './profile/token-profile.js';
import { tokenRefusals } from './profile/token-refusals.js';
import type { ProfileName } from './profile/vendor-profiles.js';
import {
  freshHealth,
  type HealthRecord,
  type HealthVerdict,
  healthIntervalMs,
  judgeHealth,
  type TokenState,
  withCheck,
} from './token-health.js';
import type { HsmCrypto, HsmFailure, KeyObject } from './types.js';
import { witnessAad, witnessPlaintext } from './witness.js';

export interface TokenOptions {
  readonly uri: Pkcs11Uri;
  /** `LibraryParameters` for C_Initialize; empty for none. */
  readonly initArgs: string;
  /** What the operator states of it; `auto`: nothing. */
  readonly profile: ProfileName;
  /** Piscina workers, and sessions of each at most. */
  readonly workers: number;
  readonly sessionsMax: number;
  /** Where the record of refused PINs and the pinned profiles lie. Exists, and is this node's alone. */
  readonly dataDir: string;
  /** `$CREDENTIALS_DIRECTORY`, `null` when systemd gave none. */
  readonly credentialsDirectory: string | null;
  /** `NativeBinding.tryLockFile`. */
  readonly tryLockFile: (fd: number) => number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: RandomSource;
  readonly logger: Logger;
  /** Tests put others in their place. */
  readonly openPool?: typeof openCryptoPool;
  readonly openManagement?: (module: ManagementWorkerData) => Management;
}

/** What is known of a token. `ops/state-link.ts` sends it to administration. */
export interface TokenStatus {
  /** `pkcs11:` URI without the PIN. */
  readonly uri: string;
  readonly label: string | null;
  readonly serial: string | null;
  readonly manufacturer: string | null;
  readonly model: string | null;
  readonly firmware: string | null;
  readonly state: TokenState;
  /** Why it is not ACTIVE, for people; `null` when it is. Never holds the PIN. */
  readonly reason: string | null;
  readonly sessions: number;
  readonly stuckCells: number;
}

/** The management operations of a token that is logged in; `token-unavailable` with the reason otherwise. */
export interface TokenManagement {
  /** Its secret keys. */
  listObjects(): Promise<ManagementResult<ObjectListing>>;
  /** The one secret key with this CKA_ID (hexadecimal) or label; none or several are refused. */
  findObject(wanted: {
    readonly objectId: string | null;
    readonly label: string | null;
  }): Promise<ManagementResult<ObjectDescription>>;
  /** Makes an AES-256 key, sensitive and not extractable. `objectId`: 16 random bytes, hexadecimal. */
  generateKey(key: {
    readonly objectId: string;
    readonly label: string;
  }): Promise<ManagementResult<ObjectDescription>>;
}

/** One token in a serving process, from its URI to cryptography, kept up in the background. */
export interface Token {
  /** Fails with `token-unavailable` at once while the token is not usable. */
  readonly crypto: HsmCrypto;
  readonly management: TokenManagement;
  /** Settles when the first attempt to reach the token and log in has ended, either way. */
  readonly firstAttempt: Promise<void>;
  status(): TokenStatus;
  /** The PKCS#11 calls of its sessions for cryptography, since it was created. */
  calls(): CallCounts;
  /** The key for the background checks (X-H3) and for canaries; `null` while key state has none for this token. */
  setTestKey(key: KeyObject | null): void;
  /**
   * Encrypts and decrypts with the test key now, within a second. A token without sessions fails; of one without a
   * test key nothing can be said.
   */
  canary(): Promise<'passed' | 'failed' | 'no-test-key'>;
  /**
   * Runs the known cases on the test key, and compares with what is pinned of the token. `accept`: pins what it finds, and
   * uses the token again. The error is a sentence: the token is not logged in, or has no test key.
   */
  probe(accept: boolean): Promise<Result<ProfileProbe, string>>;
  /** Called after every change of state or reason. @returns ends it. */
  onChange(listener: (status: TokenStatus) => void): () => void;
  /**
   * Tries once more to reach the token and log in, as an operator asked; opens the module anew where the token is logged
   * in and ill. Does nothing with one that is well.
   *
   * @param forgive forget first that the token refused the PIN, also for the other processes of this host.
   */
  retryLogin(forgive: boolean): Promise<TokenStatus>;
  /**
   * Why only another process can use this token again, or administer it, as calls do not return; to be asked every
   * second or so.
   */
  beyondRecovery(): string | null;
  /** Lets what is out finish (bounded), closes the sessions, gives the module back. */
  close(): Promise<void>;
}

/** Checks that fail one after the other before the module is opened anew. */
const failedChecksMax = 5;
/** The same when the test key is gone: twice as many after each time that did not bring it back, up to so many. */
const lostKeyChecksMax = 60;

export function createToken(options: TokenOptions): Token {
  return new TokenLifecycle(options);
}

type Attempt =
  | { readonly ok: true }
  /** `anew`: the module is to be closed and opened again before the next attempt. */
  | { readonly ok: false; readonly reason: string; readonly anew: boolean };

class TokenLifecycle implements Token {
  readonly crypto: HsmCrypto;
  readonly management: TokenManagement;
  readonly firstAttempt: Promise<void>;
  readonly #options: TokenOptions;
  readonly #refusals: PinRefusals;
  readonly #listeners = new Set<(status: TokenStatus) => void>();
  #management: Management | null = null;
  #discovered: DiscoveredToken | null = null;
  #pool: CryptoPool | null = null;
  /** Of pools that are closed. */
  #earlierCalls: CallCounts = noCalls;
  /** Whether the pool is logged in and answers. */
  #usable = false;
  /** Why it is not usable. */
  #reason = 'starting: the token has not been reached yet';
  #health: HealthRecord;
  #failedChecks = 0;
  /** How often the module was opened anew for the test key, since a check passed. */
  #openedForLostKey = 0;
  /** The module cannot be opened: it has not come back from C_Finalize. */
  #finalizeHangs = false;
  readonly #profile: TokenProfile;
  readonly #hangWatch = new HangWatch();
  #testKey: KeyObject | null = null;
  /** Attempts in a row that did not lead to a check that passed. */
  #failures = 0;
  #probing: Promise<void> = Promise.resolve();
  /** By its profile, when that was last looked at. */
  #wasRefused = false;
  #attempt: Promise<void> | null = null;
  #cancelRetry: () => void = () => {};
  #cancelCheck: () => void = () => {};
  #checking = false;
  #lastVerdict: HealthVerdict;
  #closed = false;

  constructor(options: TokenOptions) {
    this.#options = options;
    this.#health = freshHealth(options.clock.monotonicMs(), false);
    this.#refusals = new PinRefusals({ ...options, directory: options.dataDir });
    this.#profile = new TokenProfile({
      ...options,
      stated: options.profile,
      pins: profilePins(options.dataDir),
      refusals: tokenRefusals(options.dataDir),
      onChange: () => this.#profileChanged(),
    });
    const pool = (): CryptoPool | null => (this.#mayServe() ? this.#pool : null);
    this.crypto = {
      encrypt: async (operation, deadlineMs) => {
        const usable = pool();
        if (usable !== null) return usable.encrypt(operation, deadlineMs);
        operation.begun?.(0);
        return noToken;
      },
      decrypt: async (operation, deadlineMs) => (await pool()?.decrypt(operation, deadlineMs)) ?? noToken,
    };
    this.management = {
      listObjects: () => this.#manage((management, slotId) => management.listObjects(slotId)),
      findObject: (wanted) => this.#manage((management, slotId) => management.findObject(slotId, wanted)),
      generateKey: (key) => this.#manage((management, slotId) => management.generateKey(slotId, key)),
    };
    this.#lastVerdict = this.#verdict();
    this.firstAttempt = this.#tryNow(false);
  }

  status(): TokenStatus {
    const { state, reason } = this.#verdict();
    const discovered = this.#discovered;
    const stats = this.#usable ? this.#pool?.stats() : undefined;
    return {
      uri: formatPkcs11Uri(this.#options.uri),
      label: discovered?.label ?? this.#options.uri.token.label,
      serial: discovered?.serial ?? this.#options.uri.token.serial,
      manufacturer: discovered?.manufacturer ?? null,
      model: discovered?.model ?? null,
      firmware: discovered?.firmware ?? null,
      state,
      reason,
      sessions: stats?.sessions ?? 0,
      stuckCells: stats?.stuckCells ?? 0,
    };
  }

  calls(): CallCounts {
    return this.#pool === null ? this.#earlierCalls : addCalls(this.#earlierCalls, this.#pool.calls());
  }

  setTestKey(key: KeyObject | null): void {
    if (key?.objectId === this.#testKey?.objectId) return;
    this.#testKey = key;
    this.#pool?.setCanary(key);
    this.#health = freshHealth(this.#options.clock.monotonicMs(), key !== null);
    this.#failedChecks = 0;
    if (this.#usable) this.#checkNow();
    this.#tellChange();
  }

  async probe(accept: boolean): Promise<Result<ProfileProbe, string>> {
    const pool = this.#usable ? this.#pool : null;
    if (pool === null) return err(this.#reason);
    if (this.#testKey === null)
      return err('there is no test key on it to probe it with; run: xksctl hsm prepare');
    return ok(await this.#profile.probe(poolTrials(pool, this.#testKey, this.#options.clock), accept));
  }

  async canary(): Promise<'passed' | 'failed' | 'no-test-key'> {
    const pool = this.#mayServe() ? this.#pool : null;
    if (pool === null) return 'failed';
    if (this.#testKey === null) return 'no-test-key';
    const check = await checkTestKey(pool, this.#testKey, this.#options.clock);
    return check.kind === 'passed' ? 'passed' : 'failed';
  }

  onChange(listener: (status: TokenStatus) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async retryLogin(forgive: boolean): Promise<TokenStatus> {
    await this.#attempt;
    if (this.#usable && this.#verdict().state === 'UNAVAILABLE') {
      // Logged in, and ill all the same: what a new module and a new login can cure, they shall.
      const reason = 'opening the module anew, as an operator asked';
      await this.#attemptTo(() => this.#fail({ ok: false, reason, anew: true }));
    }
    if (!this.#usable) await this.#tryNow(forgive);
    else if (forgive) await this.#forgetRefusals();
    return this.status();
  }

  /** This process needs no login; another of this host may have been refused, and will be asked next. */
  async #forgetRefusals(): Promise<void> {
    const discovered = this.#discovered;
    if (discovered === null) return;
    const forgotten = await this.#refusals.exclusively((record) => record.forget(tokenIdentity(discovered)));
    const written = forgotten.ok ? forgotten.value : forgotten;
    if (!written.ok) this.#options.logger.warn('refused PINs are not forgotten', { reason: written.error });
  }

  beyondRecovery(): string | null {
    return this.#hangWatch.observe(this.#hang(), this.#options.clock.monotonicMs());
  }

  /** What keeps the token, or its administration, out of use by not returning. */
  #hang(): Hang | null {
    if (this.#closed) return null;
    const stuck = this.#management?.stuck ?? null;
    if (stuck !== null) {
      return { kind: stuck === 'login' ? 'login' : 'call', what: `${stuck} has not returned from the HSM` };
    }
    if (this.#verdict().state !== 'UNAVAILABLE') return null;
    if (this.#finalizeHangs) return { kind: 'call', what: 'C_Finalize has not returned from the HSM' };
    const stats = this.#usable ? this.#pool?.stats() : undefined;
    if (stats === undefined || stats.stuckCells < stats.sessions) return null;
    return {
      kind: 'call',
      what: `${stats.stuckCells} calls have not returned from the HSM, and no session is left`,
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelRetry();
    await this.#attempt;
    this.#becomeUnusable('the token is closed');
    await this.#closeModule();
  }

  #verdict(): HealthVerdict {
    if (!this.#usable) return { state: 'UNAVAILABLE', reason: this.#reason };
    if (this.#profile.refusal !== null) return { state: 'UNAVAILABLE', reason: this.#profile.refusal };
    const judged = judgeHealth(this.#health, this.#options.clock.monotonicMs());
    const unprobed = this.#testKey === null ? null : this.#profile.unprobed;
    // A check that failed says more than a probe that came to nothing for the same cause.
    const checkTells = judged.state === 'UNAVAILABLE' && !this.#profile.fitsNoForm;
    return unprobed === null || checkTells ? judged : { state: 'UNAVAILABLE', reason: unprobed };
  }

  /** Whether its answers may be used: logged in, and its profile known, as far as it can be. */
  #mayServe(): boolean {
    if (!this.#usable || this.#profile.refusal !== null) return false;
    return this.#testKey === null || this.#profile.unprobed === null;
  }

  #tellChange(): void {
    const verdict = this.#verdict();
    const last = this.#lastVerdict;
    if (verdict.state === last.state && verdict.reason === last.reason) return;
    this.#lastVerdict = verdict;
    const fields = {
      token: formatPkcs11Uri(this.#options.uri),
      state: verdict.state,
      reason: verdict.reason,
    };
    if (verdict.state === 'UNAVAILABLE' && !this.#closed)
      this.#options.logger.warn('token unavailable', fields);
    else this.#options.logger.info('token state', fields);
    const status = this.status();
    for (const listener of this.#listeners) listener(status);
  }

  // --- reaching the token ------------------------------------------------------------------------------------

  /** Makes an attempt, or waits for the one under way. */
  #tryNow(forgive: boolean): Promise<void> {
    this.#cancelRetry();
    if (this.#closed) return Promise.resolve();
    return this.#attemptTo(async () => {
      const attempt = await this.#reach(forgive).catch(
        (error: unknown): Attempt => ({ ok: false, reason: errorText(error), anew: true }),
      );
      if (attempt.ok) await this.#becomeUsable();
      else await this.#fail(attempt);
    });
  }

  /** One attempt at a time; the next follows by itself when it failed. */
  #attemptTo(attempt: () => Promise<void>): Promise<void> {
    this.#attempt ??= attempt().finally(() => {
      this.#attempt = null;
      if (!this.#usable) this.#retryLater();
    });
    return this.#attempt;
  }

  async #reach(forgive: boolean): Promise<Attempt> {
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

    await this.#profile.met(discovered.value);
    this.#wasRefused = this.#profile.refusal !== null;
    const pool = await this.#openOrResume(discovered.value.slotId, sameSlot);
    return pool.ok ? { ok: true } : failed(`its sessions cannot be opened: ${failureText(pool.error)}`, true);
  }

  async #openOrResume(slotId: bigint, sameSlot: boolean): Promise<Result<unknown, HsmFailure>> {
    if (this.#pool !== null) {
      if (sameSlot) return this.#pool.resume();
      // The token came back in another slot.
      await this.#closePool();
    }
    const { uri, initArgs, workers, sessionsMax, clock } = this.#options;
    const pool = await (this.#options.openPool ?? openCryptoPool)({
      modulePath: uri.modulePath,
      initArgs,
      slotId,
      workers,
      sessionsMax,
      witness: { plaintext: witnessPlaintext, gcmAad: witnessAad },
      clock,
      onSessionsLost: (rv) => this.#sessionsLost(rv),
      onUnsafeIv: () => void this.#profile.sawUnsafeIv(),
    });
    if (pool.ok) {
      this.#pool = pool.value;
      pool.value.setProfile(this.#profile.inForce);
      pool.value.setCanary(this.#testKey);
    }
    return pool;
  }

  async #fail(attempt: Attempt & { readonly ok: false }): Promise<void> {
    this.#becomeUnusable(attempt.reason);
    // A module learns of new tokens, and some recover, only by C_Finalize and C_Initialize.
    if (attempt.anew) await this.#closeModule();
    this.#failures += 1;
  }

  #retryLater(): void {
    if (this.#closed) return;
    this.#cancelRetry();
    const delayMs = backOffMs(Math.max(1, this.#failures), this.#options.random);
    this.#cancelRetry = this.#options.timers.after(delayMs, () => void this.#tryNow(false));
  }

  async #becomeUsable(): Promise<void> {
    this.#usable = true;
    this.#health = freshHealth(this.#options.clock.monotonicMs(), this.#testKey !== null);
    this.#failedChecks = 0;
    if (this.#testKey === null) this.#failures = 0;
    this.#pool?.setProfile(this.#profile.inForce);
    this.#checkNow();
    this.#tellChange();
    // At the first contact it is not known yet how it wants to be asked.
    await this.#probing;
  }

  /** Once for each firmware of a token, as soon as there is a test key; again while the token says nothing. */
  #probeIfDue(): void {
    if (!this.#usable || this.#testKey === null || !this.#profile.isDue) return;
    const { saidNothing, unprobed } = this.#profile;
    if (saidNothing && unprobed === null && this.#health.last?.kind !== 'passed') return;
    this.#probing = this.probe(false).then(
      () => {},
      (error: unknown) => this.#options.logger.error('a bug ended a probe', { error: errorText(error) }),
    );
  }

  #profileChanged(): void {
    this.#pool?.setProfile(this.#profile.inForce);
    const isRefused = this.#profile.refusal !== null;
    if (this.#wasRefused && !isRefused && this.#usable) {
      // Nothing was checked meanwhile.
      this.#health = freshHealth(this.#options.clock.monotonicMs(), this.#testKey !== null);
      this.#failedChecks = 0;
      this.#checkNow();
    }
    this.#wasRefused = isRefused;
    this.#tellChange();
  }

  #becomeUnusable(reason: string): void {
    this.#usable = false;
    this.#reason = reason;
    this.#cancelCheck();
    this.#tellChange();
  }

  #sessionsLost(rv: string): void {
    if (this.#closed || !this.#usable) return;
    this.#becomeUnusable(`the sessions were lost (${rv}); logging in again`);
    void this.#tryNow(false);
  }

  /** A call that never returned stays; its worker thread is not followed by another. */
  async #closeModule(): Promise<void> {
    await this.#closePool();
    const management = this.#management;
    if (management === null || (management.stuck !== null && !this.#closed)) return;
    this.#management = null;
    await management.close();
  }

  async #closePool(): Promise<void> {
    const pool = this.#pool;
    if (pool === null) return;
    this.#pool = null;
    // Before it is closed, so that the sum never falls; what closing calls is in nobody's way.
    this.#earlierCalls = addCalls(this.#earlierCalls, pool.calls());
    await pool.close();
  }

  async #manage<T>(
    run: (management: Management, slotId: bigint) => Promise<ManagementResult<T>>,
  ): Promise<ManagementResult<T>> {
    const discovered = this.#discovered;
    if (!this.#usable || this.#management === null || discovered === null) {
      return err({ code: 'token-unavailable', rv: null, functionName: null, message: this.#reason });
    }
    return run(this.#management, discovered.slotId);
  }

  // --- X-H3: a check every second ----------------------------------------------------------------------------

  #checkNow(): void {
    this.#cancelCheck();
    this.#cancelCheck = this.#options.timers.after(healthIntervalMs, () => this.#checkNow());
    const pool = this.#pool;
    const testKey = this.#testKey;
    this.#probeIfDue();
    void this.#profile.look();
    // Nothing is encrypted with a token that is refused, not even for a check.
    const mayCheck = testKey !== null && !this.#checking && this.#profile.refusal === null;
    if (pool !== null && mayCheck) void this.#check(pool, testKey);
    // Age alone changes the verdict.
    this.#tellChange();
  }

  async #check(pool: CryptoPool, testKey: KeyObject): Promise<void> {
    this.#checking = true;
    const check = await checkTestKey(pool, testKey, this.#options.clock);
    this.#checking = false;
    // What was checked is no longer what serves.
    if (!this.#usable || pool !== this.#pool || testKey !== this.#testKey) return;
    this.#health = withCheck(this.#health, check);
    if (check.kind === 'passed') {
      this.#failures = 0;
      this.#failedChecks = 0;
      this.#openedForLostKey = 0;
    }
    if (check.kind === 'failed') await this.#countFailedCheck(check);
    this.#tellChange();
  }

  async #countFailedCheck(check: FailedCheck): Promise<void> {
    this.#failedChecks += 1;
    if (check.worthReopening === 'never' || this.#attempt !== null) return;
    const isLost = check.worthReopening === 'later';
    const checksMax = isLost
      ? Math.min(lostKeyChecksMax, failedChecksMax * 2 ** this.#openedForLostKey)
      : failedChecksMax;
    if (this.#failedChecks < checksMax) return;
    if (isLost) {
      // The back-off is in the checks: `hsm prepare` needs a token that is open most of the time.
      this.#failures = 0;
      this.#openedForLostKey += 1;
    }
    // The pool opens lost sessions by itself; that did not help.
    const reason = `${check.reason}; opening the module anew`;
    await this.#attemptTo(() => this.#fail({ ok: false, reason, anew: true }));
  }
}

const noToken = err<HsmFailure>({ kind: 'token-unavailable', rv: null, functionName: null });

function failureText(failure: HsmFailure): string {
  return failure.rv === null
    ? failure.kind
    : `${failure.functionName ?? failure.kind} returned ${failure.rv}`;
}
