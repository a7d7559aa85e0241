import { err, type Result } from '../../src/base/result.js';
import { initialiseDataDirectory, openDataDirectory } from '../../src/replication/data-directory.js';
import type { FileOperations } from '../../src/replication/file-operations.js';
import { openLogOfOne } from '../../src/replication/log-of-one.js';
import type { OrderedLog, StateMachine } from '../../src/replication/ordered-log.js';
import type { DiskImage } from './memory-disk.js';

/** Where the data directory lies on a `MemoryDisk`. */
export const dataDirectory = '/data';

export const emptyDisk: DiskImage = { directories: new Set(['/']), files: new Map() };

export function initialise(
  files: FileOperations,
  dir = dataDirectory,
): Promise<Result<null, { message: string }>> {
  return initialiseDataDirectory({
    dir,
    files,
    nodeName: 'node-a',
    clusterId: 'cluster-1',
    memberId: 'member-1',
  });
}

export interface OpenNodeOptions {
  readonly dir?: string;
  readonly segmentBytesMax?: number;
  readonly snapshotEntries?: number;
  readonly onFatal?: (message: string) => void;
  readonly onWarning?: (message: string) => void;
}

/** Opens an initialised data directory and the log in it. */
export async function openNode<R>(
  files: FileOperations,
  stateMachine: StateMachine<R>,
  options: OpenNodeOptions = {},
): Promise<Result<OrderedLog<R>, { readonly message: string }>> {
  const { dir = dataDirectory, onFatal = throwing, onWarning = () => {}, ...sizes } = options;
  const directory = await openDataDirectory({ dir, nodeName: 'node-a', files, tryLockFile: () => 0, pid: 1 });
  if (!directory.ok) return err(directory.error);
  return openLogOfOne({ directory: directory.value, stateMachine, onFatal, onWarning, ...sizes });
}

function throwing(message: string): never {
  throw new Error(message);
}
