import { isJsonObject } from '../base/guards.js';
import type { Result } from '../base/result.js';
import type { ClusterSettings, FormerMember, Member, PendingRow } from './cluster-types.js';
import type { IvBudget, IvHolder } from './iv-budget.js';
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
import {
  clusterField,
  credentialField,
  formerMemberField,
  ivBudgetField,
  ivHolderField,
  keyField,
  keyStoreField,
  memberField,
  pendingRowField,
  preparedTokenField,
  requestRecordField,
  settingsField,
} from './object-fields.js';
import type { RequestRecord } from './request-table.js';
import type { Cluster, Credential, Key, KeyStore, PreparedToken } from './types.js';

export interface Header {
  /** The active format: a snapshot is written as the oldest release that may read it expects. */
  readonly format: number;
  readonly appliedIndex: number;
  readonly keyStores: number;
  readonly credentials: number;
  readonly keys: number;
  readonly retiredCredentials: number;
  readonly tokens: number;
  /** From here on 0 in format 1, which has none of them. */
  readonly members: number;
  readonly formerMembers: number;
  readonly pending: number;
  readonly requests: number;
  readonly requestFloors: number;
  /** 0 before format 3. */
  readonly ivBudgets: number;
  /** 0 before format 4. */
  readonly ivHolders: number;
}

/** What is left of a retired credential: whose it was, and when (log index). */
export interface RetiredCredential {
  readonly keyStore: string;
  readonly revision: number;
}

export interface RetiredRow extends RetiredCredential {
  readonly accessKeyId: string;
}

export interface RequestFloor {
  readonly requestId: string;
}

export interface End {
  /** Records before this one. */
  readonly records: number;
  /** SHA-256 over them, each preceded by its length as uint32be: hexadecimal. */
  readonly sha256: string;
}

/** What each kind of record holds. */
export interface RecordValues {
  readonly header: Header;
  readonly cluster: Cluster;
  readonly settings: ClusterSettings;
  readonly member: Member;
  readonly formerMember: FormerMember;
  readonly token: PreparedToken;
  readonly keyStore: KeyStore;
  readonly credential: Credential;
  readonly key: Key;
  readonly retired: RetiredRow;
  readonly pending: PendingRow;
  readonly ivBudget: IvBudget;
  readonly ivHolder: IvHolder;
  readonly requestFloor: RequestFloor;
  readonly request: RequestRecord;
  readonly end: End;
}

export type RecordKind = keyof RecordValues;
/** Kinds that are objects of the state, and so in its hash. */
export type ObjectKind = Exclude<RecordKind, 'header' | 'end'>;

export type SnapshotRecord = {
  readonly [K in RecordKind]: { readonly record: K; readonly value: RecordValues[K] };
}[RecordKind];

type CountName = Exclude<keyof Header, 'format' | 'appliedIndex'>;

const firstCounts = {
  keyStores: countField,
  credentials: countField,
  keys: countField,
  retiredCredentials: countField,
  tokens: countField,
} as const satisfies Partial<Record<CountName, FieldCodec<number>>>;

const secondCounts = {
  members: countField,
  formerMembers: countField,
  pending: countField,
  requests: countField,
  requestFloors: countField,
} as const satisfies Partial<Record<CountName, FieldCodec<number>>>;

const thirdCounts = { ivBudgets: countField } as const satisfies Partial<
  Record<CountName, FieldCodec<number>>
>;

const fourthCounts = { ivHolders: countField } as const satisfies Partial<
  Record<CountName, FieldCodec<number>>
>;

const headerStart = { format: countField, appliedIndex: countField };
const firstHeaderField: FieldCodec<
  Omit<Header, keyof typeof secondCounts | keyof typeof thirdCounts | keyof typeof fourthCounts>
> = objectField({
  ...headerStart,
  ...firstCounts,
});
const secondHeaderField: FieldCodec<Omit<Header, keyof typeof thirdCounts | keyof typeof fourthCounts>> =
  objectField({
    ...headerStart,
    ...firstCounts,
    ...secondCounts,
  });
