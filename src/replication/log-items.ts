import { invariant } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import type { Entry, EntryKind, HardState } from '../raft/types.js';

/**
 * What records are made of: one or more items, each `uint8 kind` and then its fields. Integers are big-endian, indexes
 * and terms uint64, short texts and data preceded by their length.
 */
export type LogItem =
  /** First and alone in a segment's first record. */
  | {
      readonly kind: 'segment';
      readonly format: number;
      readonly clusterId: string;
      /** From 1, and in the file's name. */
      readonly segment: number;
      /** Of the first entry that this segment may hold. */
      readonly firstIndex: number;
      /** Body CRC of the last record in the segment before; 0 in the first. */
      readonly previousCrc: number;
    }
  /** Replaces an entry of the same index and all after it. */
  | { readonly kind: 'entry'; readonly entry: Entry }
  /** Raft's, in one: they change together or not at all. */
  | { readonly kind: 'hardState'; readonly hardState: HardState }
  /** The snapshot as of `index`, of entries in this log, is durable. */
  | { readonly kind: 'snapshotMarker'; readonly index: number; readonly term: number }
  /**
   * The snapshot as of `index`, which came from another member and is durable, takes the place of all entries before
   * this item: the next is `index` + 1. The hard state that goes with it is in the same record.
   */
  | { readonly kind: 'installedSnapshot'; readonly index: number; readonly term: number }
  /** First and alone in a snapshot's first record. */
  | {
      readonly kind: 'snapshotHeader';
      readonly format: number;
      readonly clusterId: string;
      readonly index: number;
      readonly term: number;
    }
  /** One record of the state machine's. */
  | { readonly kind: 'snapshotRecord'; readonly data: Uint8Array }
  /** Last in a snapshot. */
  | { readonly kind: 'snapshotEnd'; readonly records: number };

/** Never given to another kind: logs that were written long ago are read. 2 was all entries while commands were all. */
const entryKindNumbers = {
  command: 2,
  membership: 8,
  noop: 9,
} as const satisfies Record<EntryKind, number>;

const kindNumbers = {
  segment: 1,
  hardState: 3,
  snapshotMarker: 4,
  snapshotHeader: 5,
  snapshotRecord: 6,
  snapshotEnd: 7,
  installedSnapshot: 10,
} as const satisfies Record<Exclude<LogItem['kind'], 'entry'>, number>;

const kindNumberOf = (item: LogItem): number =>
  item.kind === 'entry' ? entryKindNumbers[item.entry.kind] : kindNumbers[item.kind];

/** Bytes of an item beside its data: enough for any. */
export const itemOverheadBytesMax = 512;

const textBytesMax = 255;

class ItemWriter {
  readonly #chunks: Uint8Array[] = [];

  uint8(value: number): void {
    this.#chunks.push(Uint8Array.of(value));
  }

  uint32(value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    this.#chunks.push(bytes);
  }

  uint64(value: number): void {
    invariant(Number.isSafeInteger(value) && value >= 0, `${value} in a log item`);
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt(value));
    this.#chunks.push(bytes);
  }

  text(value: string): void {
    const bytes = Buffer.from(value, 'utf8');
    invariant(bytes.byteLength <= textBytesMax, 'text in a log item is too long');
    this.uint8(bytes.byteLength);
    this.#chunks.push(bytes);
  }

  data(value: Uint8Array): void {
    this.uint32(value.byteLength);
    this.#chunks.push(value);
  }

  item(item: LogItem): void {
    this.uint8(kindNumberOf(item));
    switch (item.kind) {
      case 'segment':
        this.uint32(item.format);
        this.text(item.clusterId);
        this.uint64(item.segment);
        this.uint64(item.firstIndex);
        this.uint32(item.previousCrc);
        return;
      case 'entry':
        this.uint64(item.entry.index);
        this.uint64(item.entry.term);
        this.data(item.entry.data);
        return;
      case 'hardState':
        this.uint64(item.hardState.term);
        // No member id is empty.
        this.text(item.hardState.votedFor ?? '');
        this.uint64(item.hardState.commitIndex);
        return;
      case 'snapshotMarker':
      case 'installedSnapshot':
        this.uint64(item.index);
        this.uint64(item.term);
        return;
      case 'snapshotHeader':
        this.uint32(item.format);
        this.text(item.clusterId);
        this.uint64(item.index);
        this.uint64(item.term);
        return;
      case 'snapshotRecord':
        this.data(item.data);
        return;
      case 'snapshotEnd':
        this.uint64(item.records);
        return;
    }
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}

