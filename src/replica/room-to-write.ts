import { join } from 'node:path';
import type { Timers } from '../base/timers.js';
import { remainingBytes, roomBesideBallastBytes } from '../replication/ballast.js';
import type { DataDirectory } from '../replication/data-directory.js';
import { isErrno } from '../replication/file-operations.js';
import { isTemporary } from '../replication/segment-file.js';
import { snapshotIndex } from '../replication/snapshot-file.js';

export const roomLookMs = 500;
/** Between two tries of a disk that has room and refuses it: each writes. */
export const trialIntervalMs = 10_000;
/** A disk that does not say in time how much room it has fails for another reason. */
export const lookTimeoutMs = 2_000;
/** Of a trial's writes. */
const trialChunkBytes = 256 * 1024;
/** Removed with what else a crash may leave in the log's folder, when a replica starts. */
const trialName = 'room.tmp';

type Place = Pick<DataDirectory, 'files' | 'path' | 'logPath' | 'snapshotsPath'>;

/**
 * Waits until the disk of the data directory has the room that a start needs; not at all when it has, or does not say. To
 * start anew on a disk that is still full would only cost what serving needs, and end at the first write.
 *
 * How much room there is the disk is asked twice a second. What it then has it may still refuse, to this user (a quota,
 * EDQUOT) or for want of something else (ENOSPC for a file without an inode): so it is tried, every ten seconds.
 *
 * @param onFull once, before it waits.
 */
export async function roomToWrite(directory: Place, timers: Timers, onFull: () => void): Promise<void> {
  const within = (ms: number): Promise<null> =>
    new Promise((resolve) => timers.after(ms, () => resolve(null)));
  let told = false;
  for (;;) {
    const looked = look(directory).catch(() => null);
    const found = await Promise.race([looked, within(lookTimeoutMs)]);
    if (found === null || found === 'room') return;
    if (!told) onFull();
    told = true;
    await within(found === 'full' ? roomLookMs : trialIntervalMs);
  }
}

/** `refused`: there is room, and not for us. Rejects with the system's error when the disk fails for another reason. */
async function look(directory: Place): Promise<'room' | 'full' | 'refused'> {
  const { neededBytes, leftoverBytes } = await startNeeds(directory);
  if ((await remainingBytes(directory)) + leftoverBytes < neededBytes) return 'full';
  try {
    await tryToWrite(directory, Math.max(0, neededBytes - leftoverBytes));
    return 'room';
  } catch (error) {
    if (isErrno(error, 'ENOSPC') || isErrno(error, 'EDQUOT')) return 'refused';
    throw error;
  }
}

/**
 * What a start needs: what the log always has beside the ballast, and where a snapshot was being written when the disk
 * failed, room for that one, as the next process begins with it anew: by all accounts as much as the last one took. What
 * there is of the unfinished one is room, too: a start removes it.
 */
async function startNeeds({ files, snapshotsPath }: Place): Promise<{
  readonly neededBytes: number;
  readonly leftoverBytes: number;
}> {
  const names = await files.list(snapshotsPath);
  const sizeOf = async (name: string): Promise<number> =>
    (await files.stat(join(snapshotsPath, name)))?.sizeBytes ?? 0;
  const leftovers = await Promise.all(names.filter(isTemporary).map(sizeOf));
  const whole = await Promise.all(names.filter((name) => snapshotIndex(name) !== null).map(sizeOf));
  const snapshotBytes = leftovers.length === 0 ? 0 : Math.max(0, ...whole);
  return {
    neededBytes: roomBesideBallastBytes + snapshotBytes,
    leftoverBytes: leftovers.reduce((sum, bytes) => sum + bytes, 0),
  };
}

/** Writes so much and removes it. Rejects with the system's error. */
async function tryToWrite({ files, logPath }: Place, bytes: number): Promise<void> {
  const path = join(logPath, trialName);
  if ((await files.stat(path)) !== null) await files.remove(path);
  const file = await files.open(path, 'create');
  try {
    for (let offset = 0; offset < bytes; offset += trialChunkBytes) {
      await file.write(offset, Buffer.alloc(Math.min(trialChunkBytes, bytes - offset), 1));
    }
    await file.dataSync();
  } finally {
    await file.close();
    await files.remove(path);
  }
}
