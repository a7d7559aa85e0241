import { setTimeout as delay } from 'node:timers/promises';
import { encodeHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import type { RandomSource } from '../base/random.js';
import { err, ok, type Result } from '../base/result.js';
import { encodeCommand } from '../keystate/command-codec.js';
import { KeyStateMachine } from '../keystate/state-machine.js';
import type { CommandResult } from '../keystate/types.js';
import type { Config } from '../ops/config.js';
import { type DataDirectory, openDataDirectory } from '../replication/data-directory.js';
import type { FileOperations } from '../replication/file-operations.js';
import { openLogOfOne } from '../replication/log-of-one.js';
import type { OrderedLog } from '../replication/ordered-log.js';

/** A predecessor that was killed holds the lock until the kernel is done with it. */
const lockWaitMs = 5_000;
const lockRetryMs = 50;
const ewouldblock = 11;

export interface OpenLogOptions {
  readonly node: Config['node'];
  readonly files: FileOperations;
  readonly tryLockFile: (fd: number) => number;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly logger: Logger;
  /** The log can go on no more; the process should end. */
  readonly onFatal: (message: string) => void;
}

export interface OpenedLog {
  readonly log: OrderedLog<CommandResult>;
  readonly machine: KeyStateMachine;
}

/**
 * Opens this node's data directory and the log in it, and brings key state to its end. The first start of a new cluster
 * puts the cluster's identity into key state.
 *
 * @returns a sentence for the operator when it cannot be done; a restart would not help.
 */
export async function openLog(options: OpenLogOptions): Promise<Result<OpenedLog, string>> {
  const { logger, onFatal } = options;
  const directory = await openWhenFree(options);
  if (!directory.ok) return directory;
  const { identity } = directory.value;
  const machine = new KeyStateMachine();
  const log = await openLogOfOne({
    directory: directory.value,
    stateMachine: machine,
    onFatal,
    onWarning: (message) => logger.warn('the durable log was mended', { reason: message }),
  });
  if (!log.ok) return err(log.error.message);
  const problem = await initialiseCluster(options, log.value, machine, identity.clusterId);
  if (problem === null) return ok({ log: log.value, machine });
  await log.value.close();
  return err(problem);
}

async function openWhenFree(options: OpenLogOptions): Promise<Result<DataDirectory, string>> {
  const { node, files, tryLockFile, clock } = options;
  const endMs = clock.monotonicMs() + lockWaitMs;
  for (;;) {
    let isHeld = false;
    const directory = await openDataDirectory({
      dir: node.dataDir,
      nodeName: node.name,
      files,
      tryLockFile: (fd) => {
        const errno = tryLockFile(fd);
        isHeld = errno === ewouldblock;
        return errno;
      },
      pid: process.pid,
    });
    if (directory.ok) return directory;
    if (!isHeld || clock.monotonicMs() >= endMs) return err(directory.error.message);
    await delay(lockRetryMs);
  }
}

/** What is in the way, if anything. */
async function initialiseCluster(
  { node, clock, random }: OpenLogOptions,
  log: OrderedLog<CommandResult>,
  machine: KeyStateMachine,
  clusterId: string,
): Promise<string | null> {
  const known = machine.state.cluster();
  if (known !== null) {
    if (known.clusterId === clusterId) return null;
    return (
      `the log in ${node.dataDir} is of cluster ${known.clusterId}, its identity.json of cluster ${clusterId}: ` +
      'they were mixed up; restore the directory from a backup of this node'
    );
  }
  const proposed = await log.propose(
    encodeCommand({
      type: 'cluster.init',
      clusterId,
      nodeName: node.name,
      requestId: encodeHex(random.bytes(16)),
      atMs: clock.wallMs(),
      by: 'cluster init',
    }),
  );
  if (!proposed.ok) return `the identity of the cluster could not be logged: ${proposed.error.kind}`;
  const { result } = proposed.value;
  return result.ok ? null : result.error.message;
}
