import { join } from 'node:path';
import type { DataDirectory } from './data-directory.js';
import type { OpenFile } from './file-operations.js';
import { isTemporary } from './segment-file.js';
import { receivedSnapshotIndex, receivedSnapshotName, snapshotName } from './snapshot-file.js';

/** Gives the received snapshot that took the log's place its name for good. */
export async function settleReceived({ files, snapshotsPath }: DataDirectory, index: number): Promise<void> {
  await files.rename(
    join(snapshotsPath, receivedSnapshotName(index)),
    join(snapshotsPath, snapshotName(index)),
  );
  await files.syncDirectory(snapshotsPath);
}

/** Finishes what a crash interrupted in `installSnapshot`: the item in the log decides. */
export async function tidySnapshots(directory: DataDirectory, installedIndex: number | null): Promise<void> {
  const { files, snapshotsPath } = directory;
  for (const name of await files.list(snapshotsPath)) {
    const received = receivedSnapshotIndex(name);
    if (received === null) continue;
    if (received === installedIndex) await settleReceived(directory, received);
    else await files.remove(join(snapshotsPath, name));
  }
}

/** Closes the file when it can't. */
export async function cutFile(file: OpenFile, length: number): Promise<void> {
  try {
    await file.truncate(length);
    await file.dataSync();
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** What a crash left of segments and snapshots that were being made. */
export async function removeTemporaryFiles({ files, logPath, snapshotsPath }: DataDirectory): Promise<void> {
  for (const path of [logPath, snapshotsPath]) {
    for (const name of await files.list(path)) {
      if (isTemporary(name)) await files.remove(join(path, name));
    }
  }
}
