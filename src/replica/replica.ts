import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '../base/clock.js';
import { loadNativeBinding } from '../base/native.js';
import { systemRandom } from '../base/random.js';
import type { Result } from '../base/result.js';
import { systemTimers } from '../base/timers.js';
import { encodeCommand } from '../keystate/command-codec.js';
import { mintRequestId, requestIdRandomBytes } from '../keystate/request-id.js';
import type { Config } from '../ops/config.js';
import type { ProcessLogger } from '../ops/logging.js';
import { createProcessRegistry } from '../ops/metrics.js';
import { stateSocketPath } from '../ops/state-link.js';
import type { RunningServingProcess, SupervisorMessage } from '../ops/supervision.js';
import { softwareVersion } from '../ops/version.js';
import { settleFounder } from '../replication/data-directory.js';
import { systemFiles } from '../replication/file-operations.js';
import { AdminApi } from './admin-api.js';
import type { AdminError } from './admin-error.js';
import { AdminServer } from './admin-server.js';
import { Admission } from './admission.js';
import { ChangeProposer } from './change-proposer.js';
import { ClusterMetrics } from './cluster-metrics.js';
import { CredentialUse } from './credential-use.js';
import { DiskSpace } from './disk-space.js';
import { engineControl } from './engine-control.js';
import { Fencing } from './fencing.js';
import { readForwarded } from './forwarded-command.js';
import { foundCluster } from './found-cluster.js';
import { HsmRequests } from './hsm-requests.js';
import { proposingTo } from './iv-proposals.js';
import { IvReservations } from './iv-reservations.js';
import { IvWatch } from './iv-watch.js';
import { Welcomes } from './join-cluster.js';
import type { LastConfirmation } from './last-confirmation.js';
import { MetricsAggregation } from './metrics-aggregation.js';
import { MetricsServer } from './metrics-server.js';
import type { OpenedLog } from './open-log.js';
import { ReplicaMetrics } from './replica-metrics.js';
import { StandingWatch } from './standing-watch.js';
import { StatePublication } from './state-publication.js';
import { successorOf } from './successor.js';

/** Address of a node that no other can reach (RFC 2606 §2): its configuration has no `[cluster]`. */
const nowhere = 'no-cluster-section.invalid:7443';

/** How often liveness of other nodes and the like are looked at anew. */
const standingIntervalMs = 1_000;
/** How often the budgets of random IVs are looked at. */
const ivLookMs = 10_000;

export interface ReplicaParts {
  readonly config: Config;
  readonly logger: ProcessLogger;
  readonly startedAtMs: number;
  /** Of the supervisor, for its serving processes alone to know. */
  readonly supervisorNonce: string;
  readonly opened: OpenedLog;
  readonly lastConfirmation: LastConfirmation;
}

/** All that runs over an opened log: publication to the serving processes, administration, metrics, membership. */
export class Replica {
  readonly metrics: ReplicaMetrics;
  readonly publication: StatePublication;
  readonly standing: StandingWatch;
  fleet: { readonly configured: number; readonly ready: number };
  readonly #parts: ReplicaParts;
  readonly #adminServer: AdminServer;
  readonly #metricsServer: MetricsServer;
  readonly #proposer: ChangeProposer;
  readonly #api: AdminApi;
  readonly #fencing: Fencing;
  readonly #admission: Admission;
  readonly #diskSpace: DiskSpace;
  readonly #ivReservations: IvReservations;
  readonly #ivWatch: IvWatch;
  #cancelIvLook: () => void = () => {};
  readonly #ending = new AbortController();
  #running: readonly RunningServingProcess[] | null = null;
  #leader: string | null = null;
  readonly #welcomes: Welcomes;
  #cancelStanding: () => void = () => {};
  #closing: Promise<void> | null = null;

