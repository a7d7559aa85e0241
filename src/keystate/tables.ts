import { invariant } from '../base/guards.js';
import type { Cluster, Credential, Key, KeyStore, PreparedToken } from './types.js';

/** What is left of a retired credential: whose it was, and when (log index). */
export interface RetiredCredential {
  readonly keyStore: string;
  readonly revision: number;
}

/** An object belongs to one key version, or has one role on tokens. */
export type ObjectUse =
  | { readonly role: 'key'; readonly keyStore: string; readonly externalKeyId: string }
  | { readonly role: 'test key' | 'wrapping key'; readonly serial: string; readonly label: string };

interface KeyStoreRow {
  keyStore: KeyStore;
  readonly credentials: Map<string, Credential>;
  readonly keys: Map<string, Key>;
}

/**
 * The objects of key state and the indexes over them, kept consistent and otherwise unchecked. Objects are never
 * changed, only replaced, so who holds one holds it as it was. Iteration is in order of creation, which snapshots
 * keep: equal histories give equal snapshots.
 */
export class Tables {
  cluster: Cluster | null = null;
  /** Index of the last command applied. */
  appliedIndex = 0;
  readonly #rows = new Map<string, KeyStoreRow>();
  readonly #rowsByPrefix = new Map<string, KeyStoreRow>();
  readonly #credentials = new Map<string, Credential>();
  readonly #retired = new Map<string, RetiredCredential>();
  readonly #tokens = new Map<string, PreparedToken>();
  readonly #keysByObject = new Map<string, Key>();
  /** Rebuilt at every change: at most two per prepared token. */
  readonly #tokenObjects = new Map<string, ObjectUse>();
  #keyCount = 0;

  keyStore(name: string): KeyStore | null {
    return this.#rows.get(name)?.keyStore ?? null;
  }

  keyStoreByPrefix(uriPathPrefix: string): KeyStore | null {
    return this.#rowsByPrefix.get(uriPathPrefix)?.keyStore ?? null;
  }

  credential(accessKeyId: string): Credential | null {
    return this.#credentials.get(accessKeyId) ?? null;
  }

  retired(accessKeyId: string): RetiredCredential | null {
    return this.#retired.get(accessKeyId) ?? null;
  }

  key(keyStore: string, externalKeyId: string): Key | null {
    return this.#rows.get(keyStore)?.keys.get(externalKeyId) ?? null;
  }

  preparedToken(serial: string): PreparedToken | null {
    return this.#tokens.get(serial) ?? null;
  }

  objectUse(objectId: string): ObjectUse | null {
    const key = this.#keysByObject.get(objectId);
    if (key !== undefined) return { role: 'key', keyStore: key.keyStore, externalKeyId: key.externalKeyId };
    return this.#tokenObjects.get(objectId) ?? null;
  }

  keyStoreCount(): number {
    return this.#rows.size;
  }

  credentialCount(): number {
    return this.#credentials.size;
  }

  credentialCountOf(keyStore: string): number {
    return this.#rows.get(keyStore)?.credentials.size ?? 0;
  }

  keyCount(): number {
    return this.#keyCount;
  }

  retiredCount(): number {
    return this.#retired.size;
  }

  tokenCount(): number {
    return this.#tokens.size;
  }

  *keyStores(): Iterable<KeyStore> {
    for (const row of this.#rows.values()) yield row.keyStore;
  }

  credentials(keyStore: string): Iterable<Credential> {
    return this.#rows.get(keyStore)?.credentials.values() ?? [];
  }

  keys(keyStore: string): Iterable<Key> {
    return this.#rows.get(keyStore)?.keys.values() ?? [];
  }

  tokens(): Iterable<PreparedToken> {
    return this.#tokens.values();
  }

  /** Access key ids, the longest retired first. */
  retiredCredentials(): Iterable<[string, RetiredCredential]> {
    return this.#retired.entries();
  }

  putKeyStore(keyStore: KeyStore): void {
    const row = this.#rows.get(keyStore.name);
    if (row === undefined) {
      const created: KeyStoreRow = { keyStore, credentials: new Map(), keys: new Map() };
      this.#rows.set(keyStore.name, created);
      this.#rowsByPrefix.set(keyStore.uriPathPrefix, created);
    } else {
      invariant(row.keyStore.uriPathPrefix === keyStore.uriPathPrefix, 'a prefix is immutable');
      row.keyStore = keyStore;
    }
  }

  putCredential(credential: Credential): void {
    this.#row(credential.keyStore).credentials.set(credential.accessKeyId, credential);
    this.#credentials.set(credential.accessKeyId, credential);
  }

  removeCredential(credential: Credential): void {
    this.#row(credential.keyStore).credentials.delete(credential.accessKeyId);
    this.#credentials.delete(credential.accessKeyId);
  }

  /** Remembers that the id was used; forgets the oldest beyond `max`. */
  putRetired(accessKeyId: string, retired: RetiredCredential, max: number): void {
    this.#retired.set(accessKeyId, retired);
    const [oldest] = this.#retired.keys();
    if (this.#retired.size > max && oldest !== undefined) this.#retired.delete(oldest);
  }

  putKey(key: Key): void {
    const { keys } = this.#row(key.keyStore);
    const replaced = keys.get(key.externalKeyId);
    for (const { objectId } of replaced?.versions ?? []) this.#keysByObject.delete(objectId);
    if (replaced === undefined) this.#keyCount += 1;
    keys.set(key.externalKeyId, key);
    for (const { objectId } of key.versions) this.#keysByObject.set(objectId, key);
  }

  putToken(token: PreparedToken): void {
    this.#tokens.set(token.serial, token);
    this.#tokenObjects.clear();
    for (const { serial, label, testKey, wrappingKey } of this.#tokens.values()) {
      this.#tokenObjects.set(testKey.objectId, { role: 'test key', serial, label });
      this.#tokenObjects.set(wrappingKey.objectId, { role: 'wrapping key', serial, label });
    }
  }

  #row(keyStore: string): KeyStoreRow {
    const row = this.#rows.get(keyStore);
    invariant(row !== undefined, `no key store ${keyStore}`);
    return row;
  }
}