export function encodeItems(items: readonly LogItem[]): Buffer {
  const writer = new ItemWriter();
  for (const item of items) writer.item(item);
  return writer.bytes();
}

/** Thrown inside this file where a payload ends too soon or holds what no version wrote. */
class ItemError extends Error {}

class ItemParser {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#offset === this.#bytes.byteLength;
  }

  #take(length: number): Buffer {
    const end = this.#offset + length;
    if (end > this.#bytes.byteLength) throw new ItemError('an item is cut short');
    const taken = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return taken;
  }

  uint8(): number {
    return this.#take(1).readUInt8();
  }

  uint32(): number {
    return this.#take(4).readUInt32BE();
  }

  uint64(): number {
    const value = Number(this.#take(8).readBigUInt64BE());
    if (!Number.isSafeInteger(value)) throw new ItemError('a number is out of range');
    return value;
  }

  text(): string {
    return this.#take(this.uint8()).toString('utf8');
  }

  data(): Uint8Array {
    return this.#take(this.uint32());
  }

  #entry(kind: EntryKind): LogItem {
    return {
      kind: 'entry',
      entry: { index: this.uint64(), term: this.uint64(), kind, data: this.data() },
    };
  }

  #hardState(): HardState {
    const term = this.uint64();
    const votedFor = this.text();
    return { term, votedFor: votedFor === '' ? null : votedFor, commitIndex: this.uint64() };
  }

  item(): LogItem {
    const kind = this.uint8();
    switch (kind) {
      case kindNumbers.segment:
        return {
          kind: 'segment',
          format: this.uint32(),
          clusterId: this.text(),
          segment: this.uint64(),
          firstIndex: this.uint64(),
          previousCrc: this.uint32(),
        };
      case entryKindNumbers.command:
        return this.#entry('command');
      case entryKindNumbers.membership:
        return this.#entry('membership');
      case entryKindNumbers.noop:
        return this.#entry('noop');
      case kindNumbers.hardState:
        return { kind: 'hardState', hardState: this.#hardState() };
      case kindNumbers.snapshotMarker:
        return { kind: 'snapshotMarker', index: this.uint64(), term: this.uint64() };
      case kindNumbers.installedSnapshot:
        return { kind: 'installedSnapshot', index: this.uint64(), term: this.uint64() };
      case kindNumbers.snapshotHeader:
        return {
          kind: 'snapshotHeader',
          format: this.uint32(),
          clusterId: this.text(),
          index: this.uint64(),
          term: this.uint64(),
        };
      case kindNumbers.snapshotRecord:
        return { kind: 'snapshotRecord', data: this.data() };
      case kindNumbers.snapshotEnd:
        return { kind: 'snapshotEnd', records: this.uint64() };
      default:
        throw new ItemError(`an item of kind ${kind}, which this version of xksd does not know`);
    }
  }
}

/** The items of a record; their data are views on `payload`. */
export function decodeItems(payload: Buffer): Result<readonly LogItem[], string> {
  const parser = new ItemParser(payload);
  const items: LogItem[] = [];
  try {
    while (!parser.atEnd) items.push(parser.item());
    return ok(items);
  } catch (thrown) {
    if (thrown instanceof ItemError) return err(thrown.message);
    throw thrown;
  }
}
