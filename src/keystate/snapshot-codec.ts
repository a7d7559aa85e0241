import { createHash, type Hash } from 'node:crypto';
import { encodeHex } from '../base/bytes.js';
import { isJsonObject } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import {
  countField,
  decodeJson,
  encodeJson,
  type FieldCodec,
  FieldError,
  objectField,
  stringField,
  wordField,
} from './json-fields.js';
import { KeyState } from './key-state.js';
import {
  clusterField,
  credentialField,
  keyField,
  keyStoreField,
  preparedTokenField,
} from './object-fields.js';
import { type RetiredCredential, Tables } from './tables.js';
import {
  type Cluster,
  type Credential,
  type Key,
  type KeyStore,
  limits,
  type PreparedToken,
} from './types.js';

/** Of the records; a higher one is a newer version's. */
const format = 1;

interface Header {
  readonly format: number;
  readonly appliedIndex: number;
  readonly keyStores: number;
  readonly credentials: number;
  readonly keys: number;
  readonly retiredCredentials: number;
  readonly tokens: number;
}

interface RetiredRow extends RetiredCredential {
  readonly accessKeyId: string;
}

interface End {
  /** Records before this one. */
  readonly records: number;
  /** SHA-256 over them, each preceded by its length as uint32be: hexadecimal. */
  readonly sha256: string;
}

/** What each kind of record holds. */
interface RecordValues {
  readonly header: Header;
  readonly cluster: Cluster;
  readonly token: PreparedToken;
  readonly keyStore: KeyStore;
  readonly credential: Credential;
  readonly key: Key;
  readonly retired: RetiredRow;
  readonly end: End;
}

type RecordKind = keyof RecordValues;
type SnapshotRecord = {
  readonly [K in RecordKind]: { readonly record: K; readonly value: RecordValues[K] };
}[RecordKind];

const recordOf = <K extends RecordKind>(
  kind: K,
  value: FieldCodec<RecordValues[K]>,
): FieldCodec<{ readonly record: K; readonly value: RecordValues[K] }> =>
  objectField({ record: wordField([kind]), value });

const recordFields: {
  readonly [K in RecordKind]: FieldCodec<{ readonly record: K; readonly value: RecordValues[K] }>;
} = {
  header: recordOf(
    'header',
    objectField<Header>({
      format: countField,
      appliedIndex: countField,
      keyStores: countField,
      credentials: countField,
      keys: countField,
      retiredCredentials: countField,
      tokens: countField,
    }),
  ),
  cluster: recordOf('cluster', clusterField),
  token: recordOf('token', preparedTokenField),
  keyStore: recordOf('keyStore', keyStoreField),
  credential: recordOf('credential', credentialField),
  key: recordOf('key', keyField),
  retired: recordOf(
    'retired',
    objectField<RetiredRow>({ accessKeyId: stringField, keyStore: stringField, revision: countField }),
  ),
  end: recordOf('end', objectField<End>({ records: countField, sha256: stringField })),
};

const isRecordKind = (kind: unknown): kind is RecordKind =>
  typeof kind === 'string' && Object.hasOwn(recordFields, kind);

const anyRecordField: FieldCodec<SnapshotRecord> = {
  toJson: (record, path) => (recordFields[record.record] as FieldCodec<SnapshotRecord>).toJson(record, path),
  fromJson: (json, path) => {
    const kind = isJsonObject(json) ? json['record'] : null;
    if (!isRecordKind(kind)) throw new FieldError('its kind is not known to this version of xksd');
    return recordFields[kind].fromJson(json, path);
  },
};

/** Counts records and hashes them. */
class RecordDigest {
  readonly #hash: Hash = createHash('sha256');
  readonly #length = Buffer.alloc(4);
  #records = 0;

  add(record: Uint8Array): void {
    this.#length.writeUInt32BE(record.byteLength);
    this.#hash.update(this.#length).update(record);
    this.#records += 1;
  }

