import type { HardState, LogPosition, MemberId } from '../../src/raft/types.js';
import type { DiskImage } from './disk.js';
import { encodeCommand, RegisterMachine } from './register-machine.js';

/** Requests of the preparation; clients' begin at 1. */
const firstRequest = 0xf0000000;

/** The disk of each member of a cluster of `members` that has just been made: a snapshot that says who they are. */
export function preparedImage(members: readonly MemberId[]): DiskImage {
  const machine = new RegisterMachine(() => {});
  let index = 0;
  const apply = (change: 'found' | 'addLearner' | 'promote', member: MemberId): void => {
    const seen = machine.membershipRevision;
    index += 1;
    const request = firstRequest + index;
    machine.apply(index, encodeCommand({ kind: 'membership', request, change, member, seen }, 0));
  };
  for (const [place, member] of members.entries()) {
    if (place === 0) {
      apply('found', member);
    } else {
      apply('addLearner', member);
      apply('promote', member);
    }
  }
  const position = { index, term: 1 };
  return imageAsOf(position, { term: 1, votedFor: null, commitIndex: index }, machine.snapshot());
}

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
