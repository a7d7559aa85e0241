import { invariant } from '../base/guards.js';
import { uriPathLimits, xksProxyUriPath } from '../xks/uri-path.js';
import { checkCommand } from './command-checks.js';
import { commandClasses } from './command-class.js';
import { type ObjectUse, Tables } from './tables.js';
import {
  type Cluster,
  type Command,
  type CommandRefusal,
  type CommandResult,
  type CommandType,
  type Credential,
  type Key,
  type KeyStateQueries,
  type KeyStore,
  limits,
  type PreparedToken,
  type Status,
} from './types.js';

type CommandOf<T extends CommandType> = Extract<Command, { readonly type: T }>;

/**
 * The replicated state machine: ordered commands in, the same state and results on every node. Reads no clock, no
 * randomness, no disk.
 */
export class KeyState implements KeyStateQueries {
  readonly #tables: Tables;

  /** @param tables taken over, from a snapshot. */
  constructor(tables: Tables = new Tables()) {
    this.#tables = tables;
  }

  /**
   * Applies the command at `index`, which follows the last one. Total: what can't be done changes nothing but
   * `appliedIndex`, and the result says why. Keeps parts of `command`, which must not change afterwards.
   */
  apply(index: number, command: Command): CommandResult {
    invariant(index === this.#tables.appliedIndex + 1, `index ${index} after ${this.#tables.appliedIndex}`);
    const refusal = checkCommand(command);
    const result: CommandResult =
      refusal === null ? this.#execute(index, command) : { ok: false, error: refusal };
    this.#tables.appliedIndex = index;
    return result;
  }

  #execute(index: number, command: Command): CommandResult {
    switch (command.type) {
      case 'cluster.init':
        return this.#initCluster(index, command);
      case 'token.prepare':
        return this.#prepareToken(index, command);
      case 'keystore.create':
        return this.#createKeyStore(index, command);
      case 'keystore.enable':
        return this.#enableKeyStore(index, command);
      case 'keystore.disable':
        return this.#disableKeyStore(index, command);
      case 'credential.create':
        return this.#createCredential(index, command);
      case 'credential.retire':
        return this.#retireCredential(index, command);
      case 'key.create':
        return this.#createKey(index, command);
      case 'key.enable':
        return this.#enableKey(index, command);
      case 'key.disable':
        return this.#disableKey(index, command);
    }
  }

