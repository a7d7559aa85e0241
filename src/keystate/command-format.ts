import type { Command, CommandRefusal, CommandType } from './types.js';

/**
 * Numbered behaviour. A log is replayed by later releases and must then do what it did when it was written, so what
 * changes is bound to the cluster's active format, which only commands raise:
 *
 * - 1: the first release.
 * - 2: members, settings, isolation rules, recovery; request ids are ordered by time and executed once.
 * - 3: random IVs are counted.
 * - 4: reservations of random IVs are numbered by their holder, and each counts once.
 */
export const commandFormatMax = 4;

/** Since when there is a type; those named nowhere are of format 1. */
const secondFormatTypes: ReadonlySet<CommandType> = new Set<CommandType>([
  'cluster.upgrade',
  'cluster.settings',
  'cluster.recover',
  'member.register',
  'member.add',
  'member.join',
  'member.promote',
  'member.remove',
  'member.forget',
  'member.update',
  'keystore.set',
  'pending.confirm',
  'pending.drop',
]);

const thirdFormatTypes: ReadonlySet<CommandType> = new Set<CommandType>(['iv.reserve', 'key.set']);

/** The oldest format that has the command, in which it is therefore encoded. */
export function formatOf(command: Command): number {
  if (command.type === 'cluster.init') return command.format === undefined ? 1 : 2;
  if (command.type === 'iv.reserve' && command.sequence !== undefined) return 4;
  if (thirdFormatTypes.has(command.type)) return 3;
  return secondFormatTypes.has(command.type) ? 2 : 1;
}

/**
 * Refuses what the cluster is not to know yet. A proposer asks this first: in a cluster that may still go back to the
 * release before, such a command must not even be in the log, where that release would stop at it.
 */
export function checkActiveFormat(command: Command, activeFormat: number): CommandRefusal | null {
  // Those two raise it.
  if (command.type === 'cluster.init' || command.type === 'cluster.upgrade') return null;
  const format = formatOf(command);
  if (format <= activeFormat) return null;
  return {
    code: 'conflict',
    message: `this cluster's active format is ${activeFormat} and ${command.type} needs ${format}: finish the upgrade first (xksctl cluster upgrade --finalize)`,
  };
}
