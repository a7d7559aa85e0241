import type { Command, CommandEnvelope, OnIsolation, SealedBytes } from '../../../src/keystate/types.js';

/** No secret is in it: nothing in a simulation opens it. */
const sealed: SealedBytes = {
  nonce: new Uint8Array(12),
  ciphertext: new Uint8Array(43),
  tag: new Uint8Array(16),
};

export const storeName = (place: number): string => `store-${place}`;
/** Of that key store. */
export const prefixOf = (keyStore: string): string => `kms/${keyStore}`;
export const keyName = (place: number): string => `key-${place}`;

export const createStore = (envelope: CommandEnvelope, name: string): Command => ({
  type: 'keystore.create',
  ...envelope,
  name,
  uriPathPrefix: prefixOf(name),
  regions: ['eu-central-1'],
  adopted: false,
});

export const setRule = (
  envelope: CommandEnvelope,
  name: string,
  onIsolation: OnIsolation,
  revision: number,
): Command => ({ type: 'keystore.set', ...envelope, name, onIsolation, revision });

export const createCredential = (
  envelope: CommandEnvelope,
  keyStore: string,
  accessKeyId: string,
): Command => ({
  type: 'credential.create',
  ...envelope,
  keyStore,
  accessKeyId,
  sealedSecret: sealed,
});

export const createKey = (
  envelope: CommandEnvelope,
  keyStore: string,
  externalKeyId: string,
  description: string,
): Command => ({
  type: 'key.create',
  ...envelope,
  keyStore,
  externalKeyId,
  objectId: Buffer.from(`${keyStore}/${externalKeyId}`, 'latin1').toString('hex'),
  witness: null,
  checkValue: null,
  usage: ['ENCRYPT', 'DECRYPT'],
  description,
});