  end(): End {
    return { records: this.#records, sha256: encodeHex(this.#hash.copy().digest()) };
  }
}

/** The objects of a state at one moment. Holds references, so it is small and quickly made. */
interface Captured {
  readonly header: Header;
  readonly cluster: Cluster | null;
  readonly tokens: readonly PreparedToken[];
  readonly stores: readonly {
    readonly keyStore: KeyStore;
    readonly credentials: readonly Credential[];
    readonly keys: readonly Key[];
  }[];
  readonly retired: readonly (readonly [string, RetiredCredential])[];
}

function capture(state: KeyState): Captured {
  const tables = state.tables();
  return {
    header: {
      format,
      appliedIndex: tables.appliedIndex,
      keyStores: tables.keyStoreCount(),
      credentials: tables.credentialCount(),
      keys: tables.keyCount(),
      retiredCredentials: tables.retiredCount(),
      tokens: tables.tokenCount(),
    },
    cluster: tables.cluster,
    tokens: [...tables.tokens()],
    stores: [...tables.keyStores()].map((keyStore) => ({
      keyStore,
      credentials: [...tables.credentials(keyStore.name)],
      keys: [...tables.keys(keyStore.name)],
    })),
    retired: [...tables.retiredCredentials()],
  };
}

function* recordsOf(captured: Captured): Iterable<SnapshotRecord> {
  yield { record: 'header', value: captured.header };
  if (captured.cluster !== null) yield { record: 'cluster', value: captured.cluster };
  for (const value of captured.tokens) yield { record: 'token', value };
  for (const { keyStore, credentials, keys } of captured.stores) {
    yield { record: 'keyStore', value: keyStore };
    for (const value of credentials) yield { record: 'credential', value };
    for (const value of keys) yield { record: 'key', value };
  }
  for (const [accessKeyId, retired] of captured.retired) {
    yield { record: 'retired', value: { accessKeyId, ...retired } };
  }
}

function* encoded(captured: Captured): Iterable<Uint8Array> {
  const digest = new RecordDigest();
  for (const record of recordsOf(captured)) {
    const bytes = encodeJson(anyRecordField, record);
    digest.add(bytes);
    yield bytes;
  }
  yield encodeJson(anyRecordField, { record: 'end', value: digest.end() });
}

/**
 * The whole state as of this call, one object a record: header, cluster, tokens, each key store followed by its
 * credentials and keys, retired credentials, end. Objects appear in order of creation, so equal states that came
 * about in the same way have equal snapshots. Records are encoded as they are taken, and later commands don't show in
 * them: whoever takes them may do so in slices.
 */
export function snapshotRecords(state: KeyState): Iterable<Uint8Array> {
  return encoded(capture(state));
}

/**
 * Takes a snapshot record by record, each in its own time. After a record that can't be, nothing is taken any more
 * and `finish` says what it was.
 */
export class SnapshotReader {
  readonly #tables = new Tables();
  readonly #digest = new RecordDigest();
  #header: Header | null = null;
  #ended = false;
  #failure: string | null = null;

  push(bytes: Uint8Array): void {
    if (this.#failure !== null) return;
    const decoded = decodeJson(anyRecordField, bytes);
    const problem = decoded.ok ? this.#take(decoded.value) : decoded.error;
    if (problem !== null) this.#failure = `snapshot record ${this.#digest.end().records + 1}: ${problem}`;
    this.#digest.add(bytes);
  }

  /** The state; call once, after the last record. */
  finish(): Result<KeyState, string> {
    if (this.#failure !== null) return err(this.#failure);
    if (!this.#ended || this.#header === null)
      return err('the snapshot is cut short: its last record is missing');
    const tables = this.#tables;
    const header = this.#header;
    const whole =
      tables.keyStoreCount() === header.keyStores &&
      tables.credentialCount() === header.credentials &&
      tables.keyCount() === header.keys &&
      tables.retiredCount() === header.retiredCredentials &&
      tables.tokenCount() === header.tokens;
    return whole ? ok(new KeyState(tables)) : err('the snapshot holds other counts than its header says');
  }

  /** Returns what is wrong with `record` in this place; `null` when nothing is. */
  #take(record: SnapshotRecord): string | null {
    if (this.#ended) return 'it comes after the end';
    if ((this.#header === null) !== (record.record === 'header')) return 'a header comes first, and once';
    const tables = this.#tables;
    switch (record.record) {
      case 'header':
        if (record.value.format !== format) {
          return `its format is ${record.value.format}; this version of xksd reads format ${format}`;
        }
        this.#header = record.value;
        tables.appliedIndex = record.value.appliedIndex;
        return null;
      case 'cluster':
        if (tables.cluster !== null) return 'a second cluster';
        tables.cluster = record.value;
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
        return this.#takeKey(record.value);
      case 'retired': {
        const { accessKeyId, keyStore, revision } = record.value;
        if (tables.retiredCount() >= limits.retiredCredentialsMax) return 'too many retired credentials';
        tables.putRetired(accessKeyId, { keyStore, revision }, limits.retiredCredentialsMax);
        return null;
      }
      case 'end': {
        this.#ended = true;
        const { records, sha256 } = this.#digest.end();
        const same = record.value.records === records && record.value.sha256 === sha256;
        return same ? null : 'the records before it are not those that were written';
      }
    }
  }

  #takeKeyStore(keyStore: KeyStore): string | null {
    const tables = this.#tables;
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

  #takeKey(key: Key): string | null {
    const tables = this.#tables;
    if (tables.keyStore(key.keyStore) === null) return 'a key without its key store';
    if (tables.key(key.keyStore, key.externalKeyId) !== null) return 'a key twice';
    if (key.versions.some(({ objectId }) => tables.objectUse(objectId) !== null)) return 'an object twice';
    if (!key.versions.some(({ version }) => version === key.currentVersion))
      return 'a key without its version';
    tables.putKey(key);
    return null;
  }
}
