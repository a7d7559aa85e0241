import t from 'tap';
import { objectId } from '../../src/hsm/types.js';
import { witnessAad } from '../../src/hsm/witness.js';
import { KeyState } from '../../src/keystate/key-state.js';
import type { Credential, PreparedToken, SealedBytes } from '../../src/keystate/types.js';
import {
  preparedKeyObject,
  unwrapClusterSecret,
  wrapClusterSecret,
} from '../../src/serving/cluster-secret.js';
import {
  clusterSecretAad,
  clusterSecretCheckValue,
  isClusterSecret,
  openSecret,
  sealSecret,
} from '../../src/serving/sealing.js';
import { SecretStore } from '../../src/serving/secret-store.js';
import { SeededRandom } from '../support/seeded-random.js';
import { SoftwareCrypto } from '../support/software-crypto.js';

const clusterSecret = (): Uint8Array => new Uint8Array(32).fill(7);
const owner = { keyStore: 'one', accessKeyId: 'AAAAAAAAAAAAAAAAAAAAAAAAA2' };
const secretAccessKey = Buffer.from('a/secret+access=key/abcdefghijklmnopqrstuvwxyz01');
const random = new SeededRandom(3);

t.test('a sealed secret opens for its owner, under its cluster secret, unchanged', async (t) => {
  const sealed = sealSecret(clusterSecret(), owner, secretAccessKey, random);
  t.strictSame(Buffer.from(openSecret(clusterSecret(), owner, sealed) ?? []), secretAccessKey);
  t.notOk(Buffer.from(sealed.ciphertext).includes(secretAccessKey.subarray(0, 8)));

  const flip = (bytes: Uint8Array): Uint8Array => Uint8Array.from(bytes, (b, i) => (i === 0 ? b ^ 1 : b));
  const wrong: readonly (readonly [string, Uint8Array, typeof owner, SealedBytes])[] = [
    ['another cluster secret', new Uint8Array(32).fill(8), owner, sealed],
    ['another key store', clusterSecret(), { ...owner, keyStore: 'two' }, sealed],
    ['another credential', clusterSecret(), { ...owner, accessKeyId: 'B' }, sealed],
    // The lengths are in the AAD: what moves over the border between the two is another owner.
    ['shifted', clusterSecret(), { keyStore: 'oneA', accessKeyId: owner.accessKeyId.slice(1) }, sealed],
    ['nonce', clusterSecret(), owner, { ...sealed, nonce: flip(sealed.nonce) }],
    ['ciphertext', clusterSecret(), owner, { ...sealed, ciphertext: flip(sealed.ciphertext) }],
    ['tag', clusterSecret(), owner, { ...sealed, tag: flip(sealed.tag) }],
    ['a shorter tag', clusterSecret(), owner, { ...sealed, tag: sealed.tag.subarray(0, 12) }],
    ['a longer nonce', clusterSecret(), owner, { ...sealed, nonce: new Uint8Array(16) }],
  ];
  for (const [name, secret, who, bytes] of wrong) t.equal(openSecret(secret, who, bytes), null, name);
});

t.test('the same secret sealed twice looks different', async (t) => {
  const [one, two] = [1, 2].map(() => sealSecret(clusterSecret(), owner, secretAccessKey, random));
  t.notSame(one?.nonce, two?.nonce);
  t.notSame(one?.ciphertext, two?.ciphertext);
});

t.test('the check value tells the cluster secret from others', async (t) => {
  const checkValue = clusterSecretCheckValue(clusterSecret());
  t.ok(isClusterSecret(clusterSecret(), checkValue));
  t.notOk(isClusterSecret(new Uint8Array(32), checkValue));
  t.notOk(isClusterSecret(new Uint8Array(31).fill(7), checkValue));
});

const credential = (sealedSecret: SealedBytes): Credential => ({
  ...owner,
  sealedSecret,
  createdAtMs: 0,
  revision: 1,
});

