import { done, noKeyStore, refused } from './command-results.js';
import type { Tables } from './tables.js';
import { type CommandOf, type CommandResult, limits } from './types.js';

export function createCredential(
  tables: Tables,
  index: number,
  command: CommandOf<'credential.create'>,
): CommandResult {
  const { keyStore, accessKeyId, sealedSecret, atMs } = command;
  if (tables.keyStore(keyStore) === null) return noKeyStore(keyStore);
  // X-A2: an id identifies one secret, over all key stores and for good.
  const taken =
    tables.credential(accessKeyId) ??
    tables.retired(accessKeyId) ??
    tables.pendingCredential(accessKeyId)?.credential ??
    null;
  if (taken !== null) {
    return refused(
      'already-exists',
      `access key id ${accessKeyId} was given out already, for key store "${taken.keyStore}": use a new one`,
    );
  }
  const max = limits.credentialsPerKeyStoreMax;
  if (tables.credentialCountOf(keyStore) >= max) {
    return refused(
      'limit',
      `key store "${keyStore}" has ${max} credentials already, the most it may have: retire one first (xksctl credential list ${keyStore})`,
    );
  }
  tables.putCredential({ accessKeyId, keyStore, sealedSecret, createdAtMs: atMs, revision: index });
  return done(index);
}

export function retireCredential(
  tables: Tables,
  index: number,
  command: CommandOf<'credential.retire'>,
): CommandResult {
  const { keyStore, accessKeyId } = command;
  if (tables.keyStore(keyStore) === null) return noKeyStore(keyStore);
  const retired = tables.retired(accessKeyId);
  if (retired?.keyStore === keyStore) return done(retired.revision);
  const pending = tables.pendingCredential(accessKeyId);
  if (pending?.keyStore === keyStore) {
    // Not in force since a recovery, and never again.
    tables.removePending(pending);
    tables.putRetired(accessKeyId, { keyStore, revision: index }, limits.retiredCredentialsMax);
    return done(index);
  }
  const credential = tables.credential(accessKeyId);
  if (credential === null || credential.keyStore !== keyStore) {
    return refused(
      'not-found',
      `key store "${keyStore}" has no credential ${accessKeyId} (xksctl credential list ${keyStore})`,
    );
  }
  tables.removeCredential(credential);
  tables.putRetired(accessKeyId, { keyStore, revision: index }, limits.retiredCredentialsMax);
  return done(index);
}
