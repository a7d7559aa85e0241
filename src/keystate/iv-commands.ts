import { done, refused } from './command-results.js';
import type { IvBudget } from './iv-budget.js';
import { noKey } from './key-commands.js';
import type { Tables } from './tables.js';
import type { CommandOf, CommandResult } from './types.js';

const untouched = (objectId: string): IvBudget => ({ objectId, reserved: 0, rule: 'refuse' });

/**
 * Counts, once for each sequence, and refuses nothing: what was encrypted was encrypted, and the block is its process's to use as far as the
 * budget goes (`withinBudget`). Objects that are no key's are left out, so that there are no more budgets than key versions.
 */
export function reserveIvs(tables: Tables, index: number, command: CommandOf<'iv.reserve'>): CommandResult {
  const { holder, sequence } = command;
  if (sequence !== undefined) {
    if (sequence <= tables.ivSequence(holder)) return { ok: true, revision: index, repeated: true };
    tables.putIvHolder({ holder, sequence });
  }
  for (const { objectId, used, ahead } of command.reservations) {
    if (tables.objectUse(objectId)?.role !== 'key') continue;
    const before = tables.ivBudget(objectId) ?? untouched(objectId);
    const reserved = Math.min(Number.MAX_SAFE_INTEGER, before.reserved + used + ahead);
    tables.putIvBudget({ ...before, reserved });
  }
  return done(index);
}

/** For the version that encrypts: the next one begins with a budget of its own, and with the rule by default. */
export function setKey(tables: Tables, index: number, command: CommandOf<'key.set'>): CommandResult {
  const { keyStore, externalKeyId, ivBudget } = command;
  const key = tables.key(keyStore, externalKeyId);
  if (key === null) return noKey(tables, keyStore, externalKeyId);
  const current = key.versions.find(({ version }) => version === key.currentVersion);
  if (current === undefined) return refused('conflict', `key "${externalKeyId}" has no current version`);
  const before = tables.ivBudget(current.objectId) ?? untouched(current.objectId);
  tables.putIvBudget({ ...before, rule: ivBudget });
  return done(index);
}
