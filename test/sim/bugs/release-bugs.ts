import type { PlantedBug } from './planted-bug.js';

/** Where two releases meet. */
export const releaseBugs: readonly PlantedBug[] = [
  {
    name: 'new-command-before-finalise',
    origin: 'replication.md 15: until the upgrade is finalised the previous release runs on the same data',
    edits: [
      {
        file: 'keystate/command-format',
        find: 'if (format <= activeFormat)',
        replace: 'if (true)',
      },
    ],
  },
  {
    name: 'hash-over-newest-encoding',
    origin: 'replication.md 9: hashes are over encodings at the active format',
    nextReleaseEdits: [
      {
        file: 'keystate/object-hash',
        find: 'this.#hash.add(encoded ?? encodeRecord(kind, value));',
        replace: 'this.#hash.add(Buffer.concat([Buffer.of(3), encoded ?? encodeRecord(kind, value)]));',
      },
      {
        file: 'keystate/object-hash',
        find: 'this.#hash.remove(encodeRecord(kind, value));',
        replace: 'this.#hash.remove(Buffer.concat([Buffer.of(3), encodeRecord(kind, value)]));',
      },
    ],
  },
  {
    name: 'snapshot-in-newest-format',
    origin: 'replication.md 15: snapshots have the active format',
    nextReleaseEdits: [
      { file: 'keystate/snapshot-codec', find: 'format: tables.activeFormat,', replace: 'format: 5,' },
    ],
  },
  {
    name: 'finalised-over-an-older-member',
    origin: 'replication.md 15: the active format rises only where all members know it',
    edits: [
      {
        file: 'replica/upgrade-gate',
        find: 'return report.formatMax >= formatMax ?',
        replace: 'return true ?',
      },
    ],
  },
  {
    name: 'finalised-over-a-silent-member',
    origin: 'replication.md 15: a member that is not heard of may come back with the former release',
    edits: [
      {
        file: 'replica/upgrade-gate',
        find: 'if (report === undefined)',
        replace: 'if (report === undefined) return []; else if (false)',
      },
    ],
  },
  {
    name: 'older-joiner-let-in',
    origin: 'replication.md 15: an older joiner is refused',
    edits: [
      {
        file: 'replica/join-cluster',
        find: 'if (formatMax < state.activeFormat()) {',
        replace: 'if (false) {',
      },
    ],
  },
];
