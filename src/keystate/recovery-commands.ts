import type { PendingGrant, PendingRow, UnconfirmedGrant } from './cluster-types.js';
import { clusterLimits } from './cluster-types.js';
import { done, refused } from './command-results.js';
import { leaveBehind, putFounder } from './member-commands.js';
import type { Tables } from './tables.js';
import { type CommandOf, type CommandResult, limits } from './types.js';

type Recovery = CommandOf<'cluster.recover'>;

/**
 * Recovery from lost quorum (replication.md 13): the survivor's whole log is kept and this command put behind it, under
 * a new cluster id that keeps all others out. Grants that nobody may ever have been told of are taken back until
 * somebody confirms them; denials among them stay in force.
 */
export function recoverCluster(tables: Tables, index: number, command: Recovery): CommandResult {
  const refusal = moveToNewCluster(tables, index, command);
  if (refusal !== null) return refusal;
  // The latest first: an earlier grant of the same object finds it disabled, and would give it nothing.
  for (const grant of [...command.pending].sort((left, right) => right.index - left.index)) {
    const row = takeBack(tables, index, grant);
    if (row !== null) tables.putPending(row);
  }
  return done(index);
}

function moveToNewCluster(tables: Tables, index: number, command: Recovery): CommandResult | null {
  const { newClusterId, survivor, formerMembers, pending, atMs } = command;
  const { cluster } = tables;
  if (cluster === null) return refused('conflict', 'there is no cluster here to recover');
  const others = [...tables.members()].filter(({ memberId }) => memberId !== survivor.memberId);
  if (pending.length + tables.pendingCount() > clusterLimits.pendingMax) {
    return refused('limit', `more than ${clusterLimits.pendingMax} grants would wait for a decision`);
  }
  if (cluster.clusterId === newClusterId) {
    const goesOn = others.length === 0 && tables.member(survivor.memberId)?.status === 'voter';
    return goesOn ? null : refused('conflict', `a recovery needs another cluster id than ${newClusterId}`);
  }
  if (tables.formerMember(survivor.memberId) !== null) {
    return refused('conflict', `"${survivor.name}" is a former member: nothing can be recovered from it`);
  }
  // Who never joined has nothing of this cluster, and its invitation is to one that is no more.
  const joined = others.filter(({ status }) => status !== 'invited');
  const known = new Set(joined.map(({ memberId }) => memberId));
  const leaving = [...joined, ...formerMembers.filter(({ memberId }) => !known.has(memberId))];
  if (!leaveBehind(tables, index, leaving, { reason: 'recovered', atMs })) {
    return refused(
      'limit',
      `more than ${clusterLimits.formerMembersMax} former members would not be known to be destroyed: say which are (xksctl cluster forget NODE --destroyed)`,
    );
  }
  for (const member of [...tables.members()]) tables.removeMember(member);
  putFounder(tables, index, survivor, atMs);
  tables.putCluster({ ...cluster, clusterId: newClusterId });
  return null;
}

/** Takes back what the grant gave; `null` when nothing of it is in force any more. */
function takeBack(tables: Tables, index: number, grant: UnconfirmedGrant): PendingRow | null {
  const { type, keyStore: storeName, name } = grant;
  const row: PendingRow = { ...grant, revision: index, credential: null, onIsolation: null };
  const keyStore = tables.keyStore(storeName);
  if (keyStore === null) return null;
  switch (type) {
    case 'keystore.create':
    case 'keystore.enable':
      // Its revision may be that of a later change of another kind.
      if (keyStore.status !== 'ENABLED' || keyStore.revision < grant.index) return null;
      tables.putKeyStore({ ...keyStore, status: 'DISABLED', revision: index });
      return row;
    case 'keystore.set': {
      const { onIsolation } = keyStore;
      const strictest = { rule: 'stop', boundMs: limits.isolationBoundMsMin } as const;
      const isStrict = onIsolation.rule === 'stop' && onIsolation.boundMs <= strictest.boundMs;
      if (isStrict || keyStore.revision < grant.index) return null;
      tables.putKeyStore({ ...keyStore, onIsolation: strictest, revision: index });
      return { ...row, onIsolation };
    }
    case 'credential.create': {
      const credential = tables.credential(name ?? '');
      if (credential?.keyStore !== storeName || credential.revision !== grant.index) return null;
      tables.removeCredential(credential);
      return { ...row, credential };
    }
    case 'key.create':
    case 'key.enable': {
      const key = tables.key(storeName, name ?? '');
      if (key === null || key.status !== 'ENABLED' || key.revision !== grant.index) return null;
      tables.putKey({ ...key, status: 'DISABLED', revision: index });
      return row;
    }
  }
}

