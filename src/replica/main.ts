import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '../base/clock.js';
import { loadNativeBinding } from '../base/native.js';
import { systemRandom } from '../base/random.js';
import { err, type Result } from '../base/result.js';
import { systemTimers } from '../base/timers.js';
import { encodeCommand } from '../keystate/command-codec.js';
import { commandFormatMax } from '../keystate/command-format.js';
import { mintRequestId, requestIdRandomBytes } from '../keystate/request-id.js';
import type { CommandResult } from '../keystate/types.js';
import { attachToSupervisor } from '../ops/child-link.js';
import type { Config } from '../ops/config.js';
import { createLogger, type ProcessLogger, warnOfCoreDumps } from '../ops/logging.js';
import { createProcessRegistry } from '../ops/metrics.js';
import { stateSocketPath } from '../ops/state-link.js';
import type { RunningServingProcess, SupervisorMessage } from '../ops/supervision.js';
import { softwareVersion } from '../ops/version.js';
import { eraseJoinSecret, settleFounder } from '../replication/data-directory.js';
import { writeFence } from '../replication/fence-file.js';
import { systemFiles } from '../replication/file-operations.js';
import type { AppliedEntry } from '../replication/ordered-log.js';
import type { Refusal } from '../replication/transport/refusal.js';
import { AdminApi } from './admin-api.js';
import type { AdminError } from './admin-error.js';
import { AdminServer } from './admin-server.js';
import { ChangeProposer } from './change-proposer.js';
import type { ClusterControl } from './cluster-control.js';
import { ClusterMetrics } from './cluster-metrics.js';
import { peerFormats } from './cluster-peers.js';
import { CredentialUse } from './credential-use.js';
import { readForwarded } from './forwarded-command.js';
import { foundCluster } from './found-cluster.js';
import { HsmRequests } from './hsm-requests.js';
import { joinCluster, Welcomes } from './join-cluster.js';
import { LastConfirmation } from './last-confirmation.js';
import { MetricsAggregation } from './metrics-aggregation.js';
import { MetricsServer } from './metrics-server.js';
import { configHash, nodeReport } from './node-report.js';
import { type OpenedLog, openLog } from './open-log.js';
import { ReplicaMetrics } from './replica-metrics.js';
import { StandingWatch } from './standing-watch.js';
import { StatePublication } from './state-publication.js';
import { successorOf } from './successor.js';
import { timedFiles } from './timed-files.js';

/** Address of a node that no other can reach (RFC 2606 §2): its configuration has no `[cluster]`. */
const nowhere = 'no-cluster-section.invalid:7443';

/** How often liveness of other nodes and the like are looked at anew. */
const standingIntervalMs = 1_000;
const addressRetryMs = 5_000;
const fenceRetryMs = 1_000;
const refusalHoldsMs = 5_000;
/** One that has heard from a quorum so lately is no former member, whatever somebody says. */
const fenceAfterStaleMs = 5_000;

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
  let replica: Replica | null = null;
  const opened = await openLog({
    config,
    files: timedFiles(systemFiles, systemClock, (durationMs) => observeSync(durationMs)),
    tryLockFile: (fd) => native.tryLockFile(fd),
    clock: systemClock,
    timers: systemTimers,
    bootTimeMs: () => native.bootTimeMs(),
    random: systemRandom,
    logger,
    report: () =>
      nodeReport({
        config,
        version: softwareVersion(),
        wallMs: systemClock.wallMs(),
        readyServingProcesses: replica?.fleet.ready ?? 0,
        publication: replica?.publication ?? null,
      }),
    // Nothing is retried in place: what the disk holds now is found out by reading it anew.
    onFatal: (reason) => {
      logger.error('the durable log failed; the replica ends', { reason });
      logger.flush();
      process.exit(1);
    },
    onHalted: (reason) => {
      logger.error('replication has stopped on this node; what it serves grows old', { reason });
      replica?.halted(reason);
    },
  });
  if (!opened.ok) {
    const { message, transient } = opened.error;
    if (!transient) return supervisor.reportFatal(message);
    // Serving goes on, by what it has; the supervisor starts this process again.
    logger.error('the replica cannot start now', { reason: message });
    logger.flush();
    process.exit(1);
  }

  const lastConfirmation = await LastConfirmation.open(systemFiles, config.node.dataDir);
  replica = new Replica({ config, logger, startedAtMs, opened: opened.value, lastConfirmation });
  const running = replica;
  observeSync = (durationMs) => running.metrics.observeLogSync(durationMs);
  receive = (message) => {
    if (message.kind === 'fleet') running.fleetChanged(message);
    else void running.close().then(() => process.exit(0));
  };
  // Before anybody can ask what has been applied: who is to apply it.
  for (const message of early) receive(message);
  const started = await running.start(process.env['XKSD_METRICS_FD']);
  if (!started.ok) {
    await running.close();
    return supervisor.reportFatal(started.error);
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
  readonly lastConfirmation: LastConfirmation;
}

