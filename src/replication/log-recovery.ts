import { join } from 'node:path';
import { err, ok, type Result } from '../base/result.js';
import type { DataDirectory } from './data-directory.js';
import type { FileOperations } from './file-operations.js';
import { damaged } from './log-damage.js';
import { type ReadSegment, readSegment, segmentName, segmentNumber } from './segment-file.js';
import { type ReadSnapshot, readSnapshot, snapshotIndex, snapshotName } from './snapshot-file.js';

export interface LogEntry {
  readonly index: number;
  readonly term: number;
  readonly data: Uint8Array;
}

export interface HardState {
  readonly term: number;
  /** Member id. */
  readonly votedFor: string | null;
  readonly commitIndex: number;
}

/** What a data directory holds. */
export interface Recovered {
  /** The newest that is good; `null` before the first. */
  readonly snapshot: ReadSnapshot | null;
  /** After the snapshot, without gaps. */
  readonly entries: readonly LogEntry[];
  readonly hardState: HardState;
  readonly lastIndex: number;
  /** Oldest first, at least one. Only the last may end in a torn write. */
  readonly segments: readonly ReadSegment[];
  /** For the operator: what is wrong and could be gone around. */
  readonly warnings: readonly string[];
}

/** Reads log and snapshots, and changes nothing. */
export async function recoverLog(directory: DataDirectory): Promise<Result<Recovered, string>> {
  const segments = await readSegments(directory);
  if (!segments.ok) return segments;
  const replayed = replay(segments.value);
  if (!replayed.ok) return replayed;
  const { firstIndex, entries, hardState, markerIndex } = replayed.value;
  const lastIndex = firstIndex - 1 + entries.length;
  const found = await newestSnapshot(directory);
  if (!found.ok) return found;
  const { snapshot } = found.value;
  const index = snapshot?.index ?? 0;
  const warnings = [...found.value.warnings];
  if (index < firstIndex - 1) {
    const reason = `the log starts at index ${firstIndex} and no snapshot as of ${firstIndex - 1} or later is good`;
    return err([damaged(directory.snapshotsPath, 0, reason), ...warnings].join('; '));
  }
  // A snapshot is of entries that were durable before: a log that ends sooner has lost its end.
  if (index > lastIndex) {
    const reason = `the log ends at index ${lastIndex}, before the snapshot as of ${index}`;
    return err(damaged(directory.logPath, 0, reason));
  }
  if (index < markerIndex && warnings.length === 0) {
    warnings.push(
      `the snapshot as of index ${markerIndex} is missing; the log since ${index} was used instead`,
    );
  }
  const since = entries.slice(index + 1 - firstIndex);
  return ok({ snapshot, entries: since, hardState, lastIndex, segments: segments.value, warnings });
}

async function readFile(files: FileOperations, path: string): Promise<Buffer> {
  const file = await files.open(path, 'read');
  try {
    return await file.readAll();
  } finally {
    await file.close();
  }
}

async function readSegments({
  logPath,
  files,
  identity,
}: DataDirectory): Promise<Result<ReadSegment[], string>> {
  const names = await files.list(logPath);
  const numbers = names.map(segmentNumber).filter((number) => number !== null);
  numbers.sort((left, right) => left - right);
  const segments: ReadSegment[] = [];
  for (const [place, segment] of numbers.entries()) {
    const before = segments.at(-1);
    if (before !== undefined && segment !== before.segment + 1) {
      return err(damaged(logPath, 0, `${segmentName(before.segment + 1)} is missing`));
    }
    const path = join(logPath, segmentName(segment));
    const sequence = before === undefined ? null : before.position.sequence;
    const expected = { clusterId: identity.clusterId, segment, sequence };
    const read = readSegment(path, await readFile(files, path), expected, place === numbers.length - 1);
    if (!read.ok) return read;
    if (before !== undefined && read.value.previousCrc !== before.position.crc) {
      return err(damaged(path, 0, `it does not continue ${segmentName(before.segment)}`));
    }
    segments.push(read.value);
  }
  return segments.length > 0 ? ok(segments) : err(damaged(logPath, 0, 'it holds no segment'));
}

interface Replayed {
  /** Of the first entry; one more than the last index when there is none. */
  readonly firstIndex: number;
  readonly entries: readonly LogEntry[];
  readonly hardState: HardState;
  /** Of the last snapshot that was made; 0 before the first. */
  readonly markerIndex: number;
}

/** What the items of all segments, in order, come to. */
function replay(segments: readonly ReadSegment[]): Result<Replayed, string> {
  const firstIndex = segments[0]?.firstIndex ?? 1;
  const entries: LogEntry[] = [];
  let hardState: HardState = { term: 0, votedFor: null, commitIndex: 0 };
  let markerIndex = 0;
  for (const { path, items, firstIndex: announced } of segments) {
    if (announced > firstIndex + entries.length) {
      return err(damaged(path, 0, `entries before index ${announced} are missing`));
    }
    for (const item of items) {
      const next = firstIndex + entries.length;
      if (item.kind === 'entry') {
        if (item.index > next || item.index < firstIndex || item.index <= hardState.commitIndex) {
          return err(damaged(path, 0, `entry ${item.index} is where entry ${next} should be`));
        }
        entries.length = item.index - firstIndex;
        entries.push({ index: item.index, term: item.term, data: item.data });
      } else if (item.kind === 'hardState') {
        if (
          item.term < hardState.term ||
          item.commitIndex < hardState.commitIndex ||
          item.commitIndex >= next
        ) {
          return err(damaged(path, 0, `term or commit index go back, or beyond entry ${next - 1}`));
        }
        hardState = { term: item.term, votedFor: item.votedFor, commitIndex: item.commitIndex };
      } else if (item.kind === 'snapshotMarker') {
        markerIndex = item.index;
      } else {
        return err(damaged(path, 0, `a ${item.kind} is among the entries`));
      }
    }
  }
  return ok({ firstIndex, entries, hardState, markerIndex });
}

/** The newest snapshot that is good. One that isn't is gone around: the log reaches back to the one before. */
async function newestSnapshot(
  directory: DataDirectory,
): Promise<Result<{ readonly snapshot: ReadSnapshot | null; readonly warnings: readonly string[] }, string>> {
  const { files, snapshotsPath, identity } = directory;
  const indexes = (await files.list(snapshotsPath)).map(snapshotIndex).filter((index) => index !== null);
  indexes.sort((left, right) => right - left);
  const warnings: string[] = [];
  for (const index of indexes) {
    const path = join(snapshotsPath, snapshotName(index));
    const read = readSnapshot(path, await readFile(files, path), { clusterId: identity.clusterId, index });
    if (read.ok) return ok({ snapshot: read.value, warnings });
    warnings.push(read.error);
  }
  return ok({ snapshot: null, warnings });
}
