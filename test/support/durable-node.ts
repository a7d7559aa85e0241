import { systemClock } from '../../src/base/clock.js';
import { err, type Result } from '../../src/base/result.js';
import { systemTimers, type Timers } from '../../src/base/timers.js';
import {
  type DataDirectory,
  type DataDirectoryError,
  initialiseDataDirectory,
  openDataDirectory,
} from '../../src/replication/data-directory.js';
import type { FileOperations } from '../../src/replication/file-operations.js';
import type { OrderedLog, StateMachine } from '../../src/replication/ordered-log.js';
import { openRaftLog, type RaftLogOptions } from '../../src/replication/raft-log.js';
import { raftLogLimits } from '../../src/replication/raft-log-limits.js';
import type { DiskImage } from './memory-disk.js';

/** Where the data directory lies on a `MemoryDisk`. */
export const dataDirectory = '/data';

export const emptyDisk: DiskImage = { directories: new Set(['/']), files: new Map() };

/** Small: disks in memory are copied often. */
const ballastBytes = 700;

export function initialise(
  files: FileOperations,
  dir = dataDirectory,
): Promise<Result<null, { message: string }>> {
  return initialiseDataDirectory({
    dir,
    files,
    role: 'founder',
    nodeName: 'node-a',
    clusterId: 'cluster-1',
    memberId: 'member-1',
    ballastBytes,
  });
}

export function openDirectory(
  files: FileOperations,
  dir = dataDirectory,
): Promise<Result<DataDirectory, DataDirectoryError>> {
  return openDataDirectory({ dir, nodeName: 'node-a', files, tryLockFile: () => 0, pid: 1, ballastBytes });
}

export interface OpenNodeOptions {
  readonly dir?: string;
  readonly timers?: Timers;
  readonly segmentBytesMax?: number;
  readonly snapshotEntries?: number;
  readonly onFatal?: (message: string) => void;
  readonly onHalted?: (reason: string) => void;
  readonly onWarning?: (message: string) => void;
}

/** Ticks come as fast as they can be taken: nothing that is tested waits for time. Not beside a real disk, which does. */
export const hastyTimers: Timers = {
  after: (delayMs, run) => {
    if (delayMs > raftLogLimits.tickMs) return systemTimers.after(delayMs, run);
    const turn = setImmediate(run);
    return () => clearImmediate(turn);
  },
};

/** Of a node on its own in the tests. */
export const nodeReport = () => ({
  nodeName: 'node-a',
  version: '0.0.0',
  formatMax: 1,
  configHash: '',
  wallMs: 0,
  servingAppliedIndex: 0,
  readyServingProcesses: 0,
});

/** Opens an initialised data directory and the log in it, and waits until all that is committed is applied. */
export async function openNode<R>(
  files: FileOperations,
  stateMachine: StateMachine<R>,
  options: OpenNodeOptions = {},
): Promise<Result<OrderedLog<R>, { readonly message: string }>> {
  const { dir, snapshotEntries, onFatal = throwing, onHalted = throwing, ...rest } = options;
  const directory = await openDirectory(files, dir);
  if (!directory.ok) return err(directory.error);
  const limits: RaftLogOptions<R>['limits'] = snapshotEntries === undefined ? {} : { snapshotEntries };
  const opened = await openRaftLog({
    directory: directory.value,
    stateMachine,
    timers: hastyTimers,
    bootTimeMs: systemClock.monotonicMs,
    random: () => 0.5,
    report: nodeReport,
    onFatal,
    onHalted,
    onWarning: () => {},
    limits,
    ...rest,
  });
  if (!opened.ok) return opened;
  await opened.value.log.readIndex();
  return { ok: true, value: opened.value.log };
}

function throwing(message: string): never {
  throw new Error(message);
}
