import { createHash } from 'node:crypto';
import { invariant } from '../base/guards.js';
import { clusterLimits, type GrantType, type UnconfirmedGrant } from '../keystate/cluster-types.js';
import { classOf, loosens } from '../keystate/command-class.js';
import type { Command, KeyStateQueries } from '../keystate/types.js';

/**
 * What `command`, about to be applied to `state` at `index`, gives; `null` when it gives nothing. A grant of an earlier
 * recovery that it confirms is that grant anew.
 */
export function grantOf(
  command: Command,
  state: KeyStateQueries,
  index: number,
  bytes: Uint8Array,
): UnconfirmedGrant | null {
  const grant = (type: GrantType, keyStore: string, name: string | null): UnconfirmedGrant => ({
    index,
    digest: createHash('sha256').update(bytes).digest('hex'),
    type,
    keyStore,
    name,
  });
  switch (command.type) {
    case 'keystore.create':
    case 'keystore.enable':
      return grant(command.type, command.name, null);
    case 'keystore.set': {
      const before = state.keyStore(command.name)?.onIsolation;
      const takesAway = before !== undefined && !loosens(command.onIsolation, before);
      return takesAway ? null : grant(command.type, command.name, null);
    }
    case 'credential.create':
      return grant(command.type, command.keyStore, command.accessKeyId);
    case 'key.create':
    case 'key.enable':
      return grant(command.type, command.keyStore, command.externalKeyId);
    case 'pending.confirm': {
      const row = [...state.pending()].find((pending) => pending.index === command.index);
      return row === undefined ? null : grant(row.type, row.keyStore, row.name);
    }
    default:
      invariant(classOf(command) !== 'grant', `${command.type} grants, and nobody says what`);
      return null;
  }
}

/** What a grant is of: a later one of the same makes it immaterial. */
function aspectOf({ type, keyStore, name }: UnconfirmedGrant): string {
  switch (type) {
    case 'keystore.create':
    case 'keystore.enable':
      return `status ${keyStore}`;
    case 'keystore.set':
      return `isolation ${keyStore}`;
    case 'credential.create':
      return `credential ${name}`;
    case 'key.create':
    case 'key.enable':
      return `key ${keyStore} ${name}`;
  }
}

/**
 * The grants that may be in force, in batches for one command each, at least one. The grants of one key store itself are
 * in one batch: they are taken back and confirmed under one revision.
 */
export function grantBatches(
  grants: readonly UnconfirmedGrant[],
  batchMax: number = clusterLimits.pendingPerCommandMax,
): UnconfirmedGrant[][] {
  const latest = new Map<string, UnconfirmedGrant>();
  for (const grant of [...grants].sort((left, right) => left.index - right.index)) {
    latest.set(aspectOf(grant), grant);
  }
  const groups = new Map<string, UnconfirmedGrant[]>();
  for (const [aspect, grant] of latest) {
    const group = grant.name === null ? `key store ${grant.keyStore}` : aspect;
    groups.set(group, [...(groups.get(group) ?? []), grant]);
  }
  let batch: UnconfirmedGrant[] = [];
  const batches = [batch];
  for (const group of groups.values()) {
    if (batch.length + group.length > batchMax) {
      batch = [];
      batches.push(batch);
    }
    batch.push(...group);
  }
  return batches;
}
