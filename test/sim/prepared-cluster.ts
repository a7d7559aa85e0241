import { type DiskImage, emptyImage } from './disk.js';

/** The disk of each member of a cluster that has just been made: a snapshot as of `index`, which says who they are. */
export function preparedImage(index: number, records: Iterable<Uint8Array>): DiskImage {
  const at = { index, term: 1 };
  const hardState = { term: 1, votedFor: null, commitIndex: index };
  return {
    ...emptyImage,
    segments: [
      {
        segment: 1,
        firstIndex: 1,
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
    lastIndex: index,
  };
}
