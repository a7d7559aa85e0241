import type { Entry, HardState } from '../../../src/raft/types.js';
import { type DiskImage, SimDisk, type WriteFate } from '../disk.js';
import type { SimBuild } from '../sim-build.js';
import type { PlantedBug } from './planted-bug.js';

type DiskClass = new (...args: ConstructorParameters<typeof SimDisk>) => SimDisk;

const withDisk =
  (Disk: DiskClass) =>
  (build: SimBuild): SimBuild => ({
    ...build,
    createDisk: (image, segmentRecordsMax, random, codec) =>
      new Disk(image, segmentRecordsMax, random, codec),
  });

/** The term is written first, and the vote with whatever is written next. */
class TwoWritesDisk extends SimDisk {
  #owed: HardState | null = null;
  #term = 0;

  override beginAppend(entries: readonly Entry[], hardState: HardState | null): void {
    const owed = this.#owed;
    this.#owed = null;
    if (hardState !== null && hardState.votedFor !== null && hardState.term > this.#term) {
      this.#term = hardState.term;
      this.#owed = hardState;
      super.beginAppend(entries, { ...hardState, votedFor: null });
    } else {
      super.beginAppend(entries, hardState ?? owed);
    }
  }

  override crash(): WriteFate | null {
    this.#owed = null;
    return super.crash();
  }
}

/** Says that a write is durable when it is in the page cache: the next sync brings it to the disk, or a crash drops it. */
class UnsyncedDisk extends SimDisk {
  #durable: DiskImage | null = null;

  override sync(): void {
    this.#durable = this.image();
    super.sync();
  }

  override crash(): WriteFate | null {
    const fate = super.crash();
    if (this.#durable !== null && fate !== 'kept') this.replace(this.#durable);
    this.#durable = null;
    return fate;
  }
}

/** Cuts a suffix from front to back: a crash in between leaves a hole. */
class FrontToBackDisk extends SimDisk {
  #replaced = 0;

  override beginAppend(entries: readonly Entry[], hardState: HardState | null): void {
    const first = entries[0]?.index ?? 0;
    this.#replaced = first > 0 && first <= this.image().lastIndex ? first : 0;
    super.beginAppend(entries, hardState);
  }

  override crash(): WriteFate | null {
    const fate = super.crash();
    const hole = this.#replaced;
    this.#replaced = 0;
    if (fate === null || fate === 'kept' || hole === 0) return fate;
    const image = this.image();
    this.replace({
      ...image,
      segments: image.segments.map((segment) => ({
        ...segment,
        records: segment.records.map((items) =>
          items.filter((item) => item.kind !== 'entry' || item.entry.index !== hole),
        ),
      })),
    });
    return fate;
  }
}

/** Cuts the log up to a snapshot whose file isn't synced: a crash soon after loses it. */
class GapDisk extends SimDisk {
  #writesSince = Number.POSITIVE_INFINITY;
  #newest = 0;

  override sync(): void {
    super.sync();
    this.#writesSince += 1;
    const image = this.image();
    const newest = image.snapshots.at(-1)?.at.index ?? 0;
    if (newest <= this.#newest) return;
    this.#newest = newest;
    this.#writesSince = 0;
    const segments = [...image.segments];
    while ((segments[1]?.firstIndex ?? Number.POSITIVE_INFINITY) <= newest + 1) segments.shift();
    this.replace({ ...image, segments });
  }

  override crash(): WriteFate | null {
    const fate = super.crash();
    const image = this.image();
    if (this.#writesSince < 10 && image.snapshots.length > 1) {
      this.replace({ ...image, snapshots: image.snapshots.slice(0, -1) });
    }
    return fate;
  }
}

/** In what lies below the loop. */
export const storageBugs: readonly PlantedBug[] = [
  {
    name: 'term-and-vote-in-two-writes',
    origin: 'hashicorp/raft#661',
    replaceParts: withDisk(TwoWritesDisk),
  },
  {
    name: 'acknowledged-before-synced',
    origin: 'paper figure 2: stable storage',
    replaceParts: withDisk(UnsyncedDisk),
  },
  { name: 'suffix-cut-from-the-front', origin: 'baidu/braft#119', replaceParts: withDisk(FrontToBackDisk) },
  { name: 'gap-after-snapshot', origin: 'RedisLabs/redisraft#43', replaceParts: withDisk(GapDisk) },
  {
    name: 'torn-record-accepted',
    origin: 'a record is whole only if its checksum says so',
    edits: [{ file: 'replication/log-record', find: 'if (crc === header.crc)', replace: 'if (true)' }],
  },
];
