import { join } from 'node:path';
import { errorText, invariant } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import type { HardState, LogPosition } from '../raft/types.js';
import { type DataDirectory, directoryAs } from './data-directory.js';
import { type Identity, writeIdentity } from './identity-file.js';
import { encodeItems } from './log-items.js';
import { chainStart, encodeRecord } from './log-record.js';
import { recoverLog } from './log-recovery.js';
import { createSegment } from './segment-file.js';
import { snapshotName, writeSnapshot } from './snapshot-file.js';

/** What takes the place of a data directory's log. */
export interface LogReplacement {
  /** Of the cluster from now on. */
  readonly clusterId: string;
  /** Of the last entry that `records` hold. */
  readonly position: LogPosition;
  /** Committed up to `position`. */
  readonly hardState: HardState;
  /** The state machine's snapshot as of `position`. */
  readonly records: Iterable<Uint8Array>;
}

/**
 * Has the data directory, which is open and locked, begin anew from a snapshot, as another cluster's. The new log is made
 * whole beside the old one and read back; then one rename, that of the identity, puts it in force: a crash leaves the
 * directory as it was or as it is to be. The old log stays on the disk, out of force.
 */
export async function replaceLog(
  directory: DataDirectory,
  replacement: LogReplacement,
): Promise<Result<Identity, string>> {
  const { nodeName, memberId, recoveries = 0 } = directory.identity;
  const { clusterId } = replacement;
  const identity: Identity = {
    nodeName,
    clusterId,
    memberId,
    role: 'founder',
    recoveries: recoveries + 1,
  };
  const { files, path } = directory;
  try {
    const problem = await writeLog(directoryAs(directory, identity), replacement);
    if (problem !== null) return err(`${problem}. Nothing was changed: the log as it was is still in force`);
  } catch (thrown) {
    return err(
      `cannot write to ${path}: ${errorText(thrown)}. Nothing was changed: the log as it was is still in force`,
    );
  }
  try {
    await writeIdentity(files, path, identity);
    return ok(identity);
  } catch (thrown) {
    return err(
      `${join(path, 'identity.json')} may not have been written: ${errorText(thrown)}. The directory is as it was before, or recovered: repair the disk, and run the command again to see which`,
    );
  }
}

/** @returns why what was written is not what can be read; `null` when all is well. */
async function writeLog(made: DataDirectory, replacement: LogReplacement): Promise<string | null> {
  const { files, logPath, snapshotsPath, path } = made;
  const { clusterId, position, hardState, records } = replacement;
  const { index, term } = position;
  invariant(hardState.commitIndex === index && hardState.term >= term, 'a log begins with what is committed');
  for (const place of [logPath, snapshotsPath]) {
    // An attempt that a crash interrupted was never in force.
    if ((await files.stat(place)) === null) await files.makeDirectory(place);
    for (const name of await files.list(place)) await files.remove(join(place, name));
  }
  await files.syncDirectory(path);
  await writeSnapshot(files, snapshotsPath, snapshotName(index), { index, term, clusterId }, records);
  const segment = { clusterId, segment: 1, firstIndex: index + 1, position: chainStart };
  const { file, sizeBytes, position: next } = await createSegment(files, logPath, segment);
  try {
    const items = encodeItems([
      { kind: 'installedSnapshot', index, term },
      { kind: 'hardState', hardState },
    ]);
    await file.write(sizeBytes, encodeRecord(items, next).bytes);
    await file.dataSync();
  } finally {
    await file.close();
  }
  const read = await recoverLog(made);
  if (!read.ok) return read.error;
  return read.value.snapshot?.index === index && read.value.lastIndex === index
    ? null
    : `${path} does not hold what was written to it`;
}
