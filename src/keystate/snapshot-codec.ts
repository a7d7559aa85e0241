import { createHash, type Hash } from 'node:crypto';
import { encodeHex } from '../base/bytes.js';
import { err, ok, type Result } from '../base/result.js';
import {
  type ClusterSettings,
  clusterLimits,
  type FormerMember,
  type Member,
  type PendingRow,
} from './cluster-types.js';
import { type IvBudget, type IvHolder, ivLimits } from './iv-budget.js';
import { type KeptRecord, KeptRecordCopies } from './kept-records.js';
import { KeyState } from './key-state.js';
import { parseRequestId } from './request-id.js';
import { type RequestRecord, requestLimits } from './request-table.js';
import {
  decodeRecord,
  type End,
  encodeRecord,
  type Header,
  type RecordKind,
  type RetiredCredential,
  type SnapshotRecord,
} from './snapshot-records.js';
import { Tables, type TablesOptions } from './tables.js';
import {
  type Cluster,
  type Credential,
  type Key,
  type KeyStore,
  limits,
  type PreparedToken,
} from './types.js';

/** Kinds that snapshots of format 1 know. */
const firstKinds: readonly RecordKind[] = [
  'header',
  'cluster',
  'token',
  'keyStore',
  'credential',
  'key',
  'retired',
  'end',
];

/** Kinds that came with format 3. */
const thirdKinds: readonly RecordKind[] = ['ivBudget'];

/** Kinds that came with format 4. */
const fourthKinds: readonly RecordKind[] = ['ivHolder'];

const lengthBytes = 4;
/** Records are hashed so many bytes at a time: a call for each costs as much as the hashing. */
const hashedBytes = 16 * 1024;

/** Counts records and hashes them. */
class RecordDigest {
  readonly #hash: Hash = createHash('sha256');
  readonly #gathered = Buffer.alloc(hashedBytes);
  #gatheredBytes = 0;
  #records = 0;

  add(record: Uint8Array): void {
    const bytes = lengthBytes + record.byteLength;
    if (this.#gatheredBytes + bytes > hashedBytes) this.#flush();
    if (bytes > hashedBytes) {
      this.#gathered.writeUInt32BE(record.byteLength);
      this.#hash.update(this.#gathered.subarray(0, lengthBytes)).update(record);
    } else {
      this.#gathered.writeUInt32BE(record.byteLength, this.#gatheredBytes);
      this.#gathered.set(record, this.#gatheredBytes + lengthBytes);
      this.#gatheredBytes += bytes;
    }
    this.#records += 1;
  }

  #flush(): void {
    this.#hash.update(this.#gathered.subarray(0, this.#gatheredBytes));
    this.#gatheredBytes = 0;
  }

