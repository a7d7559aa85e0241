import { isJsonObject } from '../base/guards.js';
import type { ClusterSettings, FormerMember, Member, PendingRow, UnconfirmedGrant } from './cluster-types.js';
import { grantTypes } from './cluster-types.js';
import type { IvBudget, IvHolder, IvReservation, IvRule } from './iv-budget.js';
import {
  booleanField,
  bytesField,
  countField,
  type FieldCodec,
  listField,
  nullableField,
  objectField,
  sharedListField,
  stringField,
  wordField,
} from './json-fields.js';
import type { RequestRecord } from './request-table.js';
import {
  type Cluster,
  type Credential,
  type Key,
  type KeyStore,
  type KeyVersion,
  limits,
  type OnIsolation,
  type PreparedToken,
  type SealedBytes,
  type Status,
} from './types.js';

/** How the objects of key state look in commands and snapshots. The order of fields is part of the format. */

const statusField: FieldCodec<Status> = wordField(['ENABLED', 'DISABLED']);

/** Those of nearly all keys are the same. */
const wordsField = sharedListField(64);

export const sealedBytesField: FieldCodec<SealedBytes> = objectField({
  nonce: bytesField,
  ciphertext: bytesField,
  tag: bytesField,
});

const tokenObjectField: FieldCodec<PreparedToken['testKey']> = objectField({
  objectId: stringField,
  witness: sealedBytesField,
});

export const preparedTokenField: FieldCodec<PreparedToken> = objectField({
  serial: stringField,
  label: stringField,
  testKey: tokenObjectField,
  wrappingKey: tokenObjectField,
  wrappedSecret: sealedBytesField,
  secretCheckValue: stringField,
});

export const clusterField: FieldCodec<Cluster> = objectField({
  clusterId: stringField,
  nodeName: stringField,
  createdAtMs: countField,
});

const serveField = objectField<Extract<OnIsolation, { rule: 'serve' }>>({ rule: wordField(['serve']) });
const stopField = objectField<Extract<OnIsolation, { rule: 'stop' }>>({
  rule: wordField(['stop']),
  boundMs: countField,
});

export const onIsolationField: FieldCodec<OnIsolation> = {
  write: (value) => (value.rule === 'stop' ? stopField.write(value) : serveField.write(value)),
  fromJson: (json) => {
    const stops = isJsonObject(json) && json['rule'] === 'stop';
    return stops ? stopField.fromJson(json) : serveField.fromJson(json);
  },
  read: () => undefined,
};

const keyStoreFields = {
  name: stringField,
  uriPathPrefix: stringField,
  regions: wordsField,
  adopted: booleanField,
  status: statusField,
  createdAtMs: countField,
  revision: countField,
};
const isolatedKeyStoreField = objectField<KeyStore>({ ...keyStoreFields, onIsolation: onIsolationField });
const servingKeyStoreField = objectField<Omit<KeyStore, 'onIsolation'>>(keyStoreFields);

/** The rule by default is left out, so that a key store looks as in format 1 for as long as it could be there. */
export const keyStoreField: FieldCodec<KeyStore> = {
  write: (value) =>
    value.onIsolation.rule === 'serve'
      ? servingKeyStoreField.write(value)
      : isolatedKeyStoreField.write(value),
  fromJson: (json) =>
    isJsonObject(json) && Object.hasOwn(json, 'onIsolation')
      ? isolatedKeyStoreField.fromJson(json)
      : { ...servingKeyStoreField.fromJson(json), onIsolation: { rule: 'serve' } },
  read: () => undefined,
};

export const credentialField: FieldCodec<Credential> = objectField({
  accessKeyId: stringField,
  keyStore: stringField,
  sealedSecret: sealedBytesField,
  createdAtMs: countField,
  revision: countField,
});

const keyVersionField: FieldCodec<KeyVersion> = objectField({
  version: countField,
  objectId: stringField,
  witness: nullableField(sealedBytesField),
  checkValue: nullableField(stringField),
  status: statusField,
});

export const keyField: FieldCodec<Key> = objectField({
  externalKeyId: stringField,
  keyStore: stringField,
  versions: listField(keyVersionField, limits.keyVersionsMax),
  currentVersion: countField,
  status: statusField,
  usage: wordsField,
  description: stringField,
  createdAtMs: countField,
  revision: countField,
});

export const ivRuleField: FieldCodec<IvRule> = wordField(['refuse', 'continue']);

export const ivBudgetField: FieldCodec<IvBudget> = objectField({
  objectId: stringField,
  reserved: countField,
  rule: ivRuleField,
});

export const ivHolderField: FieldCodec<IvHolder> = objectField({
  holder: stringField,
  sequence: countField,
});

export const ivReservationField: FieldCodec<IvReservation> = objectField({
  objectId: stringField,
  used: countField,
  ahead: countField,
});

export const memberField: FieldCodec<Member> = objectField({
  memberId: stringField,
  name: stringField,
  address: stringField,
  status: wordField(['invited', 'learner', 'voter']),
  joinSecretDigest: nullableField(stringField),
  invitedAtMs: countField,
  inviteExpiresAtMs: countField,
  joinedIndex: nullableField(countField),
  revision: countField,
});

export const formerMemberField: FieldCodec<FormerMember> = objectField({
  memberId: stringField,
  name: stringField,
  removedAtMs: countField,
  reason: wordField(['removed', 'recovered']),
  destroyed: booleanField,
  revision: countField,
});

export const settingsField: FieldCodec<ClusterSettings> = objectField({
  electionTicks: countField,
  tickMs: countField,
  heartbeatTicks: countField,
  freshnessIntervalMs: countField,
  serveStaleMaxMs: countField,
});

const unconfirmedGrantFields = {
  index: countField,
  digest: stringField,
  type: wordField(grantTypes),
  keyStore: stringField,
  name: nullableField(stringField),
};

export const unconfirmedGrantField: FieldCodec<UnconfirmedGrant> = objectField(unconfirmedGrantFields);

/** What a pending grant is, and what of it is kept out of the tables until it is confirmed. */
export const pendingRowField: FieldCodec<PendingRow> = objectField({
  ...unconfirmedGrantFields,
  revision: countField,
  credential: nullableField(credentialField),
  onIsolation: nullableField(onIsolationField),
});

const refusalCodes = ['not-found', 'already-exists', 'conflict', 'invalid', 'limit', 'expired'] as const;

export const requestRecordField: FieldCodec<RequestRecord> = objectField({
  requestId: stringField,
  index: countField,
  change: stringField,
  revision: nullableField(countField),
  refusal: nullableField(objectField({ code: wordField(refusalCodes), message: stringField })),
});
