import {
  booleanField,
  bytesField,
  countField,
  type FieldCodec,
  listField,
  nullableField,
  objectField,
  stringField,
  wordField,
} from './json-fields.js';
import {
  type Cluster,
  type Credential,
  type Key,
  type KeyStore,
  type KeyVersion,
  limits,
  type PreparedToken,
  type SealedBytes,
  type Status,
} from './types.js';

/** How the objects of key state look in commands and snapshots. The order of fields is part of the format. */

const statusField: FieldCodec<Status> = wordField(['ENABLED', 'DISABLED']);

const wordsField = listField(stringField, 64);

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

export const keyStoreField: FieldCodec<KeyStore> = objectField({
  name: stringField,
  uriPathPrefix: stringField,
  regions: wordsField,
  adopted: booleanField,
  status: statusField,
  createdAtMs: countField,
  revision: countField,
});

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