  end(): End {
    this.#flush();
    return { records: this.#records, sha256: encodeHex(this.#hash.copy().digest()) };
  }
}

/** The objects of a state at one moment. Holds references, so it is small and quickly made. */
interface Captured {
  readonly header: Header;
  readonly cluster: Cluster | null;
  readonly settings: ClusterSettings | null;
  readonly members: readonly Member[];
  readonly formerMembers: readonly FormerMember[];
  readonly tokens: readonly PreparedToken[];
  readonly stores: readonly {
    readonly keyStore: KeyStore;
    readonly credentials: readonly Credential[];
    readonly keys: readonly (Key | KeptRecord)[];
  }[];
  readonly retired: readonly (readonly [string, RetiredCredential])[];
  readonly pending: readonly PendingRow[];
  readonly ivBudgets: readonly IvBudget[];
  readonly ivHolders: readonly IvHolder[];
  readonly requestFloors: readonly string[];
  readonly requests: readonly (RequestRecord | KeptRecord)[];
}

function capture(state: KeyState): Captured {
  const tables = state.tables();
  return {
    header: {
      format: tables.activeFormat,
      appliedIndex: tables.appliedIndex,
      keyStores: tables.keyStoreCount(),
      credentials: tables.credentialCount(),
      keys: tables.keyCount(),
      retiredCredentials: tables.retiredCount(),
      tokens: tables.tokenCount(),
      ...laterCounts(tables),
    },
    cluster: tables.cluster,
    settings: tables.storedSettings,
    members: [...tables.members()],
    formerMembers: [...tables.formerMembers()],
    tokens: [...tables.tokens()],
    stores: [...tables.keyStores()].map((keyStore) => ({
      keyStore,
      credentials: [...tables.credentials(keyStore.name)],
      keys: [...(tables.keyRecords(keyStore.name) ?? tables.keys(keyStore.name))],
    })),
    retired: [...tables.retiredCredentials()],
    pending: tables.pendingRows(),
    ivBudgets: [...tables.ivBudgets()],
    ivHolders: [...tables.ivHolders()],
    requestFloors: [...tables.requests.floors()],
    requests: [...(tables.requests.keptRecords() ?? tables.requests.records())],
  };
}

const laterCounts = (tables: Tables) => ({
  members: tables.memberCount(),
  formerMembers: tables.formerMemberCount(),
  pending: tables.pendingCount(),
  requests: tables.requests.size,
  requestFloors: tables.requests.floorCount,
  ivBudgets: tables.ivBudgetCount(),
  ivHolders: tables.ivHolderCount(),
});

function* recordsOf(captured: Captured): Iterable<SnapshotRecord | KeptRecord> {
  yield { record: 'header', value: captured.header };
  if (captured.cluster !== null) yield { record: 'cluster', value: captured.cluster };
  if (captured.settings !== null) yield { record: 'settings', value: captured.settings };
  for (const value of captured.members) yield { record: 'member', value };
  for (const value of captured.formerMembers) yield { record: 'formerMember', value };
  for (const value of captured.tokens) yield { record: 'token', value };
  for (const { keyStore, credentials, keys } of captured.stores) {
    yield { record: 'keyStore', value: keyStore };
    for (const value of credentials) yield { record: 'credential', value };
    for (const value of keys) yield typeof value === 'string' ? value : { record: 'key', value };
  }
  for (const [accessKeyId, retired] of captured.retired) {
    yield { record: 'retired', value: { accessKeyId, ...retired } };
  }
  for (const value of captured.pending) yield { record: 'pending', value };
  for (const value of captured.ivBudgets) yield { record: 'ivBudget', value };
  for (const value of captured.ivHolders) yield { record: 'ivHolder', value };
  for (const requestId of captured.requestFloors) yield { record: 'requestFloor', value: { requestId } };
  for (const value of captured.requests) {
    yield typeof value === 'string' ? value : { record: 'request', value };
  }
}

function* encoded(captured: Captured): Iterable<Uint8Array> {
  const digest = new RecordDigest();
  const copies = new KeptRecordCopies();
  for (const record of recordsOf(captured)) {
    const bytes =
      typeof record === 'string' ? copies.copy(record) : encodeRecord(record.record, record.value);
    digest.add(bytes);
    yield bytes;
  }
  yield encodeRecord('end', digest.end());
}

/**
 * The whole state as of this call, one object a record: header, cluster, settings, members, former members, tokens,
 * each key store followed by its credentials and keys, retired credentials, pending grants, budgets and holders of random
 * IVs, request floors, requests, end. In format 1 exactly what the first release writes, which may have to read it. Objects appear in order of
 * creation, so equal states that came about in the same way have equal snapshots. Records are encoded as they are taken
 * (or copied, where the state keeps them), and later commands don't show in them: whoever takes them may do so in
 * slices.
 */
export function snapshotRecords(state: KeyState): Iterable<Uint8Array> {
  return encoded(capture(state));
}

/**
 * Takes a snapshot record by record, each in its own time. After a record that can't be, nothing is taken any more
 * and `finish` says what it was.
 */
export class SnapshotReader {
  readonly #tables: Tables;
  readonly #digest = new RecordDigest();
  #header: Header | null = null;
  #ended = false;
  #failure: string | null = null;

  /** @param options of the tables of the state that is read. */
  constructor(options: TablesOptions = { keepRecords: false }) {
    this.#tables = new Tables(options);
  }

