/**
 * What to do where a data directory is lost or damaged. Never "restore a backup" alone: a member of several would come back
 * as it was when the backup was made, and forget what it has acknowledged and who was disabled since.
 */
export const wayBack =
  'In a cluster of several nodes, remove this node, empty its data directory, and add and join it anew; only a cluster of one is restored from a backup of its data directory';

/** What an operator reads when the log can't be taken as it is. Nothing has been changed then. */
export const damaged = (path: string, offset: number, reason: string): string =>
  `${path} is damaged at byte ${offset}: ${reason}. Nothing was changed. Keep a copy of the data directory for examination. ${wayBack}`;

/** Data of a format that only a later version reads. */
export const newerFormat = (path: string, format: number, known: number): string =>
  `${path} has format ${format} and this version of xksd reads format ${known}: it was written by another version, so install that one`;

export const foreignCluster = (path: string, clusterId: string, expected: string): string =>
  `${path} belongs to cluster ${clusterId}, and this data directory to cluster ${expected}: files of two nodes were mixed. ${wayBack}`;

/** Of a node that is a member of a cluster, and whose log has no entry that says so. */
export const emptiedLog = (path: string): string =>
  `the log in ${path} knows nothing of the cluster that this node is a member of: it was emptied, or is a backup of its first moments. ${wayBack}`;
