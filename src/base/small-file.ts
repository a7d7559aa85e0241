import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { wipe } from './bytes.js';

/** Why a file is none that a person wrote for us to read; `message` goes on after the file's name. */
export class SmallFileError extends Error {
  override readonly name = 'SmallFileError';
}

export interface SmallFile {
  readonly bytes: Buffer;
  /** st_mode, of the very file that was read. */
  readonly mode: number;
}

/**
 * Reads a file that somebody named in a configuration or on a command line: it waits for no writer of a FIFO, and a
 * device or a file too long costs neither the process's time nor its memory. It may be a secret key: what is returned is
 * the only copy, and the caller's to wipe.
 *
 * @param bytesMax the longest that is read.
 * @throws SmallFileError for what is no regular file, or longer; otherwise as `node:fs` does, with its `code`.
 */
export function readSmallFile(path: string, bytesMax: number): SmallFile {
  // O_NONBLOCK: of a FIFO; it means nothing to a regular file.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  const chunks: Buffer[] = [];
  try {
    const stats = fstatSync(fd);
    if (stats.isDirectory()) throw new SmallFileError('a directory: give the file in it');
    if (!stats.isFile()) throw new SmallFileError('not a regular file');
    const tooLong = new SmallFileError(`longer than ${bytesMax} bytes`);
    if (stats.size > bytesMax) throw tooLong;
    const filled: Buffer[] = [];
    let length = 0;
    for (;;) {
      // One more than it has: what it has may grow meanwhile, and files of /proc have no size at all.
      const chunk = Buffer.alloc(Math.min(Math.max(stats.size, 4_096), bytesMax - length) + 1);
      chunks.push(chunk);
      const read = readSync(fd, chunk, 0, chunk.byteLength, null);
      if (read === 0) return { bytes: Buffer.concat(filled, length), mode: stats.mode };
      length += read;
      if (length > bytesMax) throw tooLong;
      filled.push(chunk.subarray(0, read));
    }
  } finally {
    for (const chunk of chunks) wipe(chunk);
    closeSync(fd);
  }
}