export function confirmPending(
  tables: Tables,
  index: number,
  command: CommandOf<'pending.confirm'>,
): CommandResult {
  const row = tables.pending(command.index);
  if (row === null) return noPending(command.index);
  const refusal = giveBack(tables, index, row);
  if (refusal !== null) return refusal;
  tables.removePending(row);
  // The key store's other pending grants saw the revision that this confirmation replaced.
  for (const other of row.name === null ? tables.pendingRows() : []) {
    const isSibling = other.name === null && other.keyStore === row.keyStore;
    if (isSibling && other.revision === row.revision) tables.putPending({ ...other, revision: index });
  }
  return done(index);
}

function giveBack(tables: Tables, index: number, row: PendingRow): CommandResult | null {
  const { type, keyStore: storeName, name, credential, onIsolation, revision } = row;
  const keyStore = tables.keyStore(storeName);
  if (keyStore === null) return changedMeanwhile(row);
  switch (type) {
    case 'keystore.create':
    case 'keystore.enable':
      if (keyStore.status !== 'DISABLED' || keyStore.revision !== revision) return changedMeanwhile(row);
      tables.putKeyStore({ ...keyStore, status: 'ENABLED', revision: index });
      return null;
    case 'keystore.set':
      if (onIsolation === null || keyStore.revision !== revision) return changedMeanwhile(row);
      tables.putKeyStore({ ...keyStore, onIsolation, revision: index });
      return null;
    case 'credential.create':
      if (credential === null) return changedMeanwhile(row);
      if (tables.credentialCountOf(storeName) >= limits.credentialsPerKeyStoreMax) {
        return refused(
          'limit',
          `key store "${storeName}" has ${limits.credentialsPerKeyStoreMax} credentials already: retire one first (xksctl credential list ${storeName})`,
        );
      }
      tables.putCredential({ ...credential, revision: index });
      return null;
    case 'key.create':
    case 'key.enable': {
      const key = tables.key(storeName, name ?? '');
      if (key?.revision !== revision) return changedMeanwhile(row);
      tables.putKey({ ...key, status: 'ENABLED', revision: index });
      return null;
    }
  }
}

/** What was taken back stays so: keys and key stores disabled, a credential retired. */
export function dropPending(
  tables: Tables,
  index: number,
  command: CommandOf<'pending.drop'>,
): CommandResult {
  const row = tables.pending(command.index);
  if (row === null) return noPending(command.index);
  const { credential } = row;
  tables.removePending(row);
  if (credential !== null) {
    const retired = { keyStore: credential.keyStore, revision: index };
    tables.putRetired(credential.accessKeyId, retired, limits.retiredCredentialsMax);
  }
  return done(index);
}

const noPending = (index: number): CommandResult =>
  refused('not-found', `no grant at index ${index} waits for a decision (xksctl cluster status)`);

const changedMeanwhile = ({ index, type, keyStore, name }: PendingGrant): CommandResult =>
  refused(
    'conflict',
    `${type} of ${name === null ? '' : `"${name}" in `}key store "${keyStore}" (index ${index}) was overtaken by a later change: look at what is there now, then drop it`,
  );