const thirdHeaderField: FieldCodec<Omit<Header, keyof typeof fourthCounts>> = objectField({
  ...headerStart,
  ...firstCounts,
  ...secondCounts,
  ...thirdCounts,
});
const fourthHeaderField: FieldCodec<Header> = objectField({
  ...headerStart,
  ...firstCounts,
  ...secondCounts,
  ...thirdCounts,
  ...fourthCounts,
});
const noSecondCounts = { members: 0, formerMembers: 0, pending: 0, requests: 0, requestFloors: 0 };
const noThirdCounts = { ivBudgets: 0 };
const noFourthCounts = { ivHolders: 0 };

/** Newest format of snapshots that this build reads and writes: they have the cluster's active one. */
export const snapshotFormatMax = 4;

const headerField: FieldCodec<Header> = {
  write: (header) => {
    if (header.format === 1) return firstHeaderField.write(header);
    if (header.format === 2) return secondHeaderField.write(header);
    return header.format === 3 ? thirdHeaderField.write(header) : fourthHeaderField.write(header);
  },
  fromJson: (json) => {
    const format = isJsonObject(json) ? json['format'] : null;
    if (format === 1) {
      return { ...firstHeaderField.fromJson(json), ...noSecondCounts, ...noThirdCounts, ...noFourthCounts };
    }
    if (format === 2) return { ...secondHeaderField.fromJson(json), ...noThirdCounts, ...noFourthCounts };
    if (format === 3) return { ...thirdHeaderField.fromJson(json), ...noFourthCounts };
    if (format === snapshotFormatMax) return fourthHeaderField.fromJson(json);
    const found = typeof format === 'number' ? format : 'missing';
    throw new FieldError(
      `its format is ${found}; this version of xksd reads formats 1 to ${snapshotFormatMax}`,
    );
  },
  read: () => undefined,
};

const recordOf = <K extends RecordKind>(
  kind: K,
  value: FieldCodec<RecordValues[K]>,
): FieldCodec<{ readonly record: K; readonly value: RecordValues[K] }> =>
  objectField({ record: wordField([kind]), value });

const recordFields: {
  readonly [K in RecordKind]: FieldCodec<{ readonly record: K; readonly value: RecordValues[K] }>;
} = {
  header: recordOf('header', headerField),
  cluster: recordOf('cluster', clusterField),
  settings: recordOf('settings', settingsField),
  member: recordOf('member', memberField),
  formerMember: recordOf('formerMember', formerMemberField),
  token: recordOf('token', preparedTokenField),
  keyStore: recordOf('keyStore', keyStoreField),
  credential: recordOf('credential', credentialField),
  key: recordOf('key', keyField),
  retired: recordOf(
    'retired',
    objectField<RetiredRow>({ accessKeyId: stringField, keyStore: stringField, revision: countField }),
  ),
  pending: recordOf('pending', pendingRowField),
  ivBudget: recordOf('ivBudget', ivBudgetField),
  ivHolder: recordOf('ivHolder', ivHolderField),
  requestFloor: recordOf('requestFloor', objectField<RequestFloor>({ requestId: stringField })),
  request: recordOf('request', requestRecordField),
  end: recordOf('end', objectField<End>({ records: countField, sha256: stringField })),
};

const isRecordKind = (kind: unknown): kind is RecordKind =>
  typeof kind === 'string' && Object.hasOwn(recordFields, kind);

const anyRecordField: FieldCodec<SnapshotRecord> = {
  write: (record) => (recordFields[record.record] as FieldCodec<SnapshotRecord>).write(record),
  fromJson: (json) => {
    const kind = isJsonObject(json) ? json['record'] : null;
    if (!isRecordKind(kind)) throw new FieldError('its kind is not known to this version of xksd');
    return recordFields[kind].fromJson(json);
  },
  read: (cursor) => {
    const kind = cursor.peekAfter('{"record":');
    return isRecordKind(kind) ? recordFields[kind].read(cursor) : undefined;
  },
};

/** One record, canonically: equal values give equal bytes. */
export function encodeRecord<K extends RecordKind>(kind: K, value: RecordValues[K]): Buffer {
  return encodeJson(recordFields[kind], { record: kind, value });
}

export function decodeRecord(bytes: Uint8Array): Result<SnapshotRecord, string> {
  return decodeJson(anyRecordField, bytes);
}
