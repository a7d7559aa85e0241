import { join } from 'node:path';
import { err, ok, type Result } from '../base/result.js';
import type { FileOperations, OpenFile } from './file-operations.js';
import { damaged, foreignCluster, newerFormat } from './log-damage.js';
import { decodeItems, encodeItems, type LogItem } from './log-items.js';
import { type ChainPosition, encodeRecord, type ScanStop, scanRecords } from './log-record.js';

/** Of the segments and their records. */
const format = 1;
const namePattern = /^segment-([0-9]{10})\.log$/;

export const segmentName = (segment: number): string => `segment-${String(segment).padStart(10, '0')}.log`;

/** The number in a segment's file name; `null` for other files. */
export function segmentNumber(name: string): number | null {
  const digits = namePattern.exec(name)?.[1];
  return digits === undefined ? null : Number(digits);
}

/** What a crash may leave of a file that was never renamed into place. */
export const isTemporary = (name: string): boolean => name.endsWith('.tmp');

export interface NewSegment {
  readonly clusterId: string;
  readonly segment: number;
  readonly firstIndex: number;
  /** Where the records before it end. */
  readonly position: ChainPosition;
}

export interface CreatedSegment {
  readonly file: OpenFile;
  readonly sizeBytes: number;
  readonly position: ChainPosition;
}

/** Makes a segment that holds its header only. When this resolves it is there for good. */
export async function createSegment(
  files: FileOperations,
  directory: string,
  { clusterId, segment, firstIndex, position }: NewSegment,
): Promise<CreatedSegment> {
  const path = join(directory, segmentName(segment));
  const temporary = `${path}.tmp`;
  const header = encodeItems([
    { kind: 'segment', format, clusterId, segment, firstIndex, previousCrc: position.crc },
  ]);
  // The chain starts anew, so that a segment can be read without the one before; `previousCrc` ties it to that one.
  const { bytes, next } = encodeRecord(header, { sequence: position.sequence, crc: 0 });
  const file = await files.open(temporary, 'create');
  await file.write(0, bytes);
  await file.dataSync();
  await files.rename(temporary, path);
  await files.syncDirectory(directory);
  return { file, sizeBytes: bytes.byteLength, position: next };
}

/** What lies in a segment. */
export interface ReadSegment {
  readonly path: string;
  readonly segment: number;
  readonly firstIndex: number;
  readonly previousCrc: number;
  /** Of its first record. */
  readonly firstSequence: number;
  /** All after the header. Data are views on the file's bytes. */
  readonly items: readonly LogItem[];
  /** Where the last good record starts. */
  readonly lastRecordOffset: number;
  readonly goodBytes: number;
  readonly sizeBytes: number;
  readonly position: ChainPosition;
  /** A torn write at the end, which may be cut off; `null` when there is none. */
  readonly torn: ScanStop | null;
}

/**
 * Reads the bytes of a segment.
 *
 * @param sequence that its first record must have; `null` in the first segment there is.
 * @param last whether its end may be torn: a crash tears only what was written last.
 */
export function readSegment(
  path: string,
  bytes: Buffer,
  expected: { readonly clusterId: string; readonly segment: number; readonly sequence: number | null },
  last: boolean,
): Result<ReadSegment, string> {
  const { records, goodBytes, position, stop } = scanRecords(bytes, expected.sequence);
  const [first] = records;
  // Segments are renamed into place with their header synced: none is ever without.
  if (first === undefined) return err(damaged(path, 0, stop?.reason ?? 'it is empty'));
  if (stop !== null && (stop.kind === 'damaged' || !last)) {
    return err(damaged(path, stop.offset, stop.reason));
  }
  const items: LogItem[] = [];
  for (const { payload, offset } of records) {
    const decoded = decodeItems(payload);
    if (!decoded.ok) return err(damaged(path, offset, decoded.error));
    for (const item of decoded.value) items.push(item);
  }
  const header = items.shift();
  if (header?.kind !== 'segment') return err(damaged(path, 0, 'it does not start as a log segment does'));
  if (header.format !== format) return err(newerFormat(path, header.format, format));
  if (header.clusterId !== expected.clusterId) {
    return err(foreignCluster(path, header.clusterId, expected.clusterId));
  }
  if (header.segment !== expected.segment) {
    return err(damaged(path, 0, `it is segment ${header.segment} under another's name`));
  }
  return ok({
    path,
    segment: header.segment,
    firstIndex: header.firstIndex,
    previousCrc: header.previousCrc,
    firstSequence: first.sequence,
    items,
    lastRecordOffset: records.at(-1)?.offset ?? 0,
    goodBytes,
    sizeBytes: bytes.byteLength,
    position,
    torn: stop,
  });
}