  #initCluster(index: number, { clusterId, nodeName, atMs }: CommandOf<'cluster.init'>): CommandResult {
    const { cluster } = this.#tables;
    if (cluster !== null) {
      return refused(
        'already-exists',
        `this is cluster ${cluster.clusterId} already; a cluster is made once`,
      );
    }
    this.#tables.cluster = { clusterId, nodeName, createdAtMs: atMs };
    return done(index);
  }

  #prepareToken(index: number, { token }: CommandOf<'token.prepare'>): CommandResult {
    const tables = this.#tables;
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

  #createKeyStore(index: number, command: CommandOf<'keystore.create'>): CommandResult {
    const { name, uriPathPrefix, regions, adopted, atMs } = command;
    const tables = this.#tables;
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
    const status = 'ENABLED';
    const createdAtMs = atMs;
    tables.putKeyStore({ name, uriPathPrefix, regions, adopted, status, createdAtMs, revision: index });
    return done(index);
  }

  #enableKeyStore(index: number, command: CommandOf<'keystore.enable'>): CommandResult {
    const { name, revision } = command;
    const keyStore = this.#tables.keyStore(name);
    if (keyStore === null) return noKeyStore(name);
    if (keyStore.revision !== revision) {
      return changedSince(`key store "${name}"`, keyStore, revision, `xksctl keystore show ${name}`);
    }
    return this.#setKeyStore(index, keyStore, 'ENABLED', command.type);
  }

  #disableKeyStore(index: number, { name, type }: CommandOf<'keystore.disable'>): CommandResult {
    const keyStore = this.#tables.keyStore(name);
    return keyStore === null ? noKeyStore(name) : this.#setKeyStore(index, keyStore, 'DISABLED', type);
  }

  #setKeyStore(index: number, keyStore: KeyStore, status: Status, type: CommandType): CommandResult {
    if (changesNothing(keyStore, status, type)) return done(keyStore.revision);
    this.#tables.putKeyStore({ ...keyStore, status, revision: index });
    return done(index);
  }

  #createCredential(index: number, command: CommandOf<'credential.create'>): CommandResult {
    const { keyStore, accessKeyId, sealedSecret, atMs } = command;
    const tables = this.#tables;
    if (tables.keyStore(keyStore) === null) return noKeyStore(keyStore);
    // X-A2: an id identifies one secret, over all key stores and for good.
    const taken = tables.credential(accessKeyId) ?? tables.retired(accessKeyId);
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

  #retireCredential(index: number, command: CommandOf<'credential.retire'>): CommandResult {
    const { keyStore, accessKeyId } = command;
    const tables = this.#tables;
    if (tables.keyStore(keyStore) === null) return noKeyStore(keyStore);
    const retired = tables.retired(accessKeyId);
    if (retired?.keyStore === keyStore) return done(retired.revision);
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

  #createKey(index: number, command: CommandOf<'key.create'>): CommandResult {
    const { externalKeyId, objectId, witness, checkValue, usage, description, atMs } = command;
    const tables = this.#tables;
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

  #enableKey(index: number, command: CommandOf<'key.enable'>): CommandResult {
    const { keyStore, externalKeyId, revision } = command;
    const key = this.#tables.key(keyStore, externalKeyId);
    if (key === null) return this.#noKey(keyStore, externalKeyId);
    if (key.revision !== revision) {
      const show = `xksctl key show ${keyStore} ${externalKeyId}`;
      return changedSince(`key "${externalKeyId}" of key store "${keyStore}"`, key, revision, show);
    }
    return this.#setKey(index, key, 'ENABLED', command.type);
  }

  #disableKey(index: number, { keyStore, externalKeyId, type }: CommandOf<'key.disable'>): CommandResult {
    const key = this.#tables.key(keyStore, externalKeyId);
    return key === null ? this.#noKey(keyStore, externalKeyId) : this.#setKey(index, key, 'DISABLED', type);
  }

  #setKey(index: number, key: Key, status: Status, type: CommandType): CommandResult {
    if (changesNothing(key, status, type)) return done(key.revision);
    this.#tables.putKey({ ...key, status, revision: index });
    return done(index);
  }

  #noKey(keyStore: string, externalKeyId: string): CommandResult {
    if (this.#tables.keyStore(keyStore) === null) return noKeyStore(keyStore);
    return refused(
      'not-found',
      `key store "${keyStore}" has no key "${externalKeyId}" (xksctl key list ${keyStore})`,
    );
  }

  get appliedIndex(): number {
    return this.#tables.appliedIndex;
  }

  cluster(): Cluster | null {
    return this.#tables.cluster;
  }

  keyStoreByPrefix(uriPathPrefix: string): KeyStore | null {
    return this.#tables.keyStoreByPrefix(uriPathPrefix);
  }

  keyStore(name: string): KeyStore | null {
    return this.#tables.keyStore(name);
  }

  credential(accessKeyId: string): Credential | null {
    return this.#tables.credential(accessKeyId);
  }

  key(keyStore: string, externalKeyId: string): Key | null {
    return this.#tables.key(keyStore, externalKeyId);
  }

  objectUser(objectId: string): string | null {
    const use = this.#tables.objectUse(objectId);
    return use === null ? null : describeUse(use);
  }

  preparedToken(serial: string): PreparedToken | null {
    return this.#tables.preparedToken(serial);
  }

  keyStores(): Iterable<KeyStore> {
    return this.#tables.keyStores();
  }

  credentials(keyStore: string): Iterable<Credential> {
    return this.#tables.credentials(keyStore);
  }

  keys(keyStore: string): Iterable<Key> {
    return this.#tables.keys(keyStore);
  }

  preparedTokens(): Iterable<PreparedToken> {
    return this.#tables.tokens();
  }

  counts(): { readonly keyStores: number; readonly credentials: number; readonly keys: number } {
    return {
      keyStores: this.#tables.keyStoreCount(),
      credentials: this.#tables.credentialCount(),
      keys: this.#tables.keyCount(),
    };
  }

  /** For snapshots: the tables themselves, to read in this turn only. */
  tables(): Tables {
    return this.#tables;
  }
}

const done = (revision: number): CommandResult => ({ ok: true, revision });

const refused = (code: CommandRefusal['code'], message: string): CommandResult => ({
  ok: false,
  error: { code, message },
});

const noKeyStore = (name: string): CommandResult =>
  refused('not-found', `there is no key store "${name}" (xksctl keystore list)`);

/**
 * Granting what is granted changes nothing. Denying what is denied raises the revision: a grant that is still under
 * way saw the old one, and must not undo a denial that was confirmed since.
 */
const changesNothing = (current: { readonly status: Status }, status: Status, type: CommandType): boolean =>
  current.status === status && commandClasses[type] !== 'deny';

function changedSince(
  what: string,
  current: { readonly revision: number; readonly status: string },
  seen: number,
  show: string,
): CommandResult {
  return refused(
    'conflict',
    `${what} is at revision ${current.revision} (${current.status}) and this command saw ${seen}: look again (${show}), then repeat it if it is still meant`,
  );
}

function describeUse(use: ObjectUse): string {
  return use.role === 'key'
    ? `key "${use.externalKeyId}" of key store "${use.keyStore}"`
    : `the ${use.role} of token ${use.label === '' ? use.serial : `"${use.label}" (${use.serial})`}`;
}

/** X-U2 bounds the whole URI: a key that no request could name must not exist. */
const longestTarget = (keyStore: KeyStore, externalKeyId: string): string =>
  `${xksProxyUriPath(keyStore.uriPathPrefix)}/keys/${externalKeyId}/metadata`;
