import { createHash, type Hash } from 'node:crypto';
import { invariant } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import type { LogPosition, Membership } from '../raft/types.js';
import { snapshotChunkBytes } from './peer-message.js';

/*
 * A snapshot on its way to another member is one sequence of bytes: each record preceded by its length (uint32be), then
 * `endMark` in place of a length, then SHA-256 of everything before the mark.
 */

const endMark = 0xffff_ffff;
const digestBytes = 32;
/** A state machine's records are no longer. */
const recordBytesMax = 1024 * 1024;

/** Of the whole sequence, at the receiver, who has to hold it. */
const snapshotBytesMax = 512 * 1024 * 1024;
/** Chunks held for members that ask again. */
const chunksHeldMax = 64;

function lengthPrefix(length: number): Buffer {
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32BE(length);
  return prefix;
}

function* piecesOf(records: Iterable<Uint8Array>): Generator<Uint8Array, void> {
  const hash = createHash('sha256');
  for (const record of records) {
    invariant(record.byteLength <= recordBytesMax, `a snapshot record of ${record.byteLength} bytes`);
    const prefix = lengthPrefix(record.byteLength);
    hash.update(prefix).update(record);
    yield prefix;
    yield record;
  }
  yield lengthPrefix(endMark);
  yield hash.digest();
}

export interface SnapshotChunk {
  readonly offset: number;
  readonly data: Uint8Array;
  readonly last: boolean;
}

/** A snapshot of our state, encoded as it is sent. Holds the last chunks only. */
export class SnapshotSource {
  readonly position: LogPosition;
  readonly membership: Membership;
  readonly #pieces: Generator<Uint8Array, void>;
  #left: Uint8Array = Buffer.alloc(0);
  readonly #held: SnapshotChunk[] = [];
  /** Chunks made. */
  #made = 0;
  #ended = false;

  constructor(position: LogPosition, membership: Membership, records: Iterable<Uint8Array>) {
    this.position = position;
    this.membership = membership;
    this.#pieces = piecesOf(records);
  }

  /** Whether one who has nothing yet can begin. */
  get fromStart(): boolean {
    return this.#made <= this.#held.length;
  }

  /**
   * The chunk that holds the byte at `offset`. `later`: not made yet, after making `makeMax` chunks; ask again.
   * `forgotten`: it is not held any more. `beyond`: there is no such byte.
   */
  chunkAt(offset: number, makeMax: number): SnapshotChunk | 'later' | 'forgotten' | 'beyond' {
    const number = Math.floor(offset / snapshotChunkBytes);
    for (let made = 0; made < makeMax && this.#made <= number && !this.#ended; made += 1) this.#make();
    if (number >= this.#made) return this.#ended ? 'beyond' : 'later';
    return this.#held[number - (this.#made - this.#held.length)] ?? 'forgotten';
  }

  #make(): void {
    const parts: Uint8Array[] = [];
    let bytes = 0;
    while (bytes < snapshotChunkBytes && this.#fill()) {
      const part = this.#left.subarray(0, snapshotChunkBytes - bytes);
      this.#left = this.#left.subarray(part.byteLength);
      parts.push(part);
      bytes += part.byteLength;
    }
    // Whether this was the last must be known now.
    const last = !this.#fill();
    this.#held.push({ offset: this.#made * snapshotChunkBytes, data: Buffer.concat(parts, bytes), last });
    if (this.#held.length > chunksHeldMax) this.#held.shift();
    this.#made += 1;
    this.#ended = last;
  }

  /** False when there is nothing more. */
  #fill(): boolean {
    while (this.#left.byteLength === 0) {
      const next = this.#pieces.next();
      if (next.done === true) return false;
      this.#left = next.value;
    }
    return true;
  }
}

/** The records out of such a sequence. Holds what it is given. */
export class SnapshotAssembly {
  readonly #onRecord: (record: Uint8Array) => void;
  readonly #records: Uint8Array[] = [];
  readonly #hash: Hash = createHash('sha256');
  /** Of what is being read: a length, a record, the digest. */
  #wanted: 'length' | 'record' | 'digest' | 'nothing' = 'length';
  #wantedBytes = 4;
  #parts: Uint8Array[] = [];
  #partsBytes = 0;
  #nextOffset = 0;

  /** @param onRecord gets each record as soon as it is whole: before the digest says that it is the one sent. */
  constructor(onRecord: (record: Uint8Array) => void = () => {}) {
    this.#onRecord = onRecord;
  }

  get nextOffset(): number {
    return this.#nextOffset;
  }

  /** Takes what comes at `nextOffset`; the records once they are whole. */
  take(data: Uint8Array, last: boolean): Result<readonly Uint8Array[] | null, string> {
    this.#nextOffset += data.byteLength;
    if (this.#nextOffset > snapshotBytesMax) return err(`it is longer than ${snapshotBytesMax} bytes`);
    let rest = data;
    while (rest.byteLength > 0 || this.#wantedBytes === 0) {
      if (this.#wanted === 'nothing') return err('bytes follow its end');
      const part = rest.subarray(0, this.#wantedBytes - this.#partsBytes);
      rest = rest.subarray(part.byteLength);
      this.#parts.push(part);
      this.#partsBytes += part.byteLength;
      if (this.#partsBytes < this.#wantedBytes) break;
      const problem = this.#takePiece();
      if (problem !== null) return err(problem);
      if (this.#ended()) break;
    }
    if (!last) return ok(null);
    return this.#ended() && rest.byteLength === 0 ? ok(this.#records) : err('it is cut short');
  }

  #ended(): boolean {
    return this.#wanted === 'nothing';
  }

  #takePiece(): string | null {
    const [first] = this.#parts;
    const piece =
      first !== undefined && this.#parts.length === 1 ? first : Buffer.concat(this.#parts, this.#partsBytes);
    this.#parts = [];
    this.#partsBytes = 0;
    if (this.#wanted === 'record') {
      this.#records.push(piece);
      this.#hash.update(piece);
      this.#onRecord(piece);
      this.#want('length', 4);
      return null;
    }
    if (this.#wanted === 'digest') {
      this.#want('nothing', 1);
      return this.#hash.digest().equals(piece) ? null : 'its digest is another';
    }
    const length = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength).readUInt32BE();
    if (length === endMark) {
      this.#want('digest', digestBytes);
      return null;
    }
    if (length > recordBytesMax) return `a record of ${length} bytes`;
    this.#hash.update(piece);
    this.#want('record', length);
    return null;
  }

  #want(wanted: 'length' | 'record' | 'digest' | 'nothing', bytes: number): void {
    this.#wanted = wanted;
    this.#wantedBytes = bytes;
  }
}