class Replica {
  readonly metrics: ReplicaMetrics;
  readonly publication: StatePublication;
  readonly standing: StandingWatch;
  fleet: { readonly configured: number; readonly ready: number };
  readonly #parts: ReplicaParts;
  readonly #adminServer: AdminServer;
  readonly #metricsServer: MetricsServer;
  readonly #proposer: ChangeProposer;
  readonly #api: AdminApi;
  readonly #ending = new AbortController();
  #running: readonly RunningServingProcess[] | null = null;
  #leader: string | null = null;
  #joinProblem: string | null = null;
  /** By member: what it said last, when it did not listen to this node, and when (boot clock). */
  readonly #refusals = new Map<string, { readonly refusal: Refusal; readonly atMs: number }>();
  readonly #welcomes: Welcomes;
  #cancelStanding: () => void = () => {};
  #closing: Promise<void> | null = null;

  constructor(parts: ReplicaParts) {
    this.#parts = parts;
    const { config, logger, startedAtMs, opened, lastConfirmation } = parts;
    const { log, machine, engine } = opened;
    const native = loadNativeBinding();
    const bootTimeMs = (): number => native.bootTimeMs();
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
    this.publication = new StatePublication({
      socketPath: stateSocketPath(config),
      supervisorNonce: supervisorNonce(),
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
      standing: this.standing.standing(),
    });
    const { publication } = this;
    this.standing.watch((standing) => publication.standingChanged(standing));
    const aggregation = new MetricsAggregation();
    publication.observe({
      onHello: (_, hello) => aggregation.linked(hello),
      onMetrics: (_, hello, { metrics }) => aggregation.report(hello, metrics),
      onHsmReply: () => {},
      onClosed: (_, hello) => aggregation.unlinked(hello),
    });
    this.metrics = new ReplicaMetrics({ state, publication, aggregation, engine, bootTimeMs });
    const processRegistry = createProcessRegistry({ droppedLogLines: () => logger.droppedLines() });
    const cluster = this.#control(bootTimeMs);
    const among = new ClusterMetrics({ cluster, state, clock: systemClock, version: softwareVersion() });
    this.#metricsServer = new MetricsServer(async () => {
      const node = [...(await this.metrics.json()), ...(await among.json())];
      return aggregation.families(node, await processRegistry.getMetricsAsJSON());
    });
    const common = { publication, clock: systemClock, random: systemRandom };
    this.#proposer = new ChangeProposer({
      ...common,
      log,
      encodeCommand,
      activeFormat: () => machine.state.activeFormat(),
      logger,
    });
    this.#welcomes = new Welcomes(state, this.#proposer, systemClock);
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

  #control(bootTimeMs: () => number): ClusterControl {
    const { config, opened } = this.#parts;
    const { engine, log, machine, peers } = opened;
    return {
      memberId: engine.memberId,
      clusterId: engine.clusterId,
      status: () => engine.status(),
      stateHash: () => machine.stateHash(),
      standing: () => this.standing.standing(),
      joinProblem: () => this.#joinProblem,
      refusals: () => this.#currentRefusals(),
      peerStats: () => peers?.stats() ?? null,
      certificateNotAfterMs: () => peers?.certificateNotAfterMs ?? null,
      transferLeadership: (memberId) => engine.transferLeadership(memberId),
      readIndex: async (timeoutMs) => {
        const read = await log.readIndex(timeoutMs);
        return read.ok ? read : err({ code: 'no-quorum', message: read.error.reason });
      },
      ask: (memberId, command, body, caller) =>
        peers === null
          ? Promise.resolve(err({ code: 'no-quorum', message: 'This node has no way to other members.' }))
          : peers.call(memberId, command, { body, uid: caller.uid, requestId: caller.requestId }),
      found: () => this.#found(),
      bootTimeMs,
      formatMax: commandFormatMax,
      configHash: configHash(config),
    };
  }

  /** @param metricsFd number of the descriptor of the metrics listener; without it none is served. */
  async start(metricsFd: string | undefined): Promise<Result<null, string>> {
    const { opened } = this.#parts;
    opened.log.subscribe({
      onEntry: (entry) => this.#onEntry(entry),
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
    const founded = await this.#found();
    void this.#join().then(() => this.#tellAddress());
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
      onRefused: (by, refusal) => void this.#refused(by, refusal),
    });
  }

  async #runForMember(from: string, command: string, content: unknown): Promise<Result<unknown, AdminError>> {
    const name = this.#parts.opened.machine.state.member(from)?.name ?? from;
    const forwarded = readForwarded(name, command, content);
    if (!forwarded.ok) return forwarded;
    return this.#api.run(command, forwarded.value.body, forwarded.value.caller);
  }

  #onEntry(_entry: AppliedEntry<CommandResult>): void {
    this.#membersMayHaveChanged();
  }

  #membersMayHaveChanged(): void {
    const { machine, engine, peers } = this.#parts.opened;
    peers?.refresh();
    for (const { memberId } of machine.state.formerMembers()) {
      if (memberId === engine.memberId) void this.#fence('this node was removed from the cluster');
    }
  }

  /** They are repeated each second while they hold. */
  #currentRefusals(): ReadonlyMap<string, Refusal> {
    const sinceMs = loadNativeBinding().bootTimeMs() - refusalHoldsMs;
    const current = [...this.#refusals].filter(([, { atMs }]) => atMs >= sinceMs);
    return new Map(current.map(([member, { refusal }]) => [member, refusal]));
  }

  /** Others that do not listen to this node may know better than it whether it is still a member (replication.md 14). */
  async #refused(by: string, refusal: Refusal): Promise<void> {
    const { opened, logger } = this.#parts;
    const { reason, detail } = refusal;
    const name = opened.machine.state.member(by)?.name ?? by;
    const isNews = this.#currentRefusals().get(by)?.reason !== reason;
    this.#refusals.set(by, { refusal, atMs: loadNativeBinding().bootTimeMs() });
    if (isNews) logger.warn('a member does not listen to this node', { member: name, reason, detail });
    if (reason !== 'removed' && reason !== 'other-cluster') return;
    const { freshAsOfMs } = opened.engine.status();
    const nowMs = loadNativeBinding().bootTimeMs();
    // Who has heard from a quorum just now is a member, whatever somebody says.
    if (freshAsOfMs !== null && nowMs - freshAsOfMs < fenceAfterStaleMs) return;
    await this.#fence(
      reason === 'removed'
        ? `${name} says that this node was removed from the cluster`
        : `${name} went on in a recovered cluster, which left this node behind`,
    );
  }

  async #fence(cause: string): Promise<void> {
    if (this.standing.fence !== null) return;
    const { config, logger } = this.#parts;
    const reason = `${cause}: it does not serve any more. To use this host again, empty ${config.node.dataDir}, and add and join it anew`;
    this.standing.fenced(reason);
    logger.error('fenced off', { reason });
    await this.#makeFenceDurable(reason);
  }

  /** A later start must not serve either: tried until the disk takes it. */
  async #makeFenceDurable(reason: string): Promise<void> {
    const { config, logger } = this.#parts;
    for (;;) {
      const written = await writeFence(systemFiles, config.node.dataDir, reason);
      if (written.ok) return;
      logger.error('the fence is not durable yet', { reason: written.error.message });
      if (!(await this.#wait(fenceRetryMs))) return;
    }
  }

  /** One whose state is in doubt must not serve by it after a restart, which forgets how that showed. */
  halted(reason: string): void {
    this.standing.update();
    const { divergent, raft } = this.#parts.opened.engine.status();
    if (divergent.length > 0 || raft.lostAcknowledged) void this.#makeFenceDurable(reason);
  }

  /** A node that was added shows its token until key state, which then comes, says that it is a member. */
  async #join(): Promise<void> {
    const { config, opened, logger } = this.#parts;
    const { directory, machine, peers } = opened;
    const { identity } = directory;
    if (identity.role !== 'joiner' || peers === null || config.cluster === null) return;
    const { joinSecret } = identity.join;
    if (machine.state.member(identity.memberId) === null && joinSecret !== null) {
      await joinCluster({
        join: { ...identity.join, joinSecret },
        request: {
          clusterId: identity.clusterId,
          memberId: identity.memberId,
          nodeName: identity.nodeName,
          advertise: config.cluster.advertise,
          formatMin: peerFormats.min,
          formatMax: commandFormatMax,
        },
        ask: (peer, request) => peers.join(peer, request),
        onWelcome: (members) => {
          this.#joinProblem = null;
          logger.info('this node may join', { members: members.map(({ name }) => name) });
          peers.introduced(members);
        },
        onProblem: (reason, isNews) => {
          this.#joinProblem = reason;
          if (isNews) logger.warn('joining the cluster', { reason });
        },
        wait: (ms) => this.#wait(ms),
      });
    }
    while (machine.state.member(identity.memberId) === null) {
      if (!(await this.#wait(standingIntervalMs))) return;
    }
    await eraseJoinSecret(directory).catch((thrown: unknown) => {
      logger.warn('the used join secret could not be erased', { error: thrown });
    });
  }

  /** The others reach this node where its configuration says, once key state has it. */
  async #tellAddress(): Promise<void> {
    const { config, opened, logger } = this.#parts;
    const address = config.cluster?.advertise;
    if (address === undefined || opened.fence !== null) return;
    for (;;) {
      const member = opened.machine.state.member(opened.engine.memberId);
      if (member === null || member.address === address) return;
      const { memberId } = member;
      const told = await this.#proposer.propose(
        { type: 'member.update', memberId, address },
        { by: 'configuration' },
      );
      if (told.ok) return;
      const isRefused = told.error.code !== 'no-quorum' && told.error.code !== 'outcome-unknown';
      logger.warn("the other nodes do not know this node's address yet", {
        address,
        reason: told.error.message,
      });
      if (isRefused || !(await this.#wait(addressRetryMs))) return;
    }
  }

  /** False when this process ends first. */
  #wait(ms: number): Promise<boolean> {
    return delay(ms, true, { signal: this.#ending.signal }).catch(() => false);
  }

  #watchStanding(): void {
    this.standing.update();
    this.#logLeader();
    this.#cancelStanding = systemTimers.after(standingIntervalMs, () => this.#watchStanding());
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
