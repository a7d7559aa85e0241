import { join } from 'node:path';
import { err, ok, type Result } from '../base/result.js';
import type { Entry, HardState } from '../raft/types.js';
import type { DataDirectory } from './data-directory.js';
import type { FileOperations } from './file-operations.js';
import { damaged } from './log-damage.js';
import { type ReplayedLog, replay } from './log-replay.js';
import { type ReadSegment, readSegment, segmentName, segmentNumber } from './segment-file.js';
import { type ReadSnapshot, readSnapshot, receivedSnapshotIndex, snapshotIndex } from './snapshot-file.js';

/** What a data directory holds. */
export interface Recovered {
  /** The newest that is good; `null` before the first. */
  readonly snapshot: ReadSnapshot | null;
  /** All after the snapshot, without gaps, also those beyond the commit index. */
  readonly entries: readonly Entry[];
  readonly hardState: HardState;
  readonly lastIndex: number;
  /** Oldest first, at least one. Only the last may end in a torn write. */
  readonly segments: readonly ReadSegment[];
  /** Of the last snapshot from another member that took the log's place; `null` when the log knows of none. */
  readonly installedIndex: number | null;
  /** For the operator: what is wrong and could be gone around. */
  readonly warnings: readonly string[];
}

/** Reads log and snapshots, and changes nothing. */
export async function recoverLog(directory: DataDirectory): Promise<Result<Recovered, string>> {
  const segments = await readSegments(directory);
  if (!segments.ok) return segments;
  const log = replay(segments.value);
  if (!log.ok) return log;
  const { firstIndex, entries, hardState, installed, markerIndex } = log.value;
  const installedIndex = installed?.index ?? null;
  const found = await newestSnapshot(directory, installedIndex);
  if (!found.ok) return found;
  const { snapshot } = found.value;
  const warnings = [...found.value.warnings];
  const problem = misfit(directory, snapshot, log.value);
  if (problem !== null) return err([problem, ...warnings].join('; '));
  const index = snapshot?.index ?? 0;
  if (index < markerIndex && warnings.length === 0) {
    warnings.push(
      `the snapshot as of index ${markerIndex} is missing; the log since ${index} was used instead`,
    );
  }
  return ok({
    snapshot,
    entries: entries.slice(index + 1 - firstIndex),
    hardState,
    lastIndex: firstIndex - 1 + entries.length,
    segments: segments.value,
    installedIndex,
    warnings,
  });
}

/** Why snapshot and log are not of one history without gaps; `null` when they are. */
function misfit(
  { snapshotsPath, logPath }: DataDirectory,
  snapshot: ReadSnapshot | null,
  { firstIndex, entries, hardState, installed }: ReplayedLog,
): string | null {
  const { index, term } = snapshot ?? { index: 0, term: 0 };
  if (index < firstIndex - 1) {
    const reason = `the log starts at index ${firstIndex} and no snapshot as of ${firstIndex - 1} or later is good`;
    return damaged(snapshotsPath, 0, reason);
  }
  // A snapshot is of entries that were durable and committed before it was made, and one that came from another member
  // counts from its item in the log on: a log that ends sooner has lost its end.
  const lastIndex = firstIndex - 1 + entries.length;
  const end = Math.min(lastIndex, hardState.commitIndex);
  if (index > end) {
    return damaged(logPath, 0, `the log ends at index ${end}, before the snapshot as of ${index}`);
  }
  const known = installed?.index === index ? installed.term : entries[index - firstIndex]?.term;
  if (known !== undefined && known !== term) {
    const reason = `the snapshot as of index ${index} is of term ${term}, the log has term ${known} there`;
    return damaged(snapshotsPath, 0, reason);
  }
  return null;
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

/**
 * The newest snapshot that is good. One that isn't is gone around: the log reaches back to the one before. A received
 * one that never took the log's place is none.
 */
async function newestSnapshot(
  directory: DataDirectory,
  installedIndex: number | null,
): Promise<Result<{ readonly snapshot: ReadSnapshot | null; readonly warnings: readonly string[] }, string>> {
  const { files, snapshotsPath, identity } = directory;
  const found: { readonly name: string; readonly index: number }[] = [];
  for (const name of await files.list(snapshotsPath)) {
    const received = receivedSnapshotIndex(name);
    const index = received !== null && received === installedIndex ? received : snapshotIndex(name);
    if (index !== null) found.push({ name, index });
  }
  found.sort((left, right) => right.index - left.index);
  const warnings: string[] = [];
  for (const { name, index } of found) {
    const path = join(snapshotsPath, name);
    const read = readSnapshot(path, await readFile(files, path), { clusterId: identity.clusterId, index });
    if (read.ok) return ok({ snapshot: read.value, warnings });
    warnings.push(read.error);
  }
  return ok({ snapshot: null, warnings });
}
