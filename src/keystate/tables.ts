import { invariant } from '../base/guards.js';
import { defaultSettings } from './cluster-settings.js';
import {
  type ClusterSettings,
  clusterLimits,
  type FormerMember,
  type Member,
  type PendingRow,
} from './cluster-types.js';
import { type IvBudget, type IvHolder, ivLimits } from './iv-budget.js';
import { type KeptRecord, KeptRecords } from './kept-records.js';
import { ObjectHash } from './object-hash.js';
import type { ObjectUse } from './object-use.js';
import { RequestTable } from './request-table.js';
import { encodeRecord, type RetiredCredential } from './snapshot-records.js';
import type { Cluster, Credential, Key, KeyStore, PreparedToken } from './types.js';

interface KeyStoreRow {
  keyStore: KeyStore;
  readonly credentials: Map<string, Credential>;
  readonly keys: Map<string, Key>;
  /** In the order of `keys`; `null` where records are not kept. */
  readonly keyRecords: KeptRecords | null;
}

export interface TablesOptions {
  /** Keeps the records of keys and requests, for snapshots: see `KeptRecords`. */
  readonly keepRecords: boolean;
}

/**
 * The objects of key state and the indexes over them, kept consistent and otherwise unchecked. Objects are never
 * changed, only replaced, so who holds one holds it as it was. Iteration is in order of creation, which snapshots
 * keep: equal histories give equal snapshots. Every change goes into the state hash.
 */
export class Tables {
  /** Index of the last command applied. */
  appliedIndex = 0;
  readonly requests: RequestTable;
  readonly #keepRecords: boolean;
  readonly #hash = new ObjectHash();
  #activeFormat = 1;
  #cluster: Cluster | null = null;
  #settings: ClusterSettings | null = null;
  readonly #members = new Map<string, Member>();
  readonly #formerMembers = new Map<string, FormerMember>();
  /** By the index of the grant. */
  readonly #pending = new Map<number, PendingRow>();
  readonly #rows = new Map<string, KeyStoreRow>();
  readonly #rowsByPrefix = new Map<string, KeyStoreRow>();
  readonly #credentials = new Map<string, Credential>();
  readonly #retired = new Map<string, RetiredCredential>();
  readonly #tokens = new Map<string, PreparedToken>();
  readonly #keysByObject = new Map<string, Key>();
  /** By object; only of objects that are a key's. */
  readonly #ivBudgets = new Map<string, IvBudget>();
  readonly #ivHolders = new Map<string, IvHolder>();
  /** Rebuilt at every change: at most two per prepared token. */
  readonly #tokenObjects = new Map<string, ObjectUse>();
  #keyCount = 0;

