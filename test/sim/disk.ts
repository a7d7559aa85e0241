import { err, ok, type Result } from '../../src/base/result.js';
import type { Entry, HardState, LogPosition } from '../../src/raft/types.js';
import { encodeItems, type LogItem } from '../../src/replication/log-items.js';
import { type ChainPosition, chainStart, encodeRecord } from '../../src/replication/log-record.js';
import { replay } from '../../src/replication/log-replay.js';
import { type ReadSegment, readSegment } from '../../src/replication/segment-file.js';
import type { RecoveredState } from './checkers/observed-log.js';
import type { Random } from './random.js';

const clusterId = 'simulated';
const sectorBytes = 512;

export interface StoredSnapshot {
  readonly at: LogPosition;
  readonly records: readonly Uint8Array[];
}

/** What became of the write under way when the process or its machine ended. */
export type WriteFate = 'kept' | 'dropped' | 'torn';

interface Segment {
  readonly segment: number;
  readonly firstIndex: number;
  readonly records: (readonly LogItem[])[];
}

type PendingWrite =
  | { readonly kind: 'append'; readonly items: readonly LogItem[] }
  | { readonly kind: 'install'; readonly items: readonly LogItem[]; readonly snapshot: StoredSnapshot }
  | { readonly kind: 'marker'; readonly items: readonly LogItem[]; readonly snapshot: StoredSnapshot };

/** All that a disk held at a moment. */
export interface DiskImage {
  readonly segments: readonly Segment[];
  readonly snapshots: readonly StoredSnapshot[];
  readonly hardState: HardState;
  readonly lastIndex: number;
}

export const emptyImage: DiskImage = {
  segments: [{ segment: 1, firstIndex: 1, records: [] }],
  snapshots: [],
  hardState: { term: 0, votedFor: null, commitIndex: 0 },
  lastIndex: 0,
};

/** The functions of the durable log that read what a crash left: handed in, so that a build with a planted bug brings its own. */
export interface LogCodec {
  readonly encodeItems: typeof encodeItems;
  readonly encodeRecord: typeof encodeRecord;
  readonly readSegment: typeof readSegment;
  readonly replay: typeof replay;
}

export const logCodec: LogCodec = { encodeItems, encodeRecord, readSegment, replay };

export interface RecoveredDisk extends RecoveredState {
  readonly snapshotRecords: readonly Uint8Array[] | null;
}

/**
 * A replica's disk: segments of records and snapshots, as `DurableLog` keeps them, but in memory and without promises.
 * Each record is one write and synced before the next. What lies on it is bytes only when it is read again, after a
 * crash: then all of it goes through the real codec, torn writes included.
 */
export class SimDisk {
  readonly #random: Random;
  readonly #codec: LogCodec;
  /** A segment that has so many is followed by another. */
  readonly #segmentRecordsMax: number;
  #segments: Segment[] = [];
  #snapshots: StoredSnapshot[] = [];
  #hardState: HardState = emptyImage.hardState;
  #lastIndex = 0;
  #pending: PendingWrite | null = null;

  constructor(image: DiskImage, segmentRecordsMax: number, random: Random, codec: LogCodec) {
    this.#segmentRecordsMax = segmentRecordsMax;
    this.#random = random;
    this.#codec = codec;
    this.replace(image);
  }