  push(bytes: Uint8Array): void {
    if (this.#failure !== null) return;
    const decoded = decodeRecord(bytes);
    const problem = decoded.ok ? this.#take(decoded.value, bytes) : decoded.error;
    if (problem !== null) this.#failure = `snapshot record ${this.#digest.end().records + 1}: ${problem}`;
    this.#digest.add(bytes);
  }

  /** The state; call once, after the last record. */
  finish(): Result<KeyState, string> {
    if (this.#failure !== null) return err(this.#failure);
    const header = this.#header;
    if (!this.#ended || header === null) {
      return err('the snapshot is cut short: its last record is missing');
    }
    const tables = this.#tables;
    const later = laterCounts(tables);
    const whole =
      tables.keyStoreCount() === header.keyStores &&
      tables.credentialCount() === header.credentials &&
      tables.keyCount() === header.keys &&
      tables.retiredCount() === header.retiredCredentials &&
      tables.tokenCount() === header.tokens &&
      later.members === header.members &&
      later.formerMembers === header.formerMembers &&
      later.pending === header.pending &&
      later.requests === header.requests &&
      later.requestFloors === header.requestFloors &&
      later.ivBudgets === header.ivBudgets &&
      later.ivHolders === header.ivHolders;
    return whole ? ok(new KeyState(tables)) : err('the snapshot holds other counts than its header says');
  }

  /** Returns what is wrong with `record` in this place; `null` when nothing is. */
  #take(record: SnapshotRecord, bytes: Uint8Array): string | null {
    if (this.#ended) return 'it comes after the end';
    if ((this.#header === null) !== (record.record === 'header')) return 'a header comes first, and once';
    const tables = this.#tables;
    if (tables.activeFormat === 1 && !firstKinds.includes(record.record)) {
      return `a snapshot of format 1 has no ${record.record}`;
    }
    const isLater =
      (tables.activeFormat < 3 && thirdKinds.includes(record.record)) ||
      (tables.activeFormat < 4 && fourthKinds.includes(record.record));
    if (isLater) {
      return `a snapshot of format ${tables.activeFormat} has no ${record.record}`;
    }
    switch (record.record) {
      case 'header':
        this.#header = record.value;
        tables.appliedIndex = record.value.appliedIndex;
        if (record.value.format > 1) tables.activeFormat = record.value.format;
        return null;
      case 'cluster':
        if (tables.cluster !== null) return 'a second cluster';
        tables.putCluster(record.value);
        return null;
      case 'settings':
        if (tables.storedSettings !== null) return 'settings twice';
        tables.putSettings(record.value);
        return null;
      case 'member':
        return this.#takeMember(record.value);
      case 'formerMember':
        if (tables.formerMember(record.value.memberId) !== null) return 'a former member twice';
        if (tables.formerMemberCount() >= clusterLimits.formerMembersMax) return 'too many former members';
        tables.putFormerMember(record.value);
        return null;
      case 'token':
        if (tables.preparedToken(record.value.serial) !== null) return 'a token twice';
        tables.putToken(record.value);
        return null;
      case 'keyStore':
        return this.#takeKeyStore(record.value);
      case 'credential':
        return this.#takeCredential(record.value);
      case 'key':
        return this.#takeKey(record.value, bytes);
      case 'retired': {
        const { accessKeyId, keyStore, revision } = record.value;
        if (tables.retired(accessKeyId) !== null) return 'a retired credential twice';
        if (tables.retiredCount() >= limits.retiredCredentialsMax) return 'too many retired credentials';
        tables.putRetired(accessKeyId, { keyStore, revision }, limits.retiredCredentialsMax);
        return null;
      }
      case 'pending':
        if (tables.pending(record.value.index) !== null) return 'a pending grant twice';
        if (tables.pendingCount() >= clusterLimits.pendingMax) return 'too many pending grants';
        tables.putPending(record.value);
        return null;
      case 'ivBudget':
        if (tables.keyOfObject(record.value.objectId) === null) return 'random IVs of no key';
        if (tables.ivBudget(record.value.objectId) !== null) return 'random IVs of a key twice';
        tables.putIvBudget(record.value);
        return null;
      case 'ivHolder':
        if (tables.ivSequence(record.value.holder) > 0) return 'a holder of random IVs twice';
        if (tables.ivHolderCount() >= ivLimits.holdersMax) return 'too many holders of random IVs';
        tables.putIvHolder(record.value);
        return null;
      case 'requestFloor':
        if (parseRequestId(record.value.requestId) === null) return 'a request floor that is no request id';
        return tables.requests.putFloor(record.value.requestId) ? null : 'a request floor too many';
      case 'request':
        return this.#takeRequest(record.value, bytes);
      case 'end': {
        this.#ended = true;
        const { records, sha256 } = this.#digest.end();
        const same = record.value.records === records && record.value.sha256 === sha256;
        return same ? null : 'the records before it are not those that were written';
      }
    }
  }

  #takeMember(member: Member): string | null {
    const tables = this.#tables;
    if (tables.member(member.memberId) !== null) return 'a member twice';
    if (tables.memberByName(member.name) !== null) return "a member's name twice";
    if (tables.memberCount() >= clusterLimits.membersMax) return 'too many members';
    tables.putMember(member);
    return null;
  }

  #takeRequest(record: RequestRecord, bytes: Uint8Array): string | null {
    const { requests } = this.#tables;
    if (parseRequestId(record.requestId) === null) return 'a request that is none';
    if ((record.revision === null) === (record.refusal === null)) return 'a request without its one result';
    if (requests.get(record.requestId) !== null) return 'a request twice';
    if (requests.size >= requestLimits.requestIdsMax) return 'too many requests';
    requests.put(record, bytes);
    return null;
  }

  #takeKeyStore(keyStore: KeyStore): string | null {
    const tables = this.#tables;
    if (tables.activeFormat === 1 && keyStore.onIsolation.rule !== 'serve') {
      return 'a key store of format 1 has no isolation rule';
    }
    if (tables.keyStore(keyStore.name) !== null) return 'a key store twice';
    if (tables.keyStoreByPrefix(keyStore.uriPathPrefix) !== null) return 'a prefix twice';
    tables.putKeyStore(keyStore);
    return null;
  }

  #takeCredential(credential: Credential): string | null {
    const tables = this.#tables;
    if (tables.keyStore(credential.keyStore) === null) return 'a credential without its key store';
    if (tables.credential(credential.accessKeyId) !== null) return 'a credential twice';
    tables.putCredential(credential);
    return null;
  }

  #takeKey(key: Key, bytes: Uint8Array): string | null {
    const tables = this.#tables;
    if (tables.keyStore(key.keyStore) === null) return 'a key without its key store';
    if (tables.key(key.keyStore, key.externalKeyId) !== null) return 'a key twice';
    if (key.versions.some(({ objectId }) => tables.objectUse(objectId) !== null)) return 'an object twice';
    if (!key.versions.some(({ version }) => version === key.currentVersion))
      return 'a key without its version';
    tables.putKey(key, bytes);
    return null;
  }
}
