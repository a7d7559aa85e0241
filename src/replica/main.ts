import { systemClock } from '../base/clock.js';
import { loadNativeBinding } from '../base/native.js';
import { systemRandom } from '../base/random.js';
import type { Result } from '../base/result.js';
import { encodeCommand } from '../keystate/command-codec.js';
import { attachToSupervisor } from '../ops/child-link.js';
import type { Config } from '../ops/config.js';
import { createLogger, type ProcessLogger, warnOfCoreDumps } from '../ops/logging.js';
import { createProcessRegistry } from '../ops/metrics.js';
import { stateSocketPath } from '../ops/state-link.js';
import type { RunningServingProcess, SupervisorMessage } from '../ops/supervision.js';
import { softwareVersion } from '../ops/version.js';
import { systemFiles } from '../replication/file-operations.js';
import { AdminApi } from './admin-api.js';
import { AdminServer } from './admin-server.js';
import { ChangeProposer } from './change-proposer.js';
import { CredentialUse } from './credential-use.js';
import { HsmRequests } from './hsm-requests.js';
import { MetricsAggregation } from './metrics-aggregation.js';
import { MetricsServer } from './metrics-server.js';
import { type OpenedLog, openLog } from './open-log.js';
import { ReplicaMetrics } from './replica-metrics.js';
import { StatePublication } from './state-publication.js';
import { timedFiles } from './timed-files.js';

/** The composition root of the replica. Returns once it runs; the process ends by its supervisor's word. */
export async function runReplica(): Promise<void> {
  const startedAtMs = systemClock.wallMs();
  const early: SupervisorMessage[] = [];
  let receive = (message: SupervisorMessage): void => void early.push(message);
  const supervisor = attachToSupervisor({ onMessage: (message) => receive(message) });

  const config = await supervisor.config;
  const logger = createLogger({ level: config.log.level, role: 'replica', slot: 0 });
  process.on('exit', () => logger.flush());
  warnOfCoreDumps(logger, supervisor.coreDumpErrno);
  const native = loadNativeBinding();
  let observeSync: (durationMs: number) => void = () => {};
  const opened = await openLog({
    node: config.node,
    files: timedFiles(systemFiles, systemClock, (durationMs) => observeSync(durationMs)),
    tryLockFile: (fd) => native.tryLockFile(fd),
    clock: systemClock,
    random: systemRandom,
    logger,
    // Nothing is retried in place: what the disk holds now is found out by reading it anew.
    onFatal: (reason) => {
      logger.error('the durable log failed; the replica ends', { reason });
      logger.flush();
      process.exit(1);
    },
  });
  if (!opened.ok) return supervisor.reportFatal(opened.error);

  const replica = new Replica({ config, logger, startedAtMs, opened: opened.value });
  observeSync = (durationMs) => replica.metrics.observeLogSync(durationMs);
  receive = (message) => {
    if (message.kind === 'fleet') replica.fleetChanged(message);
    else void replica.close().then(() => process.exit(0));
  };
  // Before anybody can ask what has been applied: who is to apply it.
  for (const message of early) receive(message);
  const listening = await replica.listen(process.env['XKSD_METRICS_FD']);
  if (!listening.ok) {
    await replica.close();
    return supervisor.reportFatal(listening.error);
  }
  supervisor.reportReadiness(true, 'ready');
  logger.info('the replica is up', {
    appliedIndex: opened.value.log.appliedIndex,
    version: softwareVersion(),
  });
}

interface ReplicaParts {
  readonly config: Config;
  readonly logger: ProcessLogger;
  readonly startedAtMs: number;
  readonly opened: OpenedLog;
}

class Replica {
  readonly metrics: ReplicaMetrics;
  readonly #logger: ProcessLogger;
  readonly #opened: OpenedLog;
  readonly #publication: StatePublication;
  readonly #adminServer: AdminServer;
  readonly #metricsServer: MetricsServer;
  #fleet: { readonly configured: number; readonly ready: number };
  #running: readonly RunningServingProcess[] | null = null;
  #closing: Promise<void> | null = null;

  constructor({ config, logger, startedAtMs, opened }: ReplicaParts) {
    const { log, machine } = opened;
    this.#logger = logger;
    this.#opened = opened;
    this.#fleet = { configured: config.serving.processes, ready: 0 };
    this.#publication = new StatePublication({
      socketPath: stateSocketPath(config),
      supervisorNonce: supervisorNonce(),
      state: {
        get appliedIndex() {
          return log.appliedIndex;
        },
        snapshot: () => machine.snapshot(),
        subscribe: (onEntry) => log.subscribe(onEntry),
      },
      logger,
      isProcessAlive,
      runningServingProcesses: () => this.#running,
    });
    const publication = this.#publication;
    const state = () => machine.state;
    const aggregation = new MetricsAggregation();
    publication.observe({
      onHello: (_, hello) => aggregation.linked(hello),
      onMetrics: (_, hello, { metrics }) => aggregation.report(hello, metrics),
      onHsmReply: () => {},
      onClosed: (_, hello) => aggregation.unlinked(hello),
    });
    this.metrics = new ReplicaMetrics({ state, publication, aggregation });
    const processRegistry = createProcessRegistry({ droppedLogLines: () => logger.droppedLines() });
    this.#metricsServer = new MetricsServer(async () =>
      aggregation.families(await this.metrics.json(), await processRegistry.getMetricsAsJSON()),
    );
    const common = { publication, clock: systemClock, random: systemRandom };
    const api = new AdminApi(
      {
        ...common,
        node: { name: config.node.name, version: softwareVersion(), startedAtMs },
        get state() {
          return machine.state;
        },
        proposer: new ChangeProposer({ ...common, log, encodeCommand, logger }),
        hsm: new HsmRequests(publication),
        credentialUse: new CredentialUse(publication, state, systemClock),
        fleet: () => this.#fleet,
      },
      logger,
    );
    const native = loadNativeBinding();
    this.#adminServer = new AdminServer({
      socketPath: config.admin.socket,
      api,
      peerCredentials: (fd) => native.peerCredentials(fd),
    });
  }

  /** @param metricsFd number of the descriptor of the metrics listener; without it none is served. */
  async listen(metricsFd: string | undefined): Promise<Result<null, string>> {
    const publishing = await this.#publication.listen();
    if (!publishing.ok) return publishing;
    const administering = await this.#adminServer.listen();
    if (!administering.ok || metricsFd === undefined) return administering;
    return this.#metricsServer.listen(Number(metricsFd));
  }

  fleetChanged(fleet: Extract<SupervisorMessage, { readonly kind: 'fleet' }>): void {
    this.#running = fleet.running;
    this.#fleet = { configured: fleet.servingProcesses, ready: fleet.readyServingProcesses };
    this.#publication.fleetChanged();
  }

  /** Finishes commands under way, then the log. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#adminServer.close();
    await Promise.all([this.#publication.close(), this.#metricsServer.close()]);
    await this.#opened.log.close();
    this.#logger.flush();
  }
}

function supervisorNonce(): string {
  const value = process.env['XKSD_SUPERVISOR_NONCE'];
  if (value === undefined)
    throw new Error('XKSD_SUPERVISOR_NONCE is not set: the supervisor starts this process');
  return value;
}

function isProcessAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    // EPERM: it is there, and another's.
    return thrown instanceof Error && 'code' in thrown && thrown.code === 'EPERM';
  }
}
