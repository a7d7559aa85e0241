import { connect } from 'node:net';
import type { Clock } from '../base/clock.js';
import { errorText } from '../base/guards.js';
import type { LineLogger } from '../base/logger.js';
import type { RandomSource } from '../base/random.js';
import type { Timers } from '../base/timers.js';
import type { TokenFleet } from '../hsm/fleet/token-fleet.js';
import type { KeyState } from '../keystate/key-state.js';
import type { Command, CommandResult } from '../keystate/types.js';
import type { ServingMetrics } from '../ops/metrics.js';
import { type Hello, metricsIntervalMs } from '../ops/state-link.js';
import type { SignatureCheck } from '../sigv4/signature-check.js';
import { SigningKeyCache } from '../sigv4/signing-key.js';
import { forgetLostCredentials } from './credential-caches.js';
import { CredentialUse } from './credential-use.js';
import { HsmOperations } from './hsm-operations.js';
import type { HttpHandler } from './http/exchange.js';
import type { IvAccounts } from './iv-accounts.js';
import { IvReports } from './iv-reports.js';
import { metricsFrame } from './metrics-report.js';
import { createPipeline } from './pipeline.js';
import { judgeReadiness, type Readiness } from './readiness.js';
import { SecretStore } from './secret-store.js';
import { StateClient } from './state-client.js';
import { FreshnessTracker } from './state-freshness.js';
import { TokenSecrets } from './token-secrets.js';

export interface ServingCoreOptions {
  readonly fleet: TokenFleet;
  /** What the fleet's encryptions are counted in. */
  readonly ivs: IvAccounts;
  /** `stateSocketPath(config)`. */
  readonly stateSocketPath: string;
  /** All but `linkedBefore`. */
  readonly hello: Omit<Hello, 'linkedBefore'>;
  readonly requestDeadlineMs: number;
  readonly metrics: ServingMetrics;
  readonly logger: LineLogger;
  readonly clock: Clock;
  /** CLOCK_BOOTTIME. */
  readonly bootTimeMs: () => number;
  readonly checkSignature: SignatureCheck;
  readonly timers: Timers;
  readonly random: RandomSource;
  /** Called when `readiness()` may have changed. */
  readonly onReadiness: (readiness: Readiness) => void;
  /** Why this process cannot recover by itself; `null` once it has all the same. Called on every change. */
  readonly onStuck: (reason: string | null) => void;
}

/** A serving process without its listeners and its supervisor: key state, secrets, the tokens, and the pipeline. */
export class ServingCore {
  /** Answers requests from the first moment on: truthfully with 503 while something is missing. */
  readonly handler: HttpHandler;
  readonly #options: ServingCoreOptions;
  readonly #client: StateClient;
  readonly #secrets: SecretStore;
  readonly #freshness: FreshnessTracker;
  readonly #tokenSecrets: TokenSecrets;
  readonly #ivReports: IvReports;
  readonly #signingKeys = new SigningKeyCache();
  readonly #credentialUse = new CredentialUse();
  readonly #stopWatchingTokens: () => void;
  /** Of the only token; asked for with every request, so kept. */
  #hsmName: string | null = null;
  #cancelReport: () => void = () => {};
  #metricsLeftOut = false;
  #stuck: string | null = null;
  #draining = false;
  #closed = false;

