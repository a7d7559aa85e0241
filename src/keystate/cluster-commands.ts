import { done, refused } from './command-results.js';
import { putFounder } from './member-commands.js';
import type { Tables } from './tables.js';
import type { CommandOf, CommandResult } from './types.js';

export function initCluster(
  tables: Tables,
  index: number,
  command: CommandOf<'cluster.init'>,
): CommandResult {
  const { clusterId, nodeName, memberId, address, format, atMs } = command;
  const { cluster } = tables;
  if (cluster !== null) {
    return refused('already-exists', `this is cluster ${cluster.clusterId} already; a cluster is made once`);
  }
  tables.putCluster({ clusterId, nodeName, createdAtMs: atMs });
  if (memberId === undefined || address === undefined || format === undefined) return done(index);
  tables.activeFormat = format;
  putFounder(tables, index, { memberId, name: nodeName, address }, atMs);
  return done(index);
}

/** What the format brings is in force for the commands after this one. */
export function upgradeCluster(
  tables: Tables,
  index: number,
  { format }: CommandOf<'cluster.upgrade'>,
): CommandResult {
  if (tables.cluster === null) return refused('conflict', 'there is no cluster yet to upgrade');
  if (format > tables.activeFormat) {
    tables.activeFormat = format;
    return done(index);
  }
  return refused(
    'conflict',
    `the active format is ${tables.activeFormat} already; it can't be lowered, and members of that format must not be replaced by older ones`,
  );
}
