import { remainingBytes } from '../replication/ballast.js';
import type { DataDirectory } from '../replication/data-directory.js';

/**
 * With less free, an operator is told: a snapshot is written while the one before it is still there, and the log grows
 * meanwhile. The ballast (16 MiB) is what is left when nobody heeds it.
 */
export const freeBytesWarning = 256 * 1024 * 1024;

const mebibyte = 1024 * 1024;

/** The room left on the disk of the data directory, as it was last looked at: asking never waits for a disk that hangs. */
export class DiskSpace {
  readonly #directory: Pick<DataDirectory, 'files' | 'path'>;
  #freeBytes: number | null = null;
  #looking = false;

  constructor(directory: Pick<DataDirectory, 'files' | 'path'>) {
    this.#directory = directory;
  }

  /** `null`: not known, or not any more. */
  get freeBytes(): number | null {
    return this.#freeBytes;
  }

  /** Does nothing while an earlier look has not ended. */
  async look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    this.#freeBytes = await remainingBytes(this.#directory).catch(() => null);
    this.#looking = false;
  }
}

/** What an operator should know of it; `null` when there is room. */
export function diskSpaceFinding(freeBytes: number | null): string | null {
  if (freeBytes === null || freeBytes >= freeBytesWarning) return null;
  return `the disk of the data directory has ${Math.floor(freeBytes / mebibyte)} MiB left: free some, since on a full disk no change is made`;
}