t.test('opened once, kept, dropped with its credential, wiped', async (t) => {
  const store = new SecretStore(random);
  t.notOk(store.available);
  t.equal(store.seal(owner, secretAccessKey), null, 'nothing is sealed without a cluster secret');
  store.install(clusterSecret());
  t.ok(store.available);
  const sealed = store.seal(owner, secretAccessKey);
  if (sealed === null) throw new Error('not sealed');
  const opened = store.secretOf(credential(sealed));
  t.strictSame(Buffer.from(opened ?? []), secretAccessKey);
  t.equal(store.secretOf(credential({ ...sealed })), opened, 'the same bytes for the same sealed secret');

  const resealed = store.seal(owner, Buffer.from('another secret'));
  if (resealed === null) throw new Error('not sealed');
  t.equal(Buffer.from(store.secretOf(credential(resealed)) ?? []).toString(), 'another secret');
  t.ok(
    opened?.every((byte) => byte === 0),
    'the former one is wiped',
  );

  const again = store.secretOf(credential(sealed));
  t.strictSame(store.retain(new KeyState()), [owner.accessKeyId], 'key state has it no more');
  t.ok(again?.every((byte) => byte === 0));

  const last = store.secretOf(credential(sealed));
  store.wipe();
  t.ok(last?.every((byte) => byte === 0));
  t.notOk(store.available);
  t.equal(store.secretOf(credential(sealed)), null);
});

async function wrappedBy(crypto: SoftwareCrypto, serial: string, secret: Uint8Array): Promise<PreparedToken> {
  const wrappingKey = { objectId: objectId(crypto.add('0a')), witness: null };
  const wrap = await wrapClusterSecret(crypto, wrappingKey, serial, secret, 1_000);
  if (!wrap.ok) throw new Error('not wrapped');
  const witness = { nonce: new Uint8Array(12), ciphertext: new Uint8Array(32), tag: new Uint8Array(16) };
  return {
    serial,
    label: 'soft',
    testKey: { objectId: '0b', witness },
    wrappingKey: { objectId: '0a', witness },
    wrappedSecret: wrap.value.wrapped,
    secretCheckValue: Buffer.from(wrap.value.checkValue).toString('hex'),
  };
}

t.test('the token unwraps what it wrapped', async (t) => {
  const crypto = new SoftwareCrypto();
  const token = await wrappedBy(crypto, 'serial', clusterSecret());
  t.ok(crypto.encrypts[0]?.verify);
  const unwrapped = await unwrapClusterSecret(crypto, token, 1_000);
  t.strictSame(unwrapped, { ok: true, value: Buffer.from(clusterSecret()) });
  t.strictSame(crypto.decrypts[0]?.key, preparedKeyObject(token.wrappingKey));
});

t.test('wrapped for another serial, or with another check value: no secret, and no silence', async (t) => {
  const crypto = new SoftwareCrypto();
  const token = await wrappedBy(crypto, 'serial', clusterSecret());
  const elsewhere = await unwrapClusterSecret(crypto, { ...token, serial: 'another' }, 1_000);
  t.match(elsewhere, { ok: false, error: /did not unwrap the cluster secret: bad-ciphertext/ });
  const secretCheckValue = '00'.repeat(32);
  const unchecked = await unwrapClusterSecret(crypto, { ...token, secretCheckValue }, 1_000);
  t.match(unchecked, { ok: false, error: /its check value differs/ });
  crypto.failure = { kind: 'failed', rv: 'CKR_DEVICE_ERROR', functionName: 'C_DecryptInit' };
  const failed = await unwrapClusterSecret(crypto, token, 1_000);
  t.match(failed, { ok: false, error: /failed \(CKR_DEVICE_ERROR from C_DecryptInit\)/ });
});

t.test('X-E3: no XKS request can form the AAD of a wrapped secret, nor is it a witness’s', async (t) => {
  const aad = clusterSecretAad('s'.repeat(64));
  t.equal(Buffer.from(aad).readUInt16BE(0), 0xffff);
  t.ok(aad.byteLength < 0xffff + 3, 'shorter than its length field says');
  t.notSame(Buffer.from(aad), Buffer.from(witnessAad));
});
