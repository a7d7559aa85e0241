import { crc32 } from 'node:zlib';
import { invariant } from '../base/guards.js';

/**
 * Records as they lie in segment and snapshot files. Each record is one write: it starts at a multiple of 512 bytes,
 * the unit in which disks are taken to write, and is padded to the next.
 *
 *     uint32be magic ‖ uint32be payload length ‖ uint64be sequence ‖ uint32be body CRC ‖ uint32be header CRC
 *     payload ‖ padding (a5…)
 *
 * The body CRC is CRC-32 over payload and padding, continued from the body CRC of the record before. The header has a
 * CRC of its own: a length that was damaged must not make the rest of the file look like a record cut short. Because a
 * record is synced before the next is written, at most the last one is torn by a crash; because a sector holds bytes
 * of one record only, and padding is not zero, a sector that was never written is told from one that was damaged.
 */
const magic = 0x786b736c;
const headerBytes = 24;
const sectorBytes = 512;
const padding = 0xa5;

/** A batch of entries (1 MiB) or a snapshot record (1 MiB), with their frames. */
const recordPayloadBytesMax = 2 * 1024 * 1024;

/** Where a chain of records stands: the sequence number that comes next and the last body CRC. */
export interface ChainPosition {
  readonly sequence: number;
  readonly crc: number;
}

/** Of the first record in a file that stands alone. */
export const chainStart: ChainPosition = { sequence: 1, crc: 0 };

const paddedBytes = (payloadBytes: number): number =>
  Math.ceil((headerBytes + payloadBytes) / sectorBytes) * sectorBytes;

const recordBytesMax = paddedBytes(recordPayloadBytesMax);

export interface EncodedRecord {
  readonly bytes: Buffer;
  /** Where the chain stands after it. */
  readonly next: ChainPosition;
}

export function encodeRecord(payload: Uint8Array, position: ChainPosition): EncodedRecord {
  invariant(payload.byteLength <= recordPayloadBytesMax, `record of ${payload.byteLength} bytes`);
  const bytes = Buffer.alloc(paddedBytes(payload.byteLength), padding);
  bytes.set(payload, headerBytes);
  const crc = crc32(bytes.subarray(headerBytes), position.crc);
  bytes.writeUInt32BE(magic, 0);
  bytes.writeUInt32BE(payload.byteLength, 4);
  bytes.writeBigUInt64BE(BigInt(position.sequence), 8);
  bytes.writeUInt32BE(crc, 16);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, 20)), 20);
  return { bytes, next: { sequence: position.sequence + 1, crc } };
}

export interface ScannedRecord {
  /** A view on the bytes scanned. */
  readonly payload: Buffer;
  readonly offset: number;
  readonly sequence: number;
}

/** Why a scan ended before the end of the bytes. */
export interface ScanStop {
  /**
   * `torn`: what a write that a crash interrupted leaves behind, at the very end; nothing that was synced. `damaged`:
   * anything else.
   */
  readonly kind: 'torn' | 'damaged';
  readonly offset: number;
  readonly reason: string;
}

export interface Scan {
  readonly records: readonly ScannedRecord[];
  /** Bytes up to the end of the last good record. */
  readonly goodBytes: number;
  readonly position: ChainPosition;
  /** `null` when every byte belongs to a good record. */
  readonly stop: ScanStop | null;
}

interface RecordHeader {
  readonly length: number;
  readonly sequence: number;
  readonly crc: number;
}

/** The header at `offset`; `null` when there is none, or a damaged one. */
function headerAt(bytes: Buffer, offset: number): RecordHeader | null {
  if (bytes.byteLength - offset < headerBytes || bytes.readUInt32BE(offset) !== magic) return null;
  if (bytes.readUInt32BE(offset + 20) !== crc32(bytes.subarray(offset, offset + 20))) return null;
  const length = bytes.readUInt32BE(offset + 4);
  const sequence = Number(bytes.readBigUInt64BE(offset + 8));
  return length > recordPayloadBytesMax ? null : { length, sequence, crc: bytes.readUInt32BE(offset + 16) };
}

/**
 * The records of a file, from its start to the first that is not good.
 *
 * @param sequence that the first record must have; `null` takes any.
 */
export function scanRecords(bytes: Buffer, sequence: number | null): Scan {
  const records: ScannedRecord[] = [];
  let position: ChainPosition | null = sequence === null ? null : { sequence, crc: 0 };
  let offset = 0;
  let stop: ScanStop | null = null;
  while (offset < bytes.byteLength) {
    const header = headerAt(bytes, offset);
    stop = header === null ? judgeHeader(bytes, offset) : judgeRecord(bytes, offset, header, position);
    if (header === null || stop !== null) break;
    const start = offset + headerBytes;
    records.push({
      payload: bytes.subarray(start, start + header.length),
      offset,
      sequence: header.sequence,
    });
    position = { sequence: header.sequence + 1, crc: header.crc };
    offset += paddedBytes(header.length);
  }
  return { records, goodBytes: offset, position: position ?? chainStart, stop };
}

/** What is wrong with the record at `offset`, whose header is good; `null` when nothing is. */
function judgeRecord(
  bytes: Buffer,
  offset: number,
  header: RecordHeader,
  position: ChainPosition | null,
): ScanStop | null {
  if (position !== null && header.sequence !== position.sequence) {
    const reason = `record ${header.sequence} is where record ${position.sequence} should be`;
    return { kind: 'damaged', offset, reason };
  }
  const end = offset + paddedBytes(header.length);
  if (end > bytes.byteLength) return { kind: 'torn', offset, reason: 'the record is cut short' };
  const crc = crc32(bytes.subarray(offset + headerBytes, end), position?.crc ?? 0);
  if (crc === header.crc) return null;
  if (end === bytes.byteLength && holdsZeroSector(bytes, offset, end)) {
    return { kind: 'torn', offset, reason: 'a sector of the record was never written' };
  }
  return { kind: 'damaged', offset, reason: `record ${header.sequence} does not match its checksum` };
}

/** What it means that there is no good header at `offset`, where something is. */
function judgeHeader(bytes: Buffer, offset: number): ScanStop {
  const rest = bytes.byteLength - offset;
  if (rest < headerBytes) return { kind: 'torn', offset, reason: 'the header of the record is cut short' };
  // The first sector of the last record may be one that was never written. It was the last if it could reach to the
  // end, and nothing behind it is the start of another.
  const firstSectorEnd = Math.min(offset + sectorBytes, bytes.byteLength);
  if (rest <= recordBytesMax && isZero(bytes, offset, firstSectorEnd)) {
    let next = offset + sectorBytes;
    while (next < bytes.byteLength && headerAt(bytes, next) === null) next += sectorBytes;
    if (next >= bytes.byteLength) {
      return { kind: 'torn', offset, reason: 'the first sector of the record was never written' };
    }
  }
  return { kind: 'damaged', offset, reason: 'there is no record header' };
}

function holdsZeroSector(bytes: Buffer, start: number, end: number): boolean {
  for (let sector = start; sector < end; sector += sectorBytes) {
    if (isZero(bytes, sector, Math.min(sector + sectorBytes, end))) return true;
  }
  return false;
}

const zeroSector = Buffer.alloc(sectorBytes);

const isZero = (bytes: Buffer, start: number, end: number): boolean =>
  bytes.compare(zeroSector, 0, end - start, start, end) === 0;
