import { randomUUID } from 'node:crypto';
import { systemClock } from '../base/clock.js';
import { unreachable } from '../base/guards.js';
import { loadNativeBinding } from '../base/native.js';
import { systemRandom } from '../base/random.js';
import { systemTimers } from '../base/timers.js';
import { TokenFleet } from '../hsm/fleet/token-fleet.js';
import { noPkcs11Trace, type Pkcs11Trace, tracePkcs11Calls } from '../hsm/pkcs11-trace.js';
import { createToken } from '../hsm/token.js';
import { attachToSupervisor, type SupervisorLink } from '../ops/child-link.js';
import type { Config } from '../ops/config.js';
import { createHsmMetrics } from '../ops/hsm-metrics.js';
import { createLogger, type ProcessLogger, warnOfCoreDumps } from '../ops/logging.js';
import { createServingMetrics, type ServingMetrics } from '../ops/metrics.js';
import { stateSocketPath } from '../ops/state-link.js';
import type { SupervisorMessage } from '../ops/supervision.js';
import { loadTlsFiles, type TlsFiles } from '../ops/tls-files.js';
import { softwareVersion } from '../ops/version.js';
import { readHsmUris } from './hsm-uris.js';
import { createHealthServer, type HealthServer } from './http/health-server.js';
import { httpLimits } from './http/limits.js';
import { createXksServer, type XksServer } from './http/server.js';
import { IvAccounts } from './iv-accounts.js';
import { acceptAnywayAfterMs, mayAccept, type Readiness } from './readiness.js';
import { refusalRecorder } from './refusal-record.js';
import { ServingCore } from './serving-core.js';

/** For sessions to close once nothing is served any more. A hung HSM is left to itself then. */
const closeGraceMs = 2_000;

/** The composition root of a serving process. Returns once it runs; the process ends by its supervisor's word. */
export async function runServingProcess(): Promise<void> {
  const early: SupervisorMessage[] = [];
  let receive = (message: SupervisorMessage): void => void early.push(message);
  const supervisor = attachToSupervisor({ onMessage: (message) => receive(message) });

  const config = await supervisor.config;
  const slot = Number(environment('XKSD_SLOT'));
  const logger = createLogger({ level: config.log.level, role: 'serving', slot });
  const trace = startTrace(config, logger);
  process.on('exit', () => {
    trace.flush();
    logger.flush();
  });
  warnOfCoreDumps(logger, supervisor.coreDumpErrno);
  const tls = loadTlsFiles({
    certificate: config.xks.tlsCertificate,
    privateKey: config.xks.tlsPrivateKey,
    mtls: config.xks.mtls,
    nowMs: systemClock.wallMs(),
  });
  if (!tls.ok) return supervisor.reportFatal(tls.error);
  const metrics = createServingMetrics({ droppedLogLines: () => logger.droppedLines() + trace.dropped() });
  const ivs = new IvAccounts({ clock: systemClock });
  const fleet = openFleet(config, logger, metrics, ivs);
  if (typeof fleet === 'string') return supervisor.reportFatal(fleet);

  const running = new RunningProcess({
    config,
    tls: tls.value,
    slot,
    fleet,
    ivs,
    metrics,
    logger,
    supervisor,
  });
  receive = (message) => running.receive(message);
  running.start();
  for (const message of early) running.receive(message);
}