  constructor(options: ServingCoreOptions) {
    const { fleet, clock, timers, random, logger, metrics } = options;
    const { tokens } = fleet;
    this.#options = options;
    this.#freshness = new FreshnessTracker(options.bootTimeMs);
    this.#secrets = new SecretStore(random);
    const state = (): KeyState | null => this.#client.state;
    const operations = new HsmOperations({
      tokens,
      secrets: this.#secrets,
      state,
      random,
      clock,
      timers,
      logger,
    });
    this.#tokenSecrets = new TokenSecrets({
      tokens,
      state,
      secrets: this.#secrets,
      clock,
      timers,
      logger,
      onChange: () => this.#tellReadiness(),
    });
    this.#client = new StateClient({
      connect: () => connect(options.stateSocketPath),
      hello: options.hello,
      clock,
      timers,
      random,
      logger,
      onState: (changed, command, result) => this.#onState(changed, command, result),
      onLink: () => this.#tellReadiness(),
      onFresh: (asOfMs) => this.#freshness.confirmed(asOfMs),
      onStanding: (standing) => {
        this.#freshness.standingChanged(standing);
        this.#tellReadiness();
      },
      onHsmRequest: (request) => operations.answer(request),
    });
    this.#ivReports = new IvReports({
      accounts: options.ivs,
      processId: options.hello.processId,
      state,
      send: (frame) => this.#client.send(frame),
      timers,
    });
    this.handler = createPipeline({
      state,
      freshness: this.#freshness,
      secrets: this.#secrets,
      signingKeys: this.#signingKeys,
      checkSignature: options.checkSignature,
      credentialUse: this.#credentialUse,
      crypto: fleet.crypto,
      ivs: options.ivs,
      hsmName: () => this.#hsmName,
      tokens: () => fleet.status(),
      proxy: () => ({ fleetSize: this.#freshness.standing.fleetSize, version: options.hello.version }),
      metrics,
      logger,
      clock,
      timers,
      requestDeadlineMs: options.requestDeadlineMs,
    });
    const [only] = tokens.length === 1 ? tokens : [];
    this.#stopWatchingTokens = fleet.onChange(() => {
      const known = only?.status();
      this.#hsmName = known?.serial ?? known?.label ?? null;
      this.#tokenSecrets.update();
      this.#tellReadiness();
    });
  }

  /** Begins to follow the replica. */
  start(): void {
    this.#client.start();
    this.#report();
  }

  readiness(): Readiness {
    return judgeReadiness({
      draining: this.#draining,
      hasState: this.#client.state !== null,
      standing: this.#freshness.standing,
      isolated: this.#isIsolated(),
      tokens: this.#options.fleet.status(),
      prepared: this.#tokenSecrets.isPrepared,
      secretsAvailable: this.#secrets.available,
      secretFault: this.#tokenSecrets.fault,
    });
  }

  /** No key store can be served here; never so without any. */
  #isIsolated(): boolean {
    let some = false;
    for (const keyStore of this.#client.state?.keyStores() ?? []) {
      if (this.#freshness.permits(keyStore)) return false;
      some = true;
    }
    return some;
  }

  /** Not ready any more; goes on answering. */
  startDraining(): void {
    this.#draining = true;
    this.#tellReadiness();
  }

  /** Ends the link and leaves no secret behind. The tokens are their owner's to close. */
  close(): void {
    this.#closed = true;
    this.#cancelReport();
    this.#ivReports.close();
    this.#stopWatchingTokens();
    this.#tokenSecrets.close();
    this.#client.close();
    this.#secrets.wipe();
  }

  #onState(state: KeyState, command: Command | null, result: CommandResult | null): void {
    forgetLostCredentials(
      { secrets: this.#secrets, signingKeys: this.#signingKeys, credentialUse: this.#credentialUse },
      state,
      command,
    );
    this.#ivReports.onState(state, command, result);
    if (command === null || command.type === 'token.prepare') {
      this.#tokenSecrets.update();
      this.#tellReadiness();
    }
  }

  #tellReadiness(): void {
    if (!this.#closed) this.#options.onReadiness(this.readiness());
  }

  #tellStuck(): void {
    const reason = this.#options.fleet.beyondRecovery();
    if (reason === this.#stuck) return;
    this.#stuck = reason;
    this.#options.onStuck(reason);
  }

  /** Each second, for `xks_…` metrics and `xksctl status`. */
  #report(): void {
    const { timers, logger, metrics, fleet } = this.#options;
    this.#cancelReport = timers.after(metricsIntervalMs, () => this.#report());
    this.#tellStuck();
    metricsFrame(metrics, this.#credentialUse, this.readiness(), fleet.status()).then(
      ({ frame, metricsLeftOut }) => {
        if (this.#closed) return;
        if (metricsLeftOut && !this.#metricsLeftOut) {
          logger.warn('metrics are left out: they have outgrown a frame of the state link');
        }
        this.#metricsLeftOut = metricsLeftOut;
        this.#client.send(frame);
      },
      (thrown: unknown) => logger.error('metrics could not be collected', { error: errorText(thrown) }),
    );
  }
}
