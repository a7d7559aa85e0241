import { join } from 'node:path';
import { errorText, invariant } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import type { DataDirectory } from './data-directory.js';
import type { OpenFile } from './file-operations.js';
import { encodeItems, type LogItem } from './log-items.js';
import { type ChainPosition, encodeRecord } from './log-record.js';
import { type Recovered, recoverLog } from './log-recovery.js';
import { createSegment, isTemporary, type ReadSegment, segmentName } from './segment-file.js';
import { type SnapshotPosition, snapshotIndex, snapshotName, writeSnapshot } from './snapshot-file.js';

/** A segment that reaches it is followed by a new one. */
const segmentBytesDefault = 16 * 1024 * 1024;

interface Segment {
  readonly segment: number;
  readonly firstIndex: number;
}

/** What goes into the log. */
export type AppendItem = Extract<LogItem, { kind: 'entry' | 'hardState' | 'snapshotMarker' }>;

/**
 * The write-ahead log of a data directory: segments and snapshots. Writes one thing at a time to the log, and at most
 * one snapshot beside. After a failed write or sync it does nothing any more, for nothing is known of what the disk
 * holds then; the process must end and read it again.
 */
export class DurableLog {
  readonly #directory: DataDirectory;
  readonly #segmentBytesMax: number;
  /** Oldest first; the last is written to. */
  readonly #segments: Segment[];
  #file: OpenFile;
  #sizeBytes: number;
  #position: ChainPosition;
  #lastIndex: number;
  /** Index of the newest snapshot known to be good; 0 before the first. */
  #snapshotIndex: number;
  #failure: string | null = null;

  private constructor(
    directory: DataDirectory,
    segmentBytesMax: number,
    recovered: Recovered,
    current: { readonly file: OpenFile; readonly sizeBytes: number; readonly position: ChainPosition },
  ) {
    this.#directory = directory;
    this.#segmentBytesMax = segmentBytesMax;
    this.#segments = recovered.segments.map(({ segment, firstIndex }) => ({ segment, firstIndex }));
    this.#file = current.file;
    this.#sizeBytes = current.sizeBytes;
    this.#position = current.position;
    this.#lastIndex = recovered.lastIndex;
    this.#snapshotIndex = recovered.snapshot?.index ?? 0;
  }

  /**
   * Reads what the directory holds, cuts off a torn write at its end and removes files that a crash left unfinished.
   * The directory stays the caller's to close.
   */
  static async open(
    directory: DataDirectory,
    segmentBytesMax: number = segmentBytesDefault,
  ): Promise<Result<{ readonly log: DurableLog; readonly recovered: Recovered }, string>> {
    try {
      const read = await recoverLog(directory);
      if (!read.ok) return read;
      const last = read.value.segments.at(-1);
      invariant(last !== undefined, 'a log has a segment');
      const warnings = [...read.value.warnings];
      await removeTemporaryFiles(directory);
      const file = await directory.files.open(last.path, 'write');
      if (last.torn !== null) {
        const cut = last.sizeBytes - last.goodBytes;
        warnings.push(
          `${last.path} ended in an incomplete write (${last.torn.reason}): its last ${cut} bytes were cut off. A crash leaves that of a change nobody was told of; if nothing crashed, the disk has lost data`,
        );
      }
      await makeEndDurable(file, last);
      await syncDirectories(directory);
      const recovered = { ...read.value, warnings };
      const current = { file, sizeBytes: last.goodBytes, position: last.position };
      return ok({ log: new DurableLog(directory, segmentBytesMax, recovered, current), recovered });
    } catch (error) {
      return err(`cannot read the log in ${directory.path}: ${errorText(error)}`);
    }
  }

