import type { PlantedBug } from './planted-bug.js';

/** In the recovery from lost quorum, and in who listens to whom afterwards. */
export const recoveryBugs: readonly PlantedBug[] = [
  {
    name: 'lesser-log-recovered',
    origin: 'cockroachdb/cockroach#73662: the survivor is not chosen by its log',
    edits: [
      {
        file: 'replication/lost-quorum',
        find: 'compareLogs(lastLog, greatest.lastLog) > 0',
        replace: 'false',
      },
    ],
  },
  {
    name: 'recovered-as-the-same-cluster',
    origin: 'etcd-io/etcd#2331: two clusters of the same id may run',
    edits: [
      {
        file: 'replication/lost-quorum',
        find: 'const clusterId = inputs.newClusterId;',
        replace: 'const clusterId = identity.clusterId;',
      },
    ],
  },
  {
    name: 'unconfirmed-grants-in-force',
    origin: 'replication.md 13: grants beyond the durable commit index are pending',
    edits: [
      {
        file: 'replication/lost-quorum',
        find: 'machine.applyUnconfirmed(entry)',
        replace: 'machine.apply(entry)',
      },
    ],
  },
  {
    name: 'unconfirmed-end-dropped',
    origin: 'replication.md 13: the whole surviving log is kept',
    edits: [{ file: 'replication/lost-quorum', find: 'machine.applyUnconfirmed(entry)', replace: 'entry' }],
  },
  {
    name: 'recovered-in-the-same-term',
    origin: 'hashicorp/raft#140: what a recovery adds is of the term that was',
    edits: [
      {
        file: 'replication/lost-quorum',
        find: 'Math.max(recovered.hardState.term, lastLog.term) + 1',
        replace: 'Math.max(recovered.hardState.term, lastLog.term)',
      },
    ],
  },
  {
    name: 'former-members-listened-to',
    origin: 'replication.md 7: the cluster id is in every message',
    edits: [
      { file: 'replication/peer-gate', find: 'clusterId === gate.clusterId', replace: 'true' },
      { file: 'replication/peer-gate', find: 'if (!authorized.ok)', replace: 'if (false)' },
    ],
  },
  {
    name: 'former-members-not-told',
    origin: 'replication.md 14: one that is told “other cluster” stops serving',
    edits: [
      {
        file: 'replication/peer-gate',
        find: "leftBehind ? 'other-cluster' : 'foreign-cluster'",
        replace: "'foreign-cluster'",
      },
    ],
  },
];
