import type { HardState, LogPosition } from '../../src/raft/types.js';
import type { DiskImage } from './disk.js';

/** The disk of each member of a cluster that has just been made: a snapshot as of `index`, which says who they are. */
export const preparedImage = (index: number, records: Iterable<Uint8Array>): DiskImage =>
  imageAsOf({ index, term: 1 }, { term: 1, votedFor: null, commitIndex: index }, records);

/** A disk that holds nothing but a snapshot as of `at`. */
export function imageAsOf(at: LogPosition, hardState: HardState, records: Iterable<Uint8Array>): DiskImage {
  return {
    segments: [
      {
        segment: 1,
        firstIndex: at.index + 1,
        records: [
          [
            { kind: 'installedSnapshot', ...at },
            { kind: 'hardState', hardState },
          ],
        ],
      },
    ],
    snapshots: [{ at, records: [...records] }],
    hardState,
    lastIndex: at.index,
  };
}
