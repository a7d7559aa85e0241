import { join } from 'node:path';
import type { DataDirectory } from './data-directory.js';
import type { OpenFile } from './file-operations.js';
import { isTemporary, type ReadSegment } from './segment-file.js';
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

/**
 * What was read is about to be built upon and told to others, and a process that was killed before its sync leaves it in
 * the page cache only. Written again, for after a sync that failed the kernel may take the pages for clean and a second
 * sync for done. Records before the last were synced before it was written. Closes the file when it can't.
 */
export async function makeEndDurable(file: OpenFile, last: ReadSegment): Promise<void> {
  const { lastRecordOffset, goodBytes, torn } = last;
  try {
    if (torn !== null) await file.truncate(goodBytes);
    await file.write(lastRecordOffset, (await file.readAll()).subarray(lastRecordOffset, goodBytes));
    await file.dataSync();
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The same for names: of a segment, a snapshot or the identity that was renamed into place by a process then killed. */
export async function syncDirectories({ files, path, logPath, snapshotsPath }: DataDirectory): Promise<void> {
  for (const directory of [logPath, snapshotsPath, path]) await files.syncDirectory(directory);
}

/** What a crash left of segments and snapshots that were being made. */
export async function removeTemporaryFiles({ files, logPath, snapshotsPath }: DataDirectory): Promise<void> {
  for (const path of [logPath, snapshotsPath]) {
    for (const name of await files.list(path)) {
      if (isTemporary(name)) await files.remove(join(path, name));
    }
  }
}