  image(): DiskImage {
    return {
      segments: this.#segments.map((segment) => ({ ...segment, records: [...segment.records] })),
      snapshots: [...this.#snapshots],
      hardState: this.#hardState,
      lastIndex: this.#lastIndex,
    };
  }

  /** Another image takes the place of all that was there. */
  replace(image: DiskImage): void {
    this.#segments = image.segments.map((segment) => ({ ...segment, records: [...segment.records] }));
    this.#snapshots = [...image.snapshots];
    this.#hardState = image.hardState;
    this.#lastIndex = image.lastIndex;
    this.#pending = null;
  }

  get busy(): boolean {
    return this.#pending !== null;
  }

  beginAppend(entries: readonly Entry[], hardState: HardState | null): void {
    const items: LogItem[] = [];
    for (const entry of entries) items.push({ kind: 'entry', entry });
    if (hardState !== null) items.push({ kind: 'hardState', hardState });
    this.#pending = { kind: 'append', items };
  }

  beginInstall(snapshot: StoredSnapshot, hardState: HardState | null): void {
    const { index, term } = snapshot.at;
    const settled = { ...(hardState ?? this.#hardState), commitIndex: index };
    this.#pending = {
      kind: 'install',
      items: [
        { kind: 'installedSnapshot', index, term },
        { kind: 'hardState', hardState: settled },
      ],
      snapshot,
    };
  }

  /** The snapshot itself is there for good; the marker that makes older ones superfluous is to be written. */
  beginMarker(snapshot: StoredSnapshot): void {
    this.#snapshots.push(snapshot);
    this.#pending = { kind: 'marker', items: [{ kind: 'snapshotMarker', ...snapshot.at }], snapshot };
  }

  /** Whether a snapshot of our own as of `index` is of use: none from another member overtook it. */
  wants(index: number): boolean {
    return this.#snapshots.every(({ at }) => at.index < index);
  }

  /** The write under way is durable. */
  sync(): void {
    const pending = this.#pending;
    if (pending === null) return;
    this.#pending = null;
    this.#add(pending.items);
    switch (pending.kind) {
      case 'append':
        return;
      case 'install':
        this.#snapshots = [pending.snapshot];
        return;
      case 'marker':
        this.#compact(pending.snapshot.at.index);
        return;
    }
  }

  #add(items: readonly LogItem[]): void {
    let segment = this.#segments.at(-1);
    if (segment === undefined || segment.records.length >= this.#segmentRecordsMax) {
      segment = { segment: (segment?.segment ?? 0) + 1, firstIndex: this.#lastIndex + 1, records: [] };
      this.#segments.push(segment);
    }
    const told = items.find((item) => item.kind === 'hardState')?.hardState;
    // Each segment tells the hard state anew: those before it may go.
    if (told === undefined && segment.records.length === 0) {
      segment.records.push([{ kind: 'hardState', hardState: this.#hardState }, ...items]);
    } else {
      segment.records.push(items);
    }
    if (told !== undefined) this.#hardState = told;
    for (const item of items) {
      if (item.kind === 'entry') this.#lastIndex = item.entry.index;
      if (item.kind === 'installedSnapshot') this.#lastIndex = item.index;
    }
  }

  /** Keeps the snapshot before the one as of `index`, and the log since. */
  #compact(index: number): void {
    const previous = this.#snapshots.findLast(({ at }) => at.index < index)?.at.index ?? 0;
    this.#snapshots = this.#snapshots.filter(({ at }) => at.index >= previous);
    for (;;) {
      const second = this.#segments[1];
      if (second === undefined || second.firstIndex > previous + 1) return;
      this.#segments.shift();
    }
  }

  /** The process ends in the middle of whatever it wrote. */
  crash(): WriteFate | null {
    const pending = this.#pending;
    if (pending === null) return null;
    const fate = this.#random.pick(['kept', 'dropped', 'torn'] as const);
    if (fate === 'kept') this.sync();
    this.#pending = null;
    this.#torn = fate === 'torn' ? pending.items : null;
    return fate;
  }

  #torn: readonly LogItem[] | null = null;

  /** What a process that starts finds; else what is damaged. */
  recover(): Result<RecoveredDisk, string> {
    const segments = this.#readSegments();
    if (!segments.ok) return segments;
    const replayed = this.#codec.replay(segments.value);
    if (!replayed.ok) return replayed;
    const { firstIndex, entries, hardState } = replayed.value;
    const snapshot = this.#newestSnapshot();
    const at = snapshot?.at ?? { index: 0, term: 0 };
    const lastIndex = firstIndex - 1 + entries.length;
    if (at.index < firstIndex - 1)
      return err(`the log starts at ${firstIndex}, the snapshot is as of ${at.index}`);
    if (at.index > lastIndex) return err(`the log ends at ${lastIndex}, the snapshot is as of ${at.index}`);
    this.#hardState = hardState;
    this.#lastIndex = lastIndex;
    return ok({
      hardState,
      snapshot: at,
      entries: entries.slice(at.index + 1 - firstIndex),
      snapshotRecords: snapshot?.records ?? null,
    });
  }

  #newestSnapshot(): StoredSnapshot | null {
    let newest: StoredSnapshot | null = null;
    for (const snapshot of this.#snapshots) {
      if (newest === null || snapshot.at.index > newest.at.index) newest = snapshot;
    }
    return newest;
  }

  #readSegments(): Result<readonly ReadSegment[], string> {
    const torn = this.#torn;
    this.#torn = null;
    const read: ReadSegment[] = [];
    let position: ChainPosition = chainStart;
    for (const [place, segment] of this.#segments.entries()) {
      const last = place === this.#segments.length - 1;
      const encoded = this.#encode(segment, position, last ? torn : null);
      const found = this.#codec.readSegment(
        `segment ${segment.segment}`,
        encoded.bytes,
        { clusterId, segment: segment.segment, sequence: place === 0 ? null : position.sequence },
        last,
      );
      if (!found.ok) return found;
      read.push(found.value);
      position = encoded.position;
    }
    return ok(read);
  }

  #encode(
    { segment, firstIndex, records }: Segment,
    position: ChainPosition,
    torn: readonly LogItem[] | null,
  ): { readonly bytes: Buffer; readonly position: ChainPosition } {
    const { encodeItems, encodeRecord } = this.#codec;
    const header: LogItem = {
      kind: 'segment',
      format: 1,
      clusterId,
      segment,
      firstIndex,
      previousCrc: position.crc,
    };
    let { bytes, next } = encodeRecord(encodeItems([header]), { sequence: position.sequence, crc: 0 });
    const chunks = [bytes];
    for (const items of records) {
      ({ bytes, next } = encodeRecord(encodeItems(items), next));
      chunks.push(bytes);
    }
    if (torn !== null) chunks.push(this.#tear(encodeRecord(encodeItems(torn), next).bytes));
    return { bytes: Buffer.concat(chunks), position: next };
  }

  /** Some sectors of a write reached the disk, and the file's length may or may not have. */
  #tear(bytes: Buffer): Buffer {
    const random = this.#random;
    const sectors = bytes.byteLength / sectorBytes;
    const written = Array.from({ length: sectors }, () => random.chance(0.5));
    written[random.below(sectors)] = false;
    for (const [sector, there] of written.entries()) {
      if (!there) bytes.fill(0, sector * sectorBytes, (sector + 1) * sectorBytes);
    }
    return random.chance(0.5) ? bytes : bytes.subarray(0, random.below(sectors) * sectorBytes);
  }
}