  constructor({ keepRecords }: TablesOptions = { keepRecords: false }) {
    this.#keepRecords = keepRecords;
    this.requests = new RequestTable(this.#hash, this.#newRecords());
  }

  /** Of all objects and the active format; the applied index is not in it. */
  hash(): string {
    return this.#hash.hex();
  }

  get activeFormat(): number {
    return this.#activeFormat;
  }

  set activeFormat(format: number) {
    this.#hash.setFormat(format);
    this.#activeFormat = format;
  }

  get cluster(): Cluster | null {
    return this.#cluster;
  }

  putCluster(cluster: Cluster): void {
    this.#hash.replace('cluster', this.#cluster, cluster);
    this.#cluster = cluster;
  }

  /** `null` until a command says otherwise than the defaults. */
  get storedSettings(): ClusterSettings | null {
    return this.#settings;
  }

  get settings(): ClusterSettings {
    return this.#settings ?? defaultSettings;
  }

  putSettings(settings: ClusterSettings): void {
    this.#hash.replace('settings', this.#settings, settings);
    this.#settings = settings;
  }

  member(memberId: string): Member | null {
    return this.#members.get(memberId) ?? null;
  }

  memberByName(name: string): Member | null {
    for (const member of this.#members.values()) if (member.name === name) return member;
    return null;
  }

  members(): Iterable<Member> {
    return this.#members.values();
  }

  memberCount(): number {
    return this.#members.size;
  }

  putMember(member: Member): void {
    this.#hash.replace('member', this.#members.get(member.memberId), member);
    this.#members.set(member.memberId, member);
  }

  removeMember(member: Member): void {
    if (this.#members.delete(member.memberId)) this.#hash.remove('member', member);
  }

  formerMember(memberId: string): FormerMember | null {
    return this.#formerMembers.get(memberId) ?? null;
  }

  /** In order of their last change. */
  formerMembers(): Iterable<FormerMember> {
    return this.#formerMembers.values();
  }

  formerMemberCount(): number {
    return this.#formerMembers.size;
  }

  /** Makes it the last changed; forgets the longest destroyed beyond the limit. */
  putFormerMember(former: FormerMember): void {
    this.#hash.replace('formerMember', this.#formerMembers.get(former.memberId), former);
    this.#formerMembers.delete(former.memberId);
    this.#formerMembers.set(former.memberId, former);
    if (this.#formerMembers.size <= clusterLimits.formerMembersMax) return;
    for (const known of this.#formerMembers.values()) {
      if (!known.destroyed) continue;
      this.#formerMembers.delete(known.memberId);
      this.#hash.remove('formerMember', known);
      return;
    }
  }

  pending(index: number): PendingRow | null {
    return this.#pending.get(index) ?? null;
  }

  /** By the index of the grant. */
  pendingRows(): readonly PendingRow[] {
    return [...this.#pending.values()].sort((left, right) => left.index - right.index);
  }

  pendingCount(): number {
    return this.#pending.size;
  }

  putPending(row: PendingRow): void {
    this.#hash.replace('pending', this.#pending.get(row.index), row);
    this.#pending.set(row.index, row);
  }

  removePending(row: PendingRow): void {
    if (this.#pending.delete(row.index)) this.#hash.remove('pending', row);
  }

  /** What a recovery left pending of a credential; access key ids are given out once. */
  pendingCredential(accessKeyId: string): PendingRow | null {
    for (const row of this.#pending.values()) if (row.credential?.accessKeyId === accessKeyId) return row;
    return null;
  }

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

  keyOfObject(objectId: string): Key | null {
    return this.#keysByObject.get(objectId) ?? null;
  }

  ivBudget(objectId: string): IvBudget | null {
    return this.#ivBudgets.get(objectId) ?? null;
  }

  /** In the order of their first reservation. */
  ivBudgets(): Iterable<IvBudget> {
    return this.#ivBudgets.values();
  }

  ivBudgetCount(): number {
    return this.#ivBudgets.size;
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

  /** The records of `keys`, in the same order; `null` where they are not kept. */
  keyRecords(keyStore: string): Iterable<KeptRecord> | null {
    return this.#rows.get(keyStore)?.keyRecords?.all() ?? null;
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
    this.#hash.replace('keyStore', row?.keyStore, keyStore);
    if (row === undefined) {
      const created: KeyStoreRow = {
        keyStore,
        credentials: new Map(),
        keys: new Map(),
        keyRecords: this.#newRecords(),
      };
      this.#rows.set(keyStore.name, created);
      this.#rowsByPrefix.set(keyStore.uriPathPrefix, created);
    } else {
      invariant(row.keyStore.uriPathPrefix === keyStore.uriPathPrefix, 'a prefix is immutable');
      row.keyStore = keyStore;
    }
  }

  putCredential(credential: Credential): void {
    this.#hash.replace('credential', this.#credentials.get(credential.accessKeyId), credential);
    this.#row(credential.keyStore).credentials.set(credential.accessKeyId, credential);
    this.#credentials.set(credential.accessKeyId, credential);
  }

  removeCredential(credential: Credential): void {
    this.#hash.remove('credential', credential);
    this.#row(credential.keyStore).credentials.delete(credential.accessKeyId);
    this.#credentials.delete(credential.accessKeyId);
  }

  /** Remembers that the id was used; forgets the oldest beyond `max`. */
  putRetired(accessKeyId: string, retired: RetiredCredential, max: number): void {
    invariant(!this.#retired.has(accessKeyId), `${accessKeyId} is retired once`);
    this.#hash.add('retired', { accessKeyId, ...retired });
    this.#retired.set(accessKeyId, retired);
    const [oldest] = this.#retired;
    if (this.#retired.size <= max || oldest === undefined) return;
    this.#retired.delete(oldest[0]);
    this.#hash.remove('retired', { accessKeyId: oldest[0], ...oldest[1] });
  }

  /** @param encoded its record, where it is at hand. */
  putKey(key: Key, encoded: Uint8Array = encodeRecord('key', key)): void {
    const { keys, keyRecords } = this.#row(key.keyStore);
    const replaced = keys.get(key.externalKeyId);
    this.#hash.replace('key', replaced, key, encoded);
    keyRecords?.put(key.externalKeyId, encoded);
    for (const { objectId } of replaced?.versions ?? []) this.#keysByObject.delete(objectId);
    if (replaced === undefined) this.#keyCount += 1;
    keys.set(key.externalKeyId, key);
    for (const { objectId } of key.versions) this.#keysByObject.set(objectId, key);
  }

  ivSequence(holder: string): number {
    return this.#ivHolders.get(holder)?.sequence ?? 0;
  }

  /** In the order of their last reservation. */
  ivHolders(): Iterable<IvHolder> {
    return this.#ivHolders.values();
  }

  ivHolderCount(): number {
    return this.#ivHolders.size;
  }

  /** Forgets the one that has reserved least lately where there are too many. */
  putIvHolder(holder: IvHolder): void {
    this.#hash.replace('ivHolder', this.#ivHolders.get(holder.holder), holder);
    this.#ivHolders.delete(holder.holder);
    this.#ivHolders.set(holder.holder, holder);
    if (this.#ivHolders.size <= ivLimits.holdersMax) return;
    const [oldest] = this.#ivHolders.values();
    if (oldest === undefined) return;
    this.#hash.remove('ivHolder', oldest);
    this.#ivHolders.delete(oldest.holder);
  }

  putIvBudget(budget: IvBudget): void {
    this.#hash.replace('ivBudget', this.#ivBudgets.get(budget.objectId), budget);
    this.#ivBudgets.set(budget.objectId, budget);
  }

  putToken(token: PreparedToken): void {
    this.#hash.replace('token', this.#tokens.get(token.serial), token);
    this.#tokens.set(token.serial, token);
    this.#tokenObjects.clear();
    for (const { serial, label, testKey, wrappingKey } of this.#tokens.values()) {
      this.#tokenObjects.set(testKey.objectId, { role: 'test key', serial, label });
      this.#tokenObjects.set(wrappingKey.objectId, { role: 'wrapping key', serial, label });
    }
  }

  #newRecords(): KeptRecords | null {
    return this.#keepRecords ? new KeptRecords() : null;
  }

  #row(keyStore: string): KeyStoreRow {
    const row = this.#rows.get(keyStore);
    invariant(row !== undefined, `no key store ${keyStore}`);
    return row;
  }
}
