import { setTimeout as delay } from 'node:timers/promises';
import { type Clock, systemClock } from '../base/clock.js';
import { loadNativeBinding } from '../base/native.js';
import { err, type Result } from '../base/result.js';
import type { Config } from '../ops/config.js';
import { type DataDirectory, openDataDirectory } from '../replication/data-directory.js';
import { type FileOperations, systemFiles } from '../replication/file-operations.js';

/** A predecessor that was killed holds the lock until the kernel is done with it. */
const lockWaitMs = 5_000;
const lockRetryMs = 50;
const ewouldblock = 11;

export interface WhenFreeOptions {
  readonly node: Config['node'];
  readonly files: FileOperations;
  readonly tryLockFile: (fd: number) => number;
  readonly clock: Clock;
}

/** Opens and locks this node's data directory. @returns a sentence for the operator when it cannot be had. */
export async function openWhenFree(options: WhenFreeOptions): Promise<Result<DataDirectory, string>> {
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

/**
 * Why a node must not be started on its data directory: another xksd has it, or it is another node's. To be asked
 * before anything logs in to the HSM or writes into that directory. `null` when nothing is wrong; the replica asks again
 * when it takes the directory for good.
 */
export async function dataDirectoryProblem(config: Config): Promise<string | null> {
  const native = loadNativeBinding();
  const opened = await openWhenFree({
    node: config.node,
    files: systemFiles,
    tryLockFile: (fd) => native.tryLockFile(fd),
    clock: systemClock,
  });
  if (!opened.ok) return opened.error;
  await opened.value.close();
  return null;
}
