import { xksProxyUriPath } from '../xks/uri-path.js';
import { loosens } from './command-class.js';
import { changedSince, changesNothing, done, noKeyStore, refused } from './command-results.js';
import type { Tables } from './tables.js';
import {
  type CommandOf,
  type CommandResult,
  type CommandType,
  type KeyStore,
  limits,
  type Status,
} from './types.js';

export function createKeyStore(
  tables: Tables,
  index: number,
  command: CommandOf<'keystore.create'>,
): CommandResult {
  const { name, uriPathPrefix, regions, adopted, atMs } = command;
  if (tables.keyStore(name) !== null) {
    return refused('already-exists', `there is a key store "${name}" already: choose another name`);
  }
  const sibling = tables.keyStoreByPrefix(uriPathPrefix);
  if (sibling !== null) {
    return refused(
      'already-exists',
      `key store "${sibling.name}" has the URI path ${xksProxyUriPath(uriPathPrefix)} already: choose another prefix`,
    );
  }
  if (tables.keyStoreCount() >= limits.keyStoresMax) {
    return refused('limit', `there are ${limits.keyStoresMax} key stores already, the most there may be`);
  }
  tables.putKeyStore({
    name,
    uriPathPrefix,
    regions,
    adopted,
    status: 'ENABLED',
    onIsolation: { rule: 'serve' },
    createdAtMs: atMs,
    revision: index,
  });
  return done(index);
}

export function enableKeyStore(
  tables: Tables,
  index: number,
  command: CommandOf<'keystore.enable'>,
): CommandResult {
  const { name, revision } = command;
  const keyStore = tables.keyStore(name);
  if (keyStore === null) return noKeyStore(name);
  if (keyStore.revision !== revision) {
    return changedSince(`key store "${name}"`, keyStore, revision, `xksctl keystore show ${name}`);
  }
  return setKeyStore(tables, index, keyStore, 'ENABLED', command.type);
}

export function disableKeyStore(
  tables: Tables,
  index: number,
  { name, type }: CommandOf<'keystore.disable'>,
): CommandResult {
  const keyStore = tables.keyStore(name);
  return keyStore === null ? noKeyStore(name) : setKeyStore(tables, index, keyStore, 'DISABLED', type);
}

/** The kill switch contract's rule: what only takes away is never refused for what it saw. */
export function isolateKeyStore(
  tables: Tables,
  index: number,
  command: CommandOf<'keystore.set'>,
): CommandResult {
  const { name, onIsolation, revision } = command;
  const keyStore = tables.keyStore(name);
  if (keyStore === null) return noKeyStore(name);
  if (loosens(onIsolation, keyStore.onIsolation) && keyStore.revision !== revision) {
    return changedSince(`key store "${name}"`, keyStore, revision, `xksctl keystore show ${name}`);
  }
  tables.putKeyStore({ ...keyStore, onIsolation, revision: index });
  return done(index);
}

function setKeyStore(
  tables: Tables,
  index: number,
  keyStore: KeyStore,
  status: Status,
  type: CommandType,
): CommandResult {
  if (changesNothing(keyStore, status, type)) return done(keyStore.revision);
  tables.putKeyStore({ ...keyStore, status, revision: index });
  return done(index);
}
