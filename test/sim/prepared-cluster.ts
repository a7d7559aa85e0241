import type { MemberId } from '../../src/raft/types.js';
import { type DiskImage, emptyImage } from './disk.js';
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
    snapshots: [{ at, records: [...machine.snapshot()] }],
    hardState,
    lastIndex: index,
  };
}
