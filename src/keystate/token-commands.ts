import { done, refused } from './command-results.js';
import { describeUse } from './object-use.js';
import type { Tables } from './tables.js';
import { type CommandOf, type CommandResult, limits } from './types.js';

export function prepareToken(
  tables: Tables,
  index: number,
  { token }: CommandOf<'token.prepare'>,
): CommandResult {
  const max = limits.preparedTokensMax;
  if (tables.preparedToken(token.serial) === null && tables.tokenCount() >= max) {
    return refused('limit', `${max} tokens are prepared already, the most that a cluster may have`);
  }
  for (const other of tables.tokens()) {
    if (other.secretCheckValue === token.secretCheckValue) continue;
    // A token prepared again from nothing may bring a new secret while nothing is sealed under the old one.
    if (other.serial === token.serial && tables.credentialCount() === 0) continue;
    return refused(
      'conflict',
      `token ${token.serial} holds another cluster secret than token ${other.serial}, under which the credentials are sealed: prepare it on a node that has that secret`,
    );
  }
  const objects = [
    { role: 'test key', objectId: token.testKey.objectId },
    { role: 'wrapping key', objectId: token.wrappingKey.objectId },
  ] as const;
  for (const { role, objectId } of objects) {
    const use = tables.objectUse(objectId);
    // Tokens that replicate hold the same objects; each then has the same role on all of them.
    if (use === null || use.role === role) continue;
    if (use.role !== 'key' && use.serial === token.serial) continue;
    return refused('conflict', `object ${objectId} can't be a ${role}: it is ${describeUse(use)}`);
  }
  tables.putToken(token);
  return done(index);
}
