import { uriPathLimits, xksProxyUriPath } from '../xks/uri-path.js';
import { changedSince, changesNothing, done, noKeyStore, refused } from './command-results.js';
import { describeUse } from './object-use.js';
import type { Tables } from './tables.js';
import {
  type CommandOf,
  type CommandResult,
  type CommandType,
  type Key,
  type KeyStore,
  limits,
  type Status,
} from './types.js';

export function createKey(tables: Tables, index: number, command: CommandOf<'key.create'>): CommandResult {
  const { externalKeyId, objectId, witness, checkValue, usage, description, atMs } = command;
  const keyStore = tables.keyStore(command.keyStore);
  if (keyStore === null) return noKeyStore(command.keyStore);
  if (tables.key(keyStore.name, externalKeyId) !== null) {
    return refused(
      'already-exists',
      `key store "${keyStore.name}" has a key "${externalKeyId}" already: choose another external key id`,
    );
  }
  const excess = longestTarget(keyStore, externalKeyId).length - uriPathLimits.targetCharactersMax;
  if (excess > 0) {
    return refused(
      'invalid',
      `the URI of this key would be ${excess} characters longer than ${uriPathLimits.targetCharactersMax}: choose a shorter external key id`,
    );
  }
  const use = tables.objectUse(objectId);
  if (use !== null) {
    return refused(
      'already-exists',
      `object ${objectId} is ${describeUse(use)} already: one object is one key, so use another object`,
    );
  }
  if (tables.keyCount() >= limits.keysMax) {
    return refused('limit', `there are ${limits.keysMax} keys already, the most there may be`);
  }
  tables.putKey({
    externalKeyId,
    keyStore: keyStore.name,
    versions: [{ version: 1, objectId, witness, checkValue, status: 'ENABLED' }],
    currentVersion: 1,
    status: 'ENABLED',
    usage,
    description,
    createdAtMs: atMs,
    revision: index,
  });
  return done(index);
}

export function enableKey(tables: Tables, index: number, command: CommandOf<'key.enable'>): CommandResult {
  const { keyStore, externalKeyId, revision } = command;
  const key = tables.key(keyStore, externalKeyId);
  if (key === null) return noKey(tables, keyStore, externalKeyId);
  if (key.revision !== revision) {
    const show = `xksctl key show ${keyStore} ${externalKeyId}`;
    return changedSince(`key "${externalKeyId}" of key store "${keyStore}"`, key, revision, show);
  }
  return setKey(tables, index, key, 'ENABLED', command.type);
}

export function disableKey(
  tables: Tables,
  index: number,
  { keyStore, externalKeyId, type }: CommandOf<'key.disable'>,
): CommandResult {
  const key = tables.key(keyStore, externalKeyId);
  return key === null ? noKey(tables, keyStore, externalKeyId) : setKey(tables, index, key, 'DISABLED', type);
}

function setKey(tables: Tables, index: number, key: Key, status: Status, type: CommandType): CommandResult {
  if (changesNothing(key, status, type)) return done(key.revision);
  tables.putKey({ ...key, status, revision: index });
  return done(index);
}

/** @returns the refusal of a command that names a key which is not there. */
export function noKey(tables: Tables, keyStore: string, externalKeyId: string): CommandResult {
  if (tables.keyStore(keyStore) === null) return noKeyStore(keyStore);
  return refused(
    'not-found',
    `key store "${keyStore}" has no key "${externalKeyId}" (xksctl key list ${keyStore})`,
  );
}

/** X-U2 bounds the whole URI: a key that no request could name must not exist. */
const longestTarget = (keyStore: KeyStore, externalKeyId: string): string =>
  `${xksProxyUriPath(keyStore.uriPathPrefix)}/keys/${externalKeyId}/metadata`;