  constructor(parts: ReplicaParts) {
    this.#parts = parts;
    const { config, logger, startedAtMs, opened, lastConfirmation } = parts;
    const { log, machine, engine } = opened;
    const native = loadNativeBinding();
    const bootTimeMs = (): number => native.bootTimeMs();
    const wait = (ms: number): Promise<boolean> => this.#wait(ms);
    const state = () => machine.state;
    this.fleet = { configured: config.serving.processes, ready: 0 };
    this.standing = new StandingWatch({
      state,
      replication: () => engine.status(),
      lastConfirmation,
      fence: opened.fence,
      clock: systemClock,
      bootTimeMs,
    });
    const { standing } = this;
    this.#fencing = new Fencing({
      state,
      engine,
      standing,
      files: systemFiles,
      dataDir: config.node.dataDir,
      bootTimeMs,
      wait,
      logger,
    });
    this.publication = new StatePublication({
      socketPath: stateSocketPath(config),
      supervisorNonce: parts.supervisorNonce,
      state: {
        get appliedIndex() {
          return log.appliedIndex;
        },
        snapshot: () => machine.snapshot(),
        subscribe: (subscriber) => log.subscribe(subscriber),
      },
      logger,
      isProcessAlive,
      runningServingProcesses: () => this.#running,
      standing: standing.standing(),
    });
    const { publication } = this;
    standing.watch((changed) => publication.standingChanged(changed));
    const aggregation = new MetricsAggregation();
    publication.observe({
      onHello: (_, hello) => aggregation.linked(hello),
      onMetrics: (_, hello, { metrics }) => aggregation.report(hello, metrics),
      onHsmReply: () => {},
      onClosed: (_, hello) => aggregation.unlinked(hello),
    });
    const diskSpace = new DiskSpace(opened.directory);
    this.#diskSpace = diskSpace;
    const common = { publication, clock: systemClock, random: systemRandom };
    const proposing = { log, encodeCommand, activeFormat: () => machine.state.activeFormat(), logger };
    const ivWatch = new IvWatch({ state, logger });
    this.#ivWatch = ivWatch;
    const ivReservations = new IvReservations({
      ...{ ...common, ...proposing, timers: systemTimers, propose: proposingTo(log) },
    });
    this.#ivReservations = ivReservations;
    publication.observe(ivReservations);
    this.metrics = new ReplicaMetrics({
      ...{ state, publication, aggregation, engine, bootTimeMs, diskSpace },
      ...{ ivWatch, ivReservations },
    });
    this.#proposer = new ChangeProposer({ ...common, ...proposing });
    this.#admission = new Admission({ config, opened, standing, proposer: this.#proposer, wait, logger });
    this.#welcomes = new Welcomes(state, this.#proposer, systemClock);
    const cluster = engineControl({
      config,
      opened,
      standing,
      fencing: this.#fencing,
      joinProblem: () => this.#admission.problem,
      found: () => this.#found(),
      bootTimeMs,
    });
    const processRegistry = createProcessRegistry({ droppedLogLines: () => logger.droppedLines() });
    const among = new ClusterMetrics({ cluster, state, clock: systemClock, version: softwareVersion() });
    this.#metricsServer = new MetricsServer(async () => {
      const node = [...(await this.metrics.json()), ...(await among.json())];
      return aggregation.families(node, await processRegistry.getMetricsAsJSON());
    });
    this.#api = new AdminApi(
      {
        ...common,
        node: { name: config.node.name, version: softwareVersion(), startedAtMs },
        get state() {
          return machine.state;
        },
        proposer: this.#proposer,
        hsm: new HsmRequests(publication),
        credentialUse: new CredentialUse(publication, state, systemClock),
        cluster,
        diskSpace,
        ivWatch,
        ivReservations,
        fleet: () => this.fleet,
      },
      logger,
    );
    this.#adminServer = new AdminServer({
      socketPath: config.admin.socket,
      api: this.#api,
      mintRequestId: () => mintRequestId(systemClock.wallMs(), systemRandom.bytes(requestIdRandomBytes)),
      peerCredentials: (fd) => native.peerCredentials(fd),
    });
  }

  /** @param metricsFd number of the descriptor of the metrics listener; without it none is served. */
  async start(metricsFd: string | undefined): Promise<Result<null, string>> {
    const { opened } = this.#parts;
    opened.log.subscribe({
      onEntry: () => this.#membersMayHaveChanged(),
      onRestore: () => this.#membersMayHaveChanged(),
      onFresh: () => this.standing.confirmed(),
    });
    // What was applied, or went wrong, before there was anybody to hear of it.
    this.#membersMayHaveChanged();
    const { halted } = opened.engine.status();
    if (halted !== null) this.halted(halted);
    this.#bindPeers();
    const publishing = await this.publication.listen();
    if (!publishing.ok) return publishing;
    const administering = await this.#adminServer.listen();
    if (!administering.ok) return administering;
    if (metricsFd !== undefined) {
      const measuring = await this.#metricsServer.listen(Number(metricsFd));
      if (!measuring.ok) return measuring;
    }
    this.#watchStanding();
    this.#watchIvs();
    const founded = await this.#found();
    void this.#admission.run();
    return founded;
  }

  async #found(): Promise<Result<null, string>> {
    const { config, opened, logger } = this.#parts;
    const { machine, directory } = opened;
    const address = config.cluster?.advertise ?? nowhere;
    const founded = await foundCluster(() => machine.state, directory.identity, address, this.#proposer);
    if (founded.ok && machine.state.member(directory.identity.memberId) !== null) {
      await settleFounder(directory).catch((thrown: unknown) => {
        logger.warn('the identity could not be settled; the next start tries again', { error: thrown });
      });
    }
    return founded;
  }

  #bindPeers(): void {
    const { opened } = this.#parts;
    opened.peers?.bind({
      inbox: opened.inbox,
      onJoin: (request) => this.#welcomes.welcome(request),
      onCall: (from, command, body) => this.#runForMember(from, command, body),
      onRefused: (by, refusal) => void this.#fencing.refused(by, refusal),
    });
  }

  async #runForMember(from: string, command: string, content: unknown): Promise<Result<unknown, AdminError>> {
    const name = this.#parts.opened.machine.state.member(from)?.name ?? from;
    const forwarded = readForwarded(name, command, content);
    if (!forwarded.ok) return forwarded;
    return this.#api.run(command, forwarded.value.body, forwarded.value.caller);
  }

  #membersMayHaveChanged(): void {
    this.#parts.opened.peers?.refresh();
    this.#fencing.heedRemoval();
  }

  /** Replication has stopped here. */
  halted(reason: string): void {
    this.standing.update();
    this.#fencing.halted(reason);
  }

  /** False when this process ends first. */
  #wait(ms: number): Promise<boolean> {
    return delay(ms, true, { signal: this.#ending.signal }).catch(() => false);
  }

  #watchStanding(): void {
    this.standing.update();
    this.#logLeader();
    void this.#diskSpace.look();
    this.#cancelStanding = systemTimers.after(standingIntervalMs, () => this.#watchStanding());
  }

  #watchIvs(): void {
    this.#ivWatch.look();
    this.#cancelIvLook = systemTimers.after(ivLookMs, () => this.#watchIvs());
  }

  #logLeader(): void {
    const { opened, logger } = this.#parts;
    const { leader, term } = opened.engine.status().raft;
    if (leader === this.#leader) return;
    this.#leader = leader;
    const name = leader === null ? null : (opened.machine.state.member(leader)?.name ?? leader);
    logger.info(name === null ? 'no leader is known' : 'another leader', { leader: name, term });
  }

  fleetChanged(fleet: Extract<SupervisorMessage, { kind: 'fleet' }>): void {
    this.fleet = { configured: fleet.servingProcesses, ready: fleet.readyServingProcesses };
    this.#running = fleet.running;
    this.publication.fleetChanged();
  }

  /** Finishes commands under way, then the log. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { opened, lastConfirmation, logger } = this.#parts;
    this.#ending.abort();
    this.#cancelStanding();
    this.#cancelIvLook();
    this.#ivReservations.close();
    this.#handOver();
    await this.#adminServer.close();
    await Promise.all([this.publication.close(), this.#metricsServer.close()]);
    await opened.log.close();
    await lastConfirmation.close();
    logger.flush();
  }

  /** A leader that ends leaves the lead to another, so that nobody waits for an election. */
  #handOver(): void {
    const { engine } = this.#parts.opened;
    const { raft } = engine.status();
    if (raft.role !== 'leader') return;
    const successor = successorOf(raft);
    if (successor !== null) engine.transferLeadership(successor.memberId);
  }
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
