import { join } from 'node:path';
import type { FileOperations } from '../replication/file-operations.js';

const fileName = 'confirmed';
const recordPattern = /^([0-9]{1,15})\n$/;
/** Coarse on purpose: it is held against `serveStaleMaxMs`, which is hours. */
const writeIntervalMs = 30_000;

/**
 * When (wall clock) a quorum last confirmed this node's key state, kept over restarts: a cold start without quorum
 * serves only when that is not too long ago (replication.md 10). Freshness itself is never kept.
 */
export class LastConfirmation {
  readonly #files: FileOperations;
  readonly #path: string;
  readonly #atMs: number | null;
  #writtenAtMs = Number.NEGATIVE_INFINITY;
  #writing: Promise<void> | null = null;

  private constructor(files: FileOperations, path: string, atMs: number | null) {
    this.#files = files;
    this.#path = path;
    this.#atMs = atMs;
  }

  /** A record that is missing or damaged is none. */
  static async open(files: FileOperations, dataDir: string): Promise<LastConfirmation> {
    const path = join(dataDir, fileName);
    if ((await files.stat(path)) === null) return new LastConfirmation(files, path, null);
    const file = await files.open(path, 'read');
    try {
      const digits = recordPattern.exec((await file.readAll()).toString('latin1'))?.[1];
      return new LastConfirmation(files, path, digits === undefined ? null : Number(digits));
    } finally {
      await file.close();
    }
  }

  /** As found when opened; later confirmations of this process don't change it. */
  get foundAtMs(): number | null {
    return this.#atMs;
  }

  /** A quorum confirmed at `atMs`. Written now and then, in the background; a failure only leaves the record older. */
  confirmed(atMs: number): void {
    if (this.#writing !== null || Math.abs(atMs - this.#writtenAtMs) < writeIntervalMs) return;
    this.#writtenAtMs = atMs;
    this.#writing = this.#write(atMs)
      .catch(() => {})
      .finally(() => {
        this.#writing = null;
      });
  }

  async close(): Promise<void> {
    await this.#writing;
  }

  async #write(atMs: number): Promise<void> {
    const temporary = `${this.#path}.tmp`;
    if ((await this.#files.stat(temporary)) !== null) await this.#files.remove(temporary);
    const file = await this.#files.open(temporary, 'create');
    try {
      await file.write(0, Buffer.from(`${Math.floor(atMs)}\n`, 'latin1'));
      await file.dataSync();
    } finally {
      await file.close();
    }
    await this.#files.rename(temporary, this.#path);
  }
}
