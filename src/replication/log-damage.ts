/** What an operator reads when the log can't be taken as it is. Nothing has been changed then. */
export const damaged = (path: string, offset: number, reason: string): string =>
  `${path} is damaged at byte ${offset}: ${reason}. Nothing was changed. Keep a copy of the data directory for examination. In a cluster of several nodes, remove this node, empty its data directory and let it join again; a cluster of one must be restored from a backup of its data directory`;

/** Data of a format that only a later version reads. */
export const newerFormat = (path: string, format: number, known: number): string =>
  `${path} has format ${format} and this version of xksd reads format ${known}: it was written by another version, so install that one`;

export const foreignCluster = (path: string, clusterId: string, expected: string): string =>
  `${path} belongs to cluster ${clusterId}, and this data directory to cluster ${expected}: files of two nodes were mixed. Restore the data directory from a backup`;