function environment(name: 'XKSD_SLOT' | 'XKSD_SUPERVISOR_NONCE' | 'XKSD_XKS_FD' | 'XKSD_HEALTH_FD'): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: the supervisor starts this process`);
  return value;
}

function startTrace({ log }: Config, logger: ProcessLogger): Pkcs11Trace {
  if (!log.tracePkcs11) return noPkcs11Trace;
  if (!logger.infoEnabled) {
    logger.warn('PKCS#11 calls are not traced: their lines are of level info', { logLevel: log.level });
    return noPkcs11Trace;
  }
  logger.info('tracing PKCS#11 calls');
  return tracePkcs11Calls(loadNativeBinding(), systemTimers, logger);
}

/** A sentence for the operator when the URIs name no tokens. Reaching them goes on in the background. */
function openFleet(
  { hsm, node }: Config,
  logger: ProcessLogger,
  { registry }: ServingMetrics,
  encryptions: IvAccounts,
): TokenFleet | string {
  const { tokens, warnings, problems } = readHsmUris(hsm);
  if (problems.length > 0) return problems.join('; ');
  if (tokens.length === 0) return 'the configuration has no [[hsm]]';
  for (const warning of warnings) logger.warn('[[hsm]] uri', { warning });
  const native = loadNativeBinding();
  // A call that never comes back must not keep the process from ending.
  process.on('exit', (code) => native.exitDespiteHungCalls(code, closeGraceMs));
  const surroundings = { clock: systemClock, timers: systemTimers, random: systemRandom, logger };
  const opened = tokens.map(({ uri, hsm: { initArgs, profile, workers, sessionsMax } }) =>
    createToken({
      ...surroundings,
      uri,
      initArgs,
      profile,
      workers,
      sessionsMax,
      dataDir: node.dataDir,
      credentialsDirectory: process.env['CREDENTIALS_DIRECTORY'] ?? null,
      tryLockFile: (fd) => native.tryLockFile(fd),
    }),
  );
  const fleet: TokenFleet = new TokenFleet({
    ...surroundings,
    tokens: opened,
    encryptions,
    onCall: (name, operation, tookMs) => metrics.observeCall(name, operation, tookMs / 1_000),
  });
  const metrics = createHsmMetrics(registry, {
    status: () => fleet.status(),
    counts: () => fleet.stats(),
    calls: () => fleet.calls(),
  });
  return fleet;
}

interface Parts {
  readonly config: Config;
  readonly tls: TlsFiles;
  readonly slot: number;
  readonly fleet: TokenFleet;
  readonly ivs: IvAccounts;
  readonly metrics: ServingMetrics;
  readonly logger: ProcessLogger;
  readonly supervisor: SupervisorLink;
}

class RunningProcess {
  readonly #parts: Parts;
  readonly #metrics: ServingMetrics;
  readonly #core: ServingCore;
  readonly #xks: XksServer;
  readonly #health: HealthServer;
  readonly #startedAtMs = systemClock.monotonicMs();
  #firstAttemptConcluded = false;
  #readyServingProcesses: number | null = null;
  #accepting = false;
  #draining = false;
  #lastReadiness: Readiness | null = null;

  constructor(parts: Parts) {
    this.#parts = parts;
    const { config, tls, logger, fleet, ivs, metrics } = parts;
    const native = loadNativeBinding();
    this.#metrics = metrics;
    this.#metrics.tlsCertificateNotAfter(tls.notAfterMs);
    this.#core = new ServingCore({
      fleet,
      ivs,
      stateSocketPath: stateSocketPath(config),
      hello: {
        linkVersion: 1,
        pid: process.pid,
        slot: parts.slot,
        supervisorNonce: environment('XKSD_SUPERVISOR_NONCE'),
        processId: randomUUID(),
        startedAtMs: systemClock.wallMs(),
        version: softwareVersion(),
      },
      requestDeadlineMs: config.xks.requestDeadlineMs,
      metrics: this.#metrics,
      logger,
      clock: systemClock,
      bootTimeMs: () => native.bootTimeMs(),
      checkSignature: native.checkSigV4Signature,
      timers: systemTimers,
      random: systemRandom,
      onReadiness: (readiness) => this.#onReadiness(readiness),
      onStuck: (reason) => {
        if (reason !== null) logger.error('cannot recover without a new process', { reason });
        parts.supervisor.reportStuck(reason);
      },
    });
    this.#xks = createXksServer({
      on: { fd: Number(environment('XKSD_XKS_FD')) },
      tls: {
        certificate: tls.cert,
        key: tls.key,
        mtls:
          config.xks.mtls === null || tls.ca === null
            ? null
            : { ca: tls.ca, subject: config.xks.mtls.subject },
      },
      handler: this.#core.handler,
      readiness: () => this.#core.readiness(),
      limits: httpLimits(config.xks),
      clock: systemClock,
      timers: systemTimers,
      logger,
      onRefusal: refusalRecorder(logger, this.#metrics),
    });
    this.#health = createHealthServer({
      on: { fd: Number(environment('XKSD_HEALTH_FD')) },
      readiness: () => this.#core.readiness(),
    });
  }

  start(): void {
    this.#core.start();
    void this.#parts.fleet.firstAttempt.then(() => {
      this.#firstAttemptConcluded = true;
      this.#acceptIfDue();
    });
    systemTimers.after(acceptAnywayAfterMs, () => this.#acceptIfDue());
    this.#onReadiness(this.#core.readiness());
  }

  receive(message: SupervisorMessage): void {
    switch (message.kind) {
      case 'fleet':
        this.#readyServingProcesses = message.readyServingProcesses;
        this.#acceptIfDue();
        return;
      case 'drain':
        void this.#drain(message.drainMs);
        return;
      case 'leave':
        void this.#leave(message.leaveMs);
        return;
      default:
        unreachable(message);
    }
  }

  #onReadiness(readiness: Readiness): void {
    const last = this.#lastReadiness;
    if (last?.ready === readiness.ready && last.reason === readiness.reason) return;
    this.#lastReadiness = readiness;
    this.#metrics.ready(readiness.ready);
    this.#acceptIfDue();
    // Told after the listener was asked for: whoever hears of it may connect. The supervisor logs it.
    this.#parts.supervisor.reportReadiness(readiness.ready, readiness.reason);
  }

  #acceptIfDue(): void {
    if (this.#accepting || this.#draining) return;
    const due = mayAccept({
      ready: this.#core.readiness().ready,
      firstAttemptConcluded: this.#firstAttemptConcluded,
      sinceStartMs: systemClock.monotonicMs() - this.#startedAtMs,
      readyServingProcesses: this.#readyServingProcesses,
    });
    if (!due) return;
    this.#accepting = true;
    for (const server of [this.#health, this.#xks]) {
      server.listen().catch((thrown: unknown) => {
        this.#parts.logger.error('cannot accept connections', { error: thrown });
        this.#end(1);
      });
    }
  }

  async #drain(drainMs: number): Promise<void> {
    const { logger } = this.#parts;
    if (this.#draining) {
      if (this.#accepting) void this.#xks.drain(drainMs);
      return;
    }
    this.#draining = true;
    logger.info('draining', { drainMs });
    this.#core.startDraining();
    if (this.#accepting) {
      await this.#xks.drain(drainMs);
      await this.#health.close();
    }
    await this.#finish();
  }

  async #leave(leaveMs: number): Promise<void> {
    if (this.#draining) return;
    this.#draining = true;
    this.#parts.logger.info('leaving', { leaveMs });
    // Load balancers ask the processes that stay, or hear here what they heard before.
    const left = this.#accepting ? [this.#health.close(), this.#xks.leave(leaveMs)] : [];
    this.#core.startDraining();
    await Promise.all(left);
    await this.#finish();
  }

  async #finish(): Promise<void> {
    this.#core.close();
    await within(closeGraceMs, this.#parts.fleet.close());
    this.#end(0);
  }

  #end(code: number): void {
    this.#parts.logger.info('ended', { code });
    this.#parts.logger.flush();
    process.exit(code);
  }
}

/** Waits for `work`, but no longer than `ms`. */
function within(ms: number, work: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const cancel = systemTimers.after(ms, resolve);
    void work.finally(() => {
      cancel();
      resolve();
    });
  });
}
