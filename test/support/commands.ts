import type { Command } from '../../src/keystate/types.js';
import type { SeededRandom } from './seeded-random.js';

type Draw = (random: SeededRandom) => Command;

const hex = '0123456789abcdef';
const names = ['prod', 'test', 'eu.west', 'x', 'Shared_1'];
const keyIds = ['alpha', 'beta', 'gamma', 'delta', 'epsilon', '..', 'not/one'];
const objects = Array.from({ length: 12 }, (_, place) => `00${hex.charAt(place)}0`);
const accessKeyIds = ['A', 'B', 'C', 'D', 'E', 'F', 'G'].map((letter) => letter.repeat(20));

const envelope = (random: SeededRandom) => ({
  requestId: random.text(12, 'abcdef0123456789'),
  atMs: 1_700_000_000_000 + random.integer(1_000_000),
  by: `uid=${random.integer(3)}`,
});

const sealed = (random: SeededRandom, ciphertextBytes: number) => ({
  nonce: random.bytes(12),
  ciphertext: random.bytes(ciphertextBytes),
  tag: random.bytes(random.integer(50) === 0 ? 15 : 16),
});

const draws: readonly Draw[] = [
  (random) => ({ ...envelope(random), type: 'cluster.init', clusterId: 'c-1', nodeName: random.pick(names) }),
  (random) => ({
    ...envelope(random),
    type: 'token.prepare',
    token: {
      serial: random.pick(['s1', 's2', 's3']),
      label: random.pick(['first', 'second', '']),
      testKey: { objectId: random.pick(objects), witness: sealed(random, 32) },
      wrappingKey: { objectId: random.pick(objects), witness: sealed(random, 32) },
      wrappedSecret: sealed(random, 32),
      secretCheckValue: random.pick(['aabbcc', 'aabbcc', 'ddeeff']),
    },
  }),
  (random) => ({
    ...envelope(random),
    type: 'keystore.create',
    name: random.pick(names),
    uriPathPrefix: random.pick(['', 'a', 'a/b', 'tenant-1', 'kms/xks', '/bad']),
    regions: random.pick([['eu-central-1'], ['us-east-1', 'us-gov-west-1'], [], ['nowhere']]),
    adopted: random.integer(2) === 0,
  }),
  (random) => ({
    ...envelope(random),
    type: 'keystore.enable',
    name: random.pick(names),
    revision: random.integer(40),
  }),
  (random) => ({ ...envelope(random), type: 'keystore.disable', name: random.pick(names) }),
  (random) => ({
    ...envelope(random),
    type: 'credential.create',
    keyStore: random.pick(names),
    accessKeyId: random.pick(accessKeyIds),
    sealedSecret: sealed(random, 43),
  }),
  (random) => ({
    ...envelope(random),
    type: 'credential.retire',
    keyStore: random.pick(names),
    accessKeyId: random.pick(accessKeyIds),
  }),
  (random) => ({
    ...envelope(random),
    type: 'key.create',
    keyStore: random.pick(names),
    externalKeyId: random.pick(keyIds),
    objectId: random.pick(objects),
    witness: random.integer(3) === 0 ? null : sealed(random, 32),
    checkValue: random.pick([null, 'a1b2c3']),
    usage: random.pick([['ENCRYPT', 'DECRYPT'], ['ENCRYPT'], ['DECRYPT', 'SIGN']]),
    description: random.pick(['', 'S3 der Buchhaltung, größer', 'line\nbreak']),
  }),
  (random) => ({
    ...envelope(random),
    type: 'key.enable',
    keyStore: random.pick(names),
    externalKeyId: random.pick(keyIds),
    revision: random.integer(40),
  }),
  (random) => ({
    ...envelope(random),
    type: 'key.disable',
    keyStore: random.pick(names),
    externalKeyId: random.pick(keyIds),
  }),
];

/** A command of any type out of so few names that they meet: some can be done, some are refused. */
export const randomCommand = (random: SeededRandom): Command => random.pick(draws)(random);
