import { join } from 'node:path';
import { errorText, invariant } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import type { Entry, HardState, LogPosition } from '../raft/types.js';
import type { DataDirectory } from './data-directory.js';
import type { OpenFile } from './file-operations.js';
import { itemsOf, partsOf } from './log-batch.js';
import { encodeItems, type LogItem } from './log-items.js';
import { type ChainPosition, encodeRecord } from './log-record.js';
import { type Recovered, recoverLog } from './log-recovery.js';
import {
  makeEndDurable,
  removeTemporaryFiles,
  settleReceived,
  syncDirectories,
  tidySnapshots,
} from './log-tidying.js';
import type { PersistBatch } from './replication-loop.js';
import { createSegment, segmentName } from './segment-file.js';
import { receivedSnapshotName, snapshotIndex, snapshotName, writeSnapshot } from './snapshot-file.js';

/** A segment that reaches it is followed by a new one. */
const segmentBytesDefault = 16 * 1024 * 1024;

interface Segment {
  readonly segment: number;
  readonly firstIndex: number;
}

/**
 * The write-ahead log of a data directory, segments and snapshots: Raft's persistent state. Writes one thing at a time
 * to the log, and at most one snapshot beside. After a failed write or sync it does nothing any more, for nothing is
 * known of what the disk holds then; the process must end and read it again.
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
  #hardState: HardState;
  /** Came with a snapshot and is about entries after it: goes with them. */
  #owedHardState: HardState | null = null;
  /** Whether the last segment says nothing of the hard state yet. */
  #hardStateDue: boolean;
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
    this.#hardState = recovered.hardState;
    this.#hardStateDue = !recovered.segments.at(-1)?.items.some(({ kind }) => kind === 'hardState');
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
      await tidySnapshots(directory, read.value.installedIndex);
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
   * Appends entries and hard state as one record and syncs it: after a crash all of them are there, or none. Entries
   * replace those of their index and all after them, and are never committed ones.
   *
   * More entries than a record takes go into several, each synced before the next: a crash between leaves the first of
   * them, as if fewer had been sent, with term and vote but not yet the new commit index.
   *
   * Not to be called while another operation on the log is under way.
   */
  append(batch: PersistBatch): Promise<Result<null, string>> {
    return this.#guard(async () => {
      const { entries } = batch;
      const hardState = batch.hardState ?? this.#owedHardState;
      this.#owedHardState = null;
      this.#check(entries, hardState);
      const parts = partsOf(entries);
      const rest = parts.pop() ?? [];
      for (const part of parts) {
        // As far as it is about entries that are there by then: who knows of two changes of the members must know that
        // the first is committed.
        const endIndex = part.at(-1)?.index ?? 0;
        const early = hardState && {
          ...hardState,
          commitIndex: Math.max(this.#hardState.commitIndex, Math.min(hardState.commitIndex, endIndex)),
        };
        await this.#writeRecord(itemsOf(part, early));
      }
      if (rest.length > 0 || hardState !== null) await this.#writeRecord(itemsOf(rest, hardState));
      return null;
    });
  }

  /** A batch that breaks Raft's rules is a bug above and must not reach the disk. */
  #check(entries: readonly Entry[], hardState: HardState | null): void {
    const { commitIndex } = this.#hardState;
    const firstIndex = entries[0]?.index ?? this.#lastIndex + 1;
    invariant(firstIndex > commitIndex, `entry ${firstIndex} would replace a committed one`);
    invariant(firstIndex <= this.#lastIndex + 1, `entry ${firstIndex} would leave a gap`);
    for (const [place, { index }] of entries.entries()) {
      invariant(index === firstIndex + place, `entry ${index} would leave a gap`);
    }
    if (hardState === null) return;
    this.#checkVote(hardState);
    invariant(hardState.commitIndex >= commitIndex, `commit index ${hardState.commitIndex} goes back`);
    const lastIndex = entries.at(-1)?.index ?? this.#lastIndex;
    invariant(hardState.commitIndex <= lastIndex, `commit index ${hardState.commitIndex} is beyond the log`);
  }

  /** Paper §5.1, §5.2: terms only rise, and a vote once given stands for its term. */
  #checkVote(hardState: HardState): void {
    const { term, votedFor } = this.#hardState;
    invariant(hardState.term >= term, `term ${hardState.term} after ${term}`);
    const changesVote = hardState.term === term && votedFor !== null && hardState.votedFor !== votedFor;
    invariant(!changesVote, `a second vote in term ${term}`);
  }

  /** Where hard state is told is where it holds from; each segment tells it anew, in the first record after its own. */
  async #writeRecord(items: readonly LogItem[]): Promise<void> {
    if (this.#sizeBytes >= this.#segmentBytesMax) await this.#startSegment();
    const told = items.find((item) => item.kind === 'hardState')?.hardState;
    const hardState = told ?? this.#hardState;
    const all: readonly LogItem[] =
      told === undefined && this.#hardStateDue ? [{ kind: 'hardState', hardState }, ...items] : items;
    const { bytes, next } = encodeRecord(encodeItems(all), this.#position);
    await this.#file.write(this.#sizeBytes, bytes);
    await this.#file.dataSync();
    this.#sizeBytes += bytes.byteLength;
    this.#position = next;
    this.#hardState = hardState;
    if (all.some(({ kind }) => kind === 'hardState')) this.#hardStateDue = false;
    for (const item of items) {
      if (item.kind === 'entry') this.#lastIndex = item.entry.index;
      if (item.kind === 'installedSnapshot') this.#lastIndex = item.index;
    }
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
    this.#hardStateDue = true;
    await full.close();
  }

  /**
   * Writes a snapshot of our own as of `at`, which must be committed in the log. One at a time; all else goes on
   * meanwhile. It is of use once `markSnapshot` follows.
   */
  saveSnapshot(at: LogPosition, records: Iterable<Uint8Array>): Promise<Result<null, string>> {
    return this.#guard(async () => {
      invariant(at.index <= this.#hardState.commitIndex, `a snapshot as of ${at.index} is not committed`);
      const { files, snapshotsPath, identity } = this.#directory;
      const header = { ...at, clusterId: identity.clusterId };
      await writeSnapshot(files, snapshotsPath, snapshotName(at.index), header, records);
      return null;
    });
  }

  /**
   * Says in the log that the snapshot as of `at` was saved and removes what it made superfluous. Keeps the snapshot
   * before it and the log since then, in case the new one is damaged one day. Nothing is done when a received snapshot
   * overtook it. Not to be called while another operation on the log is under way.
   */
  markSnapshot({ index, term }: LogPosition): Promise<Result<null, string>> {
    return this.#guard(async () => {
      const previous = this.#snapshotIndex;
      if (index <= previous) return null;
      await this.#writeRecord([{ kind: 'snapshotMarker', index, term }]);
      this.#snapshotIndex = index;
      await this.#compact(previous, index);
      return null;
    });
  }

  /** Two snapshots stay, and the log since the older. */
  async #compact(previous: number, index: number): Promise<void> {
    const { files, snapshotsPath, logPath } = this.#directory;
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
  }

  /**
   * Puts a snapshot from another member in the place of the whole log: `at.index` is beyond the commit index. After a
   * crash either the log stands as it was or the snapshot does, with `hardState` (`null`: term and vote as they were).
   * Should its commit index be beyond the snapshot, that goes with the entries appended next. Of what went before, the
   * last snapshot and the log since stay on the disk, out of force, until another follows: a member that lags for ever
   * gets one after the other, and makes none of its own.
   *
   * Not to be called while another operation on the log is under way.
   */
  installSnapshot(
    at: LogPosition,
    records: Iterable<Uint8Array>,
    hardState: HardState | null,
  ): Promise<Result<null, string>> {
    return this.#guard(async () => {
      const { index, term } = at;
      invariant(index > this.#hardState.commitIndex, `a snapshot as of ${index} would take back commits`);
      if (hardState !== null) this.#checkVote(hardState);
      const { files, snapshotsPath, identity } = this.#directory;
      // Under a name that counts only together with the item: had a crash left it as one of our own, it would seem to
      // be of the entries that the log has.
      const received = receivedSnapshotName(index);
      await writeSnapshot(files, snapshotsPath, received, { ...at, clusterId: identity.clusterId }, records);
      const settled = { ...(hardState ?? this.#hardState), commitIndex: index };
      this.#owedHardState = hardState !== null && hardState.commitIndex > index ? hardState : null;
      await this.#writeRecord([
        { kind: 'installedSnapshot', index, term },
        { kind: 'hardState', hardState: settled },
      ]);
      await settleReceived(this.#directory, index);
      const previous = this.#snapshotIndex;
      this.#snapshotIndex = index;
      await this.#compact(previous, index);
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
