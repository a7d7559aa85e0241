import { join } from 'node:path';
import type { Test } from 'tap';
import { type Clock, systemClock } from '../../src/base/clock.js';
import { type Logger, silentLogger } from '../../src/base/logger.js';
import { systemRandom } from '../../src/base/random.js';
import type { Result } from '../../src/base/result.js';
import { systemTimers } from '../../src/base/timers.js';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import { commandFormatMax } from '../../src/keystate/command-format.js';
import { mintRequestId, requestIdRandomBytes } from '../../src/keystate/request-id.js';
import { AdminApi } from '../../src/replica/admin-api.js';
import type { AdminCommand, AdminRequest, AdminResponse } from '../../src/replica/admin-contract.js';
import type { AdminError } from '../../src/replica/admin-error.js';
import { ChangeProposer } from '../../src/replica/change-proposer.js';
import { CredentialUse } from '../../src/replica/credential-use.js';
import { HsmRequests } from '../../src/replica/hsm-requests.js';
import { proposingTo } from '../../src/replica/iv-proposals.js';
import { IvReservations } from '../../src/replica/iv-reservations.js';
import { IvWatch } from '../../src/replica/iv-watch.js';
import { StatePublication } from '../../src/replica/state-publication.js';
import { requestIdAt } from '../support/founded-cluster.js';
import { shortDirectory } from '../support/short-directory.js';
import { FakeCluster } from './fake-cluster.js';
import { FakeServingProcess, testNonce } from './fake-serving-process.js';
import { MemoryLog } from './memory-log.js';

export interface ReplicaAtSeams {
  readonly log: MemoryLog;
  readonly cluster: FakeCluster;
  readonly publication: StatePublication;
  readonly hsm: HsmRequests;
  readonly fleet: { configured: number; ready: number };
  readonly diskSpace: { freeBytes: number | null };
  /** What `clock.wallMs()` says. */
  readonly now: { wallMs: number };
  readonly ivWatch: IvWatch;
  readonly ivReservations: IvReservations;
  readonly clock: Clock;
  readonly proposer: ChangeProposer;
  readonly directory: string;
  link(options?: Parameters<typeof FakeServingProcess.link>[1]): Promise<FakeServingProcess>;
  readonly api: AdminApi;
  run<C extends AdminCommand>(
    command: C,
    request: AdminRequest<C>,
    requestId?: string,
  ): Promise<Result<AdminResponse<C>, AdminError>>;
}

/** Root, with a request of its own. */
export const caller = (requestId = mintRequestId(Date.now(), systemRandom.bytes(requestIdRandomBytes))) => ({
  uid: 0,
  requestId,
});

export interface SeamOptions {
  readonly hsmTimeoutMs?: number;
  readonly hsmWaitMs?: number;
  readonly acknowledgementTimeoutMs?: number;
  readonly logger?: Logger;
}

/** A replica but for its process: the log is in memory, the serving processes are fakes on a real socket. */
export async function makeReplica(t: Test, options: SeamOptions = {}): Promise<ReplicaAtSeams> {
  const directory = shortDirectory(t);
  const socketPath = join(directory, 'state.sock');
  const log = new MemoryLog();
  const cluster = new FakeCluster(log);
  const fleet = { configured: 0, ready: 0 };
  const diskSpace: ReplicaAtSeams['diskSpace'] = { freeBytes: 2 ** 40 };
  const now = { wallMs: Date.now() };
  const clock: Clock = { ...systemClock, wallMs: () => now.wallMs };
  const logger = options.logger ?? silentLogger;
  const publication = new StatePublication({
    socketPath,
    supervisorNonce: testNonce,
    state: log,
    logger,
    isProcessAlive: () => false,
    runningServingProcesses: () => [],
    standing: { mayServe: true, reason: '', fleetSize: 1 },
  });
  const listening = await publication.listen();
  if (!listening.ok) throw new Error(listening.error);
  const linked: FakeServingProcess[] = [];
  t.teardown(async () => {
    for (const serving of linked) serving.end();
    await publication.close();
  });
  const hsm = new HsmRequests(publication, {
    timeoutMs: options.hsmTimeoutMs ?? 60_000,
    waitMs: options.hsmWaitMs ?? 0,
  });
  const credentialUse = new CredentialUse(publication, () => log.machine.state, clock);
  const proposer = new ChangeProposer({
    log,
    encodeCommand,
    activeFormat: () => log.machine.state.activeFormat(),
    publication,
    clock,
    random: systemRandom,
    logger,
    acknowledgementTimeoutMs: options.acknowledgementTimeoutMs ?? 60_000,
  });
  const ivReservations = new IvReservations({
    propose: proposingTo(log),
    encodeCommand,
    activeFormat: () => log.machine.state.activeFormat(),
    clock,
    timers: systemTimers,
    random: systemRandom,
    logger,
  });
  publication.observe(ivReservations);
  const ivWatch = new IvWatch({ state: () => log.machine.state, logger });
  const api = new AdminApi(
    {
      node: { name: 'node-1', version: '0.0.0', startedAtMs: now.wallMs },
      get state() {
        return log.machine.state;
      },
      proposer,
      publication,
      hsm,
      credentialUse,
      clock,
      random: systemRandom,
      cluster,
      diskSpace,
      ivWatch,
      ivReservations,
      fleet: () => fleet,
    },
    logger,
  );
  return {
    log,
    cluster,
    publication,
    hsm,
    fleet,
    diskSpace,
    ivWatch,
    ivReservations,
    now,
    clock,
    proposer,
    directory,
    api,
    link: async (linkOptions) => {
      const serving = await FakeServingProcess.link(socketPath, linkOptions);
      linked.push(serving);
      await serving.until(() => serving.snapshots > 0);
      return serving;
    },
    run: async <C extends AdminCommand>(command: C, request: AdminRequest<C>, requestId?: string) =>
      (await api.run(command, request, caller(requestId))) as Result<AdminResponse<C>, AdminError>,
  };
}

/** The first node of a cluster, in memory. */
export async function foundedReplica(t: Test): Promise<ReplicaAtSeams> {
  const replica = await makeReplica(t, { acknowledgementTimeoutMs: 10 });
  const { log, now, cluster } = replica;
  await log.propose(
    encodeCommand({
      type: 'cluster.init',
      requestId: requestIdAt(now.wallMs),
      atMs: now.wallMs,
      by: 'test',
      clusterId: cluster.clusterId,
      nodeName: 'node-1',
      memberId: cluster.memberId,
      address: 'node-1:7443',
      format: commandFormatMax,
    }),
  );
  return replica;
}
