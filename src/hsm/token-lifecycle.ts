import { errorText } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import { backOffMs } from './back-off.js';
import type { CallCounts } from './call-counts.js';
import type { CryptoPool } from './crypto-pool.js';
import { type Hang, HangWatch } from './hang-watch.js';
import { checkTestKey } from './health-check.js';
import type { Management } from './management.js';
import type { ManagementResult } from './management-protocol.js';
import { formatPkcs11Uri } from './pkcs11-uri.js';
import { poolTrials } from './profile/pool-trials.js';
import { profilePins } from './profile/profile-pins.js';
import { type ProfileProbe, TokenProfile } from './profile/token-profile.js';
import { tokenRefusals } from './profile/token-refusals.js';
import type { Token, TokenManagement, TokenOptions, TokenStatus } from './token.js';
import { type Attempt, TokenAccess } from './token-access.js';
import { TokenChecks } from './token-checks.js';
import { type HealthVerdict, healthIntervalMs } from './token-health.js';
import type { HsmCrypto, HsmFailure, KeyObject } from './types.js';

/** Keeps a token up: reaches it, has it checked and probed, opens it anew when that may help, and says how it is. */
export class TokenLifecycle implements Token {
  readonly crypto: HsmCrypto;
  readonly management: TokenManagement;
  readonly firstAttempt: Promise<void>;
  readonly #options: TokenOptions;
  readonly #access: TokenAccess;
  readonly #checks: TokenChecks;
  readonly #listeners = new Set<(status: TokenStatus) => void>();
  /** Whether the pool is logged in and answers. */
  #usable = false;
  /** Why it is not usable. */
  #reason = 'starting: the token has not been reached yet';
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
    this.#checks = new TokenChecks(options.clock.monotonicMs());
    this.#profile = new TokenProfile({
      ...options,
      stated: options.profile,
      pins: profilePins(options.dataDir),
      refusals: tokenRefusals(options.dataDir),
      onChange: () => this.#profileChanged(),
    });
    this.#access = new TokenAccess(options, {
      onLoggedIn: async (token) => {
        await this.#profile.met(token);
        this.#wasRefused = this.#profile.refusal !== null;
      },
      onPoolOpened: (pool) => {
        pool.setProfile(this.#profile.inForce);
        pool.setCanary(this.#testKey);
      },
      onSessionsLost: (rv) => this.#sessionsLost(rv),
      onUnsafeIv: () => void this.#profile.sawUnsafeIv(),
    });
    const pool = (): CryptoPool | null => (this.#mayServe() ? this.#access.pool : null);
    this.crypto = {
      encrypt: (operation, deadlineMs) => {
        const usable = pool();
        if (usable !== null) return usable.encrypt(operation, deadlineMs);
        operation.begun?.(0);
        return Promise.resolve(noToken);
      },
      decrypt: (operation, deadlineMs) => pool()?.decrypt(operation, deadlineMs) ?? Promise.resolve(noToken),
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
    const discovered = this.#access.discovered;
    const stats = this.#usable ? this.#access.pool?.stats() : undefined;
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
    return this.#access.calls();
  }

  setTestKey(key: KeyObject | null): void {
    if (key?.objectId === this.#testKey?.objectId) return;
    this.#testKey = key;
    this.#access.pool?.setCanary(key);
    this.#checks.begin(this.#options.clock.monotonicMs(), key !== null);
    if (this.#usable) this.#checkNow();
    this.#tellChange();
  }

  async probe(accept: boolean): Promise<Result<ProfileProbe, string>> {
    const pool = this.#usable ? this.#access.pool : null;
    if (pool === null) return err(this.#reason);
    if (this.#testKey === null)
      return err('there is no test key on it to probe it with; run: xksctl hsm prepare');
    return ok(await this.#profile.probe(poolTrials(pool, this.#testKey, this.#options.clock), accept));
  }

  async canary(): Promise<'passed' | 'failed' | 'no-test-key'> {
    const pool = this.#mayServe() ? this.#access.pool : null;
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
    else if (forgive) await this.#access.forgetRefusals();
    return this.status();
  }

  beyondRecovery(): string | null {
    return this.#hangWatch.observe(this.#hang(), this.#options.clock.monotonicMs());
  }

  /** What keeps the token, or its administration, out of use by not returning. */
  #hang(): Hang | null {
    if (this.#closed) return null;
    const { stuck } = this.#access;
    if (stuck !== null) {
      return { kind: stuck === 'login' ? 'login' : 'call', what: `${stuck} has not returned from the HSM` };
    }
    if (this.#verdict().state !== 'UNAVAILABLE') return null;
    if (this.#access.finalizeHangs) return { kind: 'call', what: 'C_Finalize has not returned from the HSM' };
    const stats = this.#usable ? this.#access.pool?.stats() : undefined;
    if (stats === undefined) return null;
    // One that is refused for what it is gets nothing to do: that few sessions are open says nothing.
    const hasSession = stats.stuckCells < stats.sessions || this.#profile.refusal !== null;
    if (hasSession && !stats.isStuck) return null;
    const outcome = hasSession ? 'none more is sent to it' : 'no session is left';
    return {
      kind: 'call',
      what: `${stats.stuckCells} calls have not returned from the HSM, and ${outcome}`,
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelRetry();
    await this.#attempt;
    this.#becomeUnusable('the token is closed');
    await this.#access.closeModule(true);
  }

  #verdict(): HealthVerdict {
    if (!this.#usable) return { state: 'UNAVAILABLE', reason: this.#reason };
    if (this.#profile.refusal !== null) return { state: 'UNAVAILABLE', reason: this.#profile.refusal };
    const judged = this.#checks.verdict(this.#options.clock.monotonicMs());
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
      const attempt = await this.#access
        .reach(forgive)
        .catch((error: unknown): Attempt => ({ ok: false, reason: errorText(error), anew: true }));
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

  async #fail(attempt: Attempt & { readonly ok: false }): Promise<void> {
    this.#becomeUnusable(attempt.reason);
    // A module learns of new tokens, and some recover, only by C_Finalize and C_Initialize.
    if (attempt.anew) await this.#access.closeModule(this.#closed);
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
    this.#checks.begin(this.#options.clock.monotonicMs(), this.#testKey !== null);
    if (this.#testKey === null) this.#failures = 0;
    this.#access.pool?.setProfile(this.#profile.inForce);
    this.#checkNow();
    this.#tellChange();
    // At the first contact it is not known yet how it wants to be asked.
    await this.#probing;
  }

  /** Once for each firmware of a token, as soon as there is a test key; again while the token says nothing. */
  #probeIfDue(): void {
    if (!this.#usable || this.#testKey === null || !this.#profile.isDue) return;
    const { saidNothing, unprobed } = this.#profile;
    if (saidNothing && unprobed === null && !this.#checks.lastPassed) return;
    this.#probing = this.probe(false).then(
      () => {},
      (error: unknown) => this.#options.logger.error('a bug ended a probe', { error: errorText(error) }),
    );
  }

  #profileChanged(): void {
    this.#access.pool?.setProfile(this.#profile.inForce);
    const isRefused = this.#profile.refusal !== null;
    if (this.#wasRefused && !isRefused && this.#usable) {
      // Nothing was checked meanwhile.
      this.#checks.begin(this.#options.clock.monotonicMs(), this.#testKey !== null);
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

  async #manage<T>(
    run: (management: Management, slotId: bigint) => Promise<ManagementResult<T>>,
  ): Promise<ManagementResult<T>> {
    const managed = this.#usable ? await this.#access.manage(run) : null;
    return managed ?? err({ code: 'token-unavailable', rv: null, functionName: null, message: this.#reason });
  }

  // --- X-H3: a check every second ----------------------------------------------------------------------------

  #checkNow(): void {
    this.#cancelCheck();
    this.#cancelCheck = this.#options.timers.after(healthIntervalMs, () => this.#checkNow());
    const pool = this.#access.pool;
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
    if (!this.#usable || pool !== this.#access.pool || testKey !== this.#testKey) return;
    const reopening = this.#checks.checked(check, this.#attempt !== null);
    // For a lost key the back-off is in the checks: `hsm prepare` needs a token that is open most of the time.
    if (check.kind === 'passed' || reopening === 'for-lost-key') this.#failures = 0;
    if (check.kind === 'failed' && reopening !== 'none') {
      // The pool opens lost sessions by itself; that did not help.
      const reason = `${check.reason}; opening the module anew`;
      await this.#attemptTo(() => this.#fail({ ok: false, reason, anew: true }));
    }
    this.#tellChange();
  }
}

const noToken = err<HsmFailure>({ kind: 'token-unavailable', rv: null, functionName: null });
