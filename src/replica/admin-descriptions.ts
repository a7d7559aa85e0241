import type { Credential, Key, KeyStateQueries, KeyStore } from '../keystate/types.js';
import type { AdminContext } from './admin-context.js';
import type { AdminResponse } from './admin-contract.js';
import type { AdminError } from './admin-error.js';
import type { CredentialUse } from './credential-use.js';

/** XksProxyUriPath (X-U2). */
export const uriPathOf = ({ uriPathPrefix }: KeyStore): string =>
  uriPathPrefix === '' ? '/kms/xks/v1' : `/${uriPathPrefix}/kms/xks/v1`;

export const noSuchKeyStore = (name: string): AdminError => ({
  byState: true,
  code: 'not-found',
  message: `there is no key store "${name}" (xksctl keystore list)`,
});

const countOf = (items: Iterable<unknown>): number => {
  let count = 0;
  for (const _ of items) count += 1;
  return count;
};

export function describeKeyStore(
  store: KeyStore,
  state: KeyStateQueries,
): AdminResponse<'keystore.create'>['keyStore'] {
  return {
    name: store.name,
    uriPathPrefix: store.uriPathPrefix,
    uriPath: uriPathOf(store),
    regions: [...store.regions],
    adopted: store.adopted,
    status: store.status,
    onIsolation: store.onIsolation,
    createdAtMs: store.createdAtMs,
    revision: store.revision,
    credentials: countOf(state.credentials(store.name)),
    keys: countOf(state.keys(store.name)),
  };
}

export function describeCredential(
  { accessKeyId, keyStore, createdAtMs, revision }: Credential,
  use: CredentialUse,
): AdminResponse<'credential.retire'>['credential'] {
  return {
    accessKeyId,
    keyStore,
    createdAtMs,
    lastUsedMs: use.lastUsedMs(accessKeyId),
    watchedSinceMs: use.watchedSinceMs,
    revision,
  };
}

export function describeKey(
  key: Key,
  { state, ivWatch, ivReservations }: Pick<AdminContext, 'state' | 'ivWatch' | 'ivReservations'>,
): AdminResponse<'key.show'>['key'] {
  const ivBudgetOf = (objectId: string): AdminResponse<'key.show'>['key']['versions'][number]['ivBudget'] => {
    const { reserved, rule } = state.ivBudget(objectId) ?? { reserved: 0, rule: 'refuse' };
    const unreserved = ivReservations.unreservedOf(objectId);
    return { reserved, unreserved, max: ivWatch.encryptionsMax, rule };
  };
  return {
    externalKeyId: key.externalKeyId,
    keyStore: key.keyStore,
    status: key.status,
    usage: [...key.usage],
    description: key.description,
    currentVersion: key.currentVersion,
    versions: key.versions.map(({ version, objectId, checkValue, witness, status }) => ({
      version,
      objectId,
      checkValue,
      verified: witness !== null,
      status,
      ivBudget: ivBudgetOf(objectId),
    })),
    createdAtMs: key.createdAtMs,
    revision: key.revision,
  };
}

/** By code unit, the same everywhere. */
export const compareText = (left: string, right: string): number =>
  left < right ? -1 : left > right ? 1 : 0;
