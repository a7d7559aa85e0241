import { join } from 'node:path';
import { err, ok, type Result } from '../base/result.js';
import type { LogPosition } from '../raft/types.js';
import type { FileOperations, OpenFile } from './file-operations.js';
import { damaged, foreignCluster, newerFormat } from './log-damage.js';
import { decodeItems, encodeItems, itemOverheadBytesMax, type LogItem } from './log-items.js';
import { type ChainPosition, chainStart, encodeRecord, scanRecords } from './log-record.js';

const format = 1;
/** What is gathered before it is written, unless one record is longer: also how long encoding holds the thread. */
const chunkBytes = 256 * 1024;
const namePattern = /^snapshot-([0-9]{16})$/;
const receivedNamePattern = /^received-([0-9]{16})$/;

const digitsOf = (index: number): string => String(index).padStart(16, '0');

export const snapshotName = (index: number): string => `snapshot-${digitsOf(index)}`;

/** Of a snapshot from another member until the log says that it takes the log's place. */
export const receivedSnapshotName = (index: number): string => `received-${digitsOf(index)}`;

function indexIn(name: string, pattern: RegExp): number | null {
  const digits = pattern.exec(name)?.[1];
  return digits === undefined ? null : Number(digits);
}

/** The index in a snapshot's file name; `null` for other files. */
export const snapshotIndex = (name: string): number | null => indexIn(name, namePattern);

/** The index in the file name of a snapshot that was received; `null` for other files. */
export const receivedSnapshotIndex = (name: string): number | null => indexIn(name, receivedNamePattern);

/** Writes records to a file in chunks. */
class ChunkWriter {
  readonly #file: OpenFile;
  #items: LogItem[] = [];
  #itemBytes = 0;
  #offset = 0;
  #position: ChainPosition = chainStart;

  constructor(file: OpenFile) {
    this.#file = file;
  }

  /** Whether a chunk is full and `flush` is due. */
  add(item: LogItem): boolean {
    this.#items.push(item);
    this.#itemBytes += itemOverheadBytesMax + ('data' in item ? item.data.byteLength : 0);
    return this.#itemBytes >= chunkBytes;
  }

  async flush(): Promise<void> {
    const { bytes, next } = encodeRecord(encodeItems(this.#items), this.#position);
    this.#items = [];
    this.#itemBytes = 0;
    this.#position = next;
    await this.#file.write(this.#offset, bytes);
    this.#offset += bytes.byteLength;
  }
}

/**
 * Writes a snapshot beside the others, under `name`. When this resolves it is there for good; when it rejects it isn't
 * there. `records` are taken in slices, between which the event loop turns.
 */
export async function writeSnapshot(
  files: FileOperations,
  directory: string,
  name: string,
  header: LogPosition & { readonly clusterId: string },
  records: Iterable<Uint8Array>,
): Promise<void> {
  const path = join(directory, name);
  const temporary = `${path}.tmp`;
  const file = await files.open(temporary, 'create');
  try {
    const writer = new ChunkWriter(file);
    writer.add({ kind: 'snapshotHeader', format, ...header });
    await writer.flush();
    let count = 0;
    for (const data of records) {
      count += 1;
      if (writer.add({ kind: 'snapshotRecord', data })) await writer.flush();
    }
    writer.add({ kind: 'snapshotEnd', records: count });
    await writer.flush();
    await file.dataSync();
  } finally {
    await file.close();
  }
  await files.rename(temporary, path);
  await files.syncDirectory(directory);
}

export interface ReadSnapshot extends LogPosition {
  /** As the state machine gave them: views on the file's bytes. */
  readonly records: readonly Uint8Array[];
}

/** Reads the bytes of a snapshot. It was synced before it got its name, so nothing in it may be torn. */
export function readSnapshot(
  path: string,
  bytes: Buffer,
  expected: { readonly clusterId: string; readonly index: number },
): Result<ReadSnapshot, string> {
  const scan = scanRecords(bytes, chainStart.sequence);
  if (scan.stop !== null) return err(damaged(path, scan.stop.offset, scan.stop.reason));
  let header: Extract<LogItem, { kind: 'snapshotHeader' }> | null = null;
  let ended = false;
  const data: Uint8Array[] = [];
  for (const { payload, offset } of scan.records) {
    const decoded = decodeItems(payload);
    if (!decoded.ok) return err(damaged(path, offset, decoded.error));
    for (const item of decoded.value) {
      if (header === null) {
        if (item.kind !== 'snapshotHeader')
          return err(damaged(path, offset, 'it does not start as a snapshot does'));
        if (item.format !== format) return err(newerFormat(path, item.format, format));
        header = item;
      } else if (item.kind === 'snapshotRecord' && !ended) {
        data.push(item.data);
      } else if (item.kind === 'snapshotEnd' && !ended && item.records === data.length) {
        ended = true;
      } else {
        return err(damaged(path, offset, `a ${item.kind} is where none should be`));
      }
    }
  }
  if (header === null || !ended) return err(damaged(path, bytes.byteLength, 'its end is missing'));
  if (header.clusterId !== expected.clusterId) {
    return err(foreignCluster(path, header.clusterId, expected.clusterId));
  }
  if (header.index !== expected.index) {
    return err(damaged(path, 0, `it is the snapshot as of index ${header.index} under another's name`));
  }
  return ok({ index: header.index, term: header.term, records: data });
}
