import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { DataDirectory } from './data-directory.js';
import type { FileOperations } from './file-operations.js';
import { replaceFile } from './replaced-file.js';

/**
 * A file that is only there to be removed: on a full disk nothing can be written, not even the snapshot after which old
 * log may go.
 */
export const ballastName = 'ballast';

/** As much as a log segment: room for a snapshot and a new segment. 0: no ballast. */
export const ballastBytesDefault = 16 * 1024 * 1024;

/**
 * What must stay free beside it, for the log: sixteen of the longest commands. With less, a replica that starts would soon
 * end again.
 */
export const roomBesideBallastBytes = 1024 * 1024;

const chunkBytesMax = 1024 * 1024;

/** Why there is no room for a ballast of so many bytes, if there is none. */
export async function ballastRoomProblem(
  files: FileOperations,
  dir: string,
  bytes: number,
): Promise<string | null> {
  if (bytes === 0) return null;
  const freeBytes = await files.freeBytes(dir);
  return freeBytes < bytes + roomBesideBallastBytes
    ? `the ballast’s ${bytes} bytes and room for the log are more than the ${freeBytes} that are free`
    : null;
}

/**
 * Makes the ballast unless it is there. Rejects when the disk has no room for it and the log: who has removed it to have
 * room must not lose that to the next one.
 */
export async function ensureBallast(files: FileOperations, dir: string, bytes: number): Promise<void> {
  const path = join(dir, ballastName);
  if (bytes === 0 || (await files.stat(path)) !== null) return;
  const problem = await ballastRoomProblem(files, dir, bytes);
  if (problem !== null) throw new Error(problem);
  try {
    await replaceFile(files, dir, ballastName, ballastChunks(bytes));
  } catch (error) {
    // Half of it would take the room that is left.
    await files.remove(`${path}.tmp`).catch(() => {});
    throw error;
  }
}

/** Bytes that no file system keeps in less room: neither zero nor compressible. */
function* ballastChunks(bytes: number): Iterable<Uint8Array> {
  for (let offset = 0; offset < bytes; offset += chunkBytesMax) {
    const outputLength = Math.min(chunkBytesMax, bytes - offset);
    yield createHash('shake256', { outputLength }).update(`ballast ${offset}`).digest();
  }
}

/** Gives its room back; the next start takes it again when it can. False when there was none. */
export async function releaseBallast({ files, path }: DataDirectory): Promise<boolean> {
  const ballast = join(path, ballastName);
  if ((await files.stat(ballast)) === null) return false;
  await files.remove(ballast);
  await files.syncDirectory(path);
  return true;
}

/** What this process may still write beside the ballast. */
export const remainingBytes = ({ files, path }: Pick<DataDirectory, 'files' | 'path'>): Promise<number> =>
  files.freeBytes(path);