  /**
   * Appends `items` as one record and syncs it: after a crash all of them are there, or none. Not to be called while
   * an append is under way.
   *
   * @returns bytes written, or why this log is of no more use.
   */
  append(items: readonly AppendItem[]): Promise<Result<number, string>> {
    return this.#guard(async () => {
      const payload = encodeItems(items);
      if (this.#sizeBytes >= this.#segmentBytesMax) await this.#startSegment();
      const { bytes, next } = encodeRecord(payload, this.#position);
      await this.#file.write(this.#sizeBytes, bytes);
      await this.#file.dataSync();
      this.#sizeBytes += bytes.byteLength;
      this.#position = next;
      for (const item of items) if (item.kind === 'entry') this.#lastIndex = item.index;
      return bytes.byteLength;
    });
  }

  async #startSegment(): Promise<void> {
    const segment = (this.#segments.at(-1)?.segment ?? 0) + 1;
    const firstIndex = this.#lastIndex + 1;
    const created = await createSegment(this.#directory.files, this.#directory.logPath, {
      clusterId: this.#directory.identity.clusterId,
      segment,
      firstIndex,
      position: this.#position,
    });
    const full = this.#file;
    this.#segments.push({ segment, firstIndex });
    this.#file = created.file;
    this.#sizeBytes = created.sizeBytes;
    this.#position = created.position;
    await full.close();
  }

  /** Writes a snapshot as of `at.index`, which must be durable in the log. One at a time; appends go on meanwhile. */
  saveSnapshot(at: SnapshotPosition, records: Iterable<Uint8Array>): Promise<Result<null, string>> {
    return this.#guard(async () => {
      const { files, snapshotsPath, identity } = this.#directory;
      await writeSnapshot(files, snapshotsPath, { ...at, clusterId: identity.clusterId }, records);
      return null;
    });
  }

  /**
   * Removes what the snapshot as of `index` made superfluous; call when its marker is in the log. Keeps the snapshot
   * before it and the log since then, in case the new one is damaged one day.
   */
  compact(index: number): Promise<Result<null, string>> {
    return this.#guard(async () => {
      const { files, snapshotsPath, logPath } = this.#directory;
      const previous = this.#snapshotIndex;
      this.#snapshotIndex = index;
      for (const name of await files.list(snapshotsPath)) {
        const found = snapshotIndex(name);
        if (found === null || found === previous || found === index) continue;
        await files.remove(join(snapshotsPath, snapshotName(found)));
      }
      for (;;) {
        const [oldest, second] = this.#segments;
        if (oldest === undefined || second === undefined || second.firstIndex > previous + 1) break;
        await files.remove(join(logPath, segmentName(oldest.segment)));
        // One after the other for good: a crash must not bring back the older of two without the other.
        await files.syncDirectory(logPath);
        this.#segments.shift();
      }
      return null;
    });
  }

  /** Not while anything is under way. The directory stays open. */
  async close(): Promise<void> {
    this.#failure ??= 'the log is closed';
    await this.#file.close().catch(() => {});
  }

  async #guard<T>(operation: () => Promise<T>): Promise<Result<T, string>> {
    if (this.#failure !== null) return err(this.#failure);
    try {
      const value = await operation();
      // Another operation failed meanwhile: what this one did may not be built upon.
      return this.#failure === null ? ok(value) : err(this.#failure);
    } catch (error) {
      this.#failure ??= `cannot write to the data directory ${this.#directory.path}: ${errorText(error)}`;
      return err(this.#failure);
    }
  }
}

/**
 * What was read is about to be built upon and told to others, and a process that was killed before its sync leaves it in
 * the page cache only. Written again, for after a sync that failed the kernel may take the pages for clean and a second
 * sync for done. Records before the last were synced before it was written. Closes the file when it can't.
 */
async function makeEndDurable(file: OpenFile, last: ReadSegment): Promise<void> {
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
async function syncDirectories({ files, path, logPath, snapshotsPath }: DataDirectory): Promise<void> {
  for (const directory of [logPath, snapshotsPath, path]) await files.syncDirectory(directory);
}

/** What a crash left of segments and snapshots that were being made. */
async function removeTemporaryFiles({ files, logPath, snapshotsPath }: DataDirectory): Promise<void> {
  for (const path of [logPath, snapshotsPath]) {
    for (const name of await files.list(path)) {
      if (isTemporary(name)) await files.remove(join(path, name));
    }
  }
}
