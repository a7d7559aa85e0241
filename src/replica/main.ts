import { systemClock } from '../base/clock.js';
import { loadNativeBinding } from '../base/native.js';
import { systemRandom } from '../base/random.js';
import { systemTimers } from '../base/timers.js';
import { attachToSupervisor } from '../ops/child-link.js';
import { createLogger, warnOfCoreDumps } from '../ops/logging.js';
import type { SupervisorMessage } from '../ops/supervision.js';
import { softwareVersion } from '../ops/version.js';
import { systemFiles } from '../replication/file-operations.js';
import { LastConfirmation } from './last-confirmation.js';
import { nodeReport } from './node-report.js';
import { openLog } from './open-log.js';
import { Replica } from './replica.js';
import { roomToWrite } from './room-to-write.js';
import { timedFiles } from './timed-files.js';

/**
 * The composition root of the replica. Returns once it runs; the process ends by its supervisor's word.
 *
 * @param onBegin when the supervisor has given it its configuration: until then it may have been waiting for long.
 */
export async function runReplica(onBegin: () => void): Promise<void> {
  const early: SupervisorMessage[] = [];
  let receive = (message: SupervisorMessage): void => void early.push(message);
  const supervisor = attachToSupervisor({ onMessage: (message) => receive(message) });

  const config = await supervisor.config;
  const startedAtMs = systemClock.wallMs();
  onBegin();
  const logger = createLogger({ level: config.log.level, role: 'replica', slot: 0 });
  process.on('exit', () => logger.flush());
  warnOfCoreDumps(logger, supervisor.coreDumpErrno);
  const native = loadNativeBinding();
  const version = softwareVersion();
  let observeSync: (durationMs: number) => void = () => {};
  let replica: Replica | null = null;
  /** Why the log has failed; this process ends by itself. */
  let failure: string | null = null;
  let fullDisk: string | null = null;
  let isUp = false;
  const end = (reason: string): void => {
    logger.error('the durable log failed; the replica ends', { reason });
    logger.flush();
    process.exit(1);
  };
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
        version,
        wallMs: systemClock.wallMs(),
        readyServingProcesses: replica?.fleet.ready ?? 0,
        publication: replica?.publication ?? null,
      }),
    // Nothing is retried in place: what the disk holds now is found out by reading it anew, by the next process. Until
    // there is room for that one, this one goes on with all that needs no disk: its links, and telling what is wrong.
    onFatal: (reason, directory) => {
      failure = reason;
      replica?.halted(reason);
      const onFull = (): void => {
        logger.error('the disk is full: replication has stopped here until there is room', { reason });
        fullDisk = `the disk of the data directory is full: ${reason}`;
        if (isUp) supervisor.reportReadiness(false, fullDisk);
      };
      void roomToWrite(directory, systemTimers, onFull).then(() => end(reason));
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
  replica = new Replica({
    config,
    logger,
    startedAtMs,
    supervisorNonce: supervisorNonce(),
    opened: opened.value,
    lastConfirmation,
  });
  const running = replica;
  observeSync = (durationMs) => running.metrics.observeLogSync(durationMs);
  receive = (message) => {
    if (message.kind === 'fleet') running.fleetChanged(message);
    else void running.close().then(() => process.exit(0));
  };
  // Before anybody can ask what has been applied: who is to apply it.
  for (const message of early) receive(message);
  const started = await running.start(process.env['XKSD_METRICS_FD']);
  if (!started.ok && failure !== null) return;
  if (!started.ok) {
    await running.close();
    return supervisor.reportFatal(started.error);
  }
  supervisor.reportReadiness(true, 'ready');
  isUp = true;
  // It was up: what serves has its key state.
  if (fullDisk !== null) supervisor.reportReadiness(false, fullDisk);
  logger.info('the replica is up', {
    appliedIndex: opened.value.log.appliedIndex,
    version,
  });
}

function supervisorNonce(): string {
  const value = process.env['XKSD_SUPERVISOR_NONCE'];
  if (value === undefined)
    throw new Error('XKSD_SUPERVISOR_NONCE is not set: the supervisor starts this process');
  return value;
}
