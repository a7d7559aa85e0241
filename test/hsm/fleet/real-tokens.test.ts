import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { systemClock } from '../../../src/base/clock.js';
import { silentLogger } from '../../../src/base/logger.js';
import { loadNativeBinding } from '../../../src/base/native.js';
import { systemRandom } from '../../../src/base/random.js';
import { systemTimers } from '../../../src/base/timers.js';
import { TokenFleet } from '../../../src/hsm/fleet/token-fleet.js';
import { parsePkcs11Uri } from '../../../src/hsm/pkcs11-uri.js';
import { createToken } from '../../../src/hsm/token.js';
import type { HsmRoute, KeyObject } from '../../../src/hsm/types.js';
import { witnessAad, witnessPlaintext } from '../../../src/hsm/witness.js';
import { encryption, farDeadline, seal, unseal } from '../../support/crypto-pool-fixture.js';
import { type FaultShim, makeFaultShim } from '../../support/fault-shim.js';
import { type LoggedInToken, logIn } from '../../support/logged-in-token.js';
import { makeNssToken } from '../../support/nss.js';
import { addSoftHsmToken, makeSoftHsmToken, type SoftHsmTestToken } from '../../support/softhsm.js';

/**
 * Two or three real tokens that hold the same keys: one as it is, the others each behind a module of its own that
 * fails as told. Whatever one of them does, the other answers, and nothing is called bad that is good.
 */
const well = await makeSoftHsmToken(t, { label: 'well' });
// Before anything initialises the module, which learns of tokens only then.
const second = await addSoftHsmToken(well, 'second', { ownModule: false });
const behindShim = await addSoftHsmToken(well, 'ill', { ownModule: true });
const shim = await makeFaultShim(t, behindShim.modulePath);
const ill = through(behindShim, shim);
const wellAccess = logIn(t, well);
const illAccess = logIn(t, ill);

function through(token: SoftHsmTestToken, { modulePath }: FaultShim): SoftHsmTestToken {
  return { ...token, modulePath, uri: token.uri.replace(token.modulePath, modulePath) };
}

interface SharedKey {
  readonly bytes: Buffer;
  readonly object: KeyObject;
}

/** The same bytes under the same CKA_ID on each of the tokens (C_CreateObject). */
function importKey(bytes: Buffer, ...tokens: readonly LoggedInToken[]): SharedKey {
  const id = randomBytes(16).toString('hex');
  const [objectId] = tokens.map((token) => token.importKey(bytes, id));
  if (objectId === undefined) throw new Error('no token');
  return {
    bytes,
    object: { objectId, witness: seal(bytes, randomBytes(12), witnessAad, witnessPlaintext) },
  };
}

const sharedKey = (): SharedKey => importKey(randomBytes(32), wellAccess, illAccess);
const testKeys = new Map([
  [well.label, importKey(randomBytes(32), wellAccess)],
  [ill.label, importKey(randomBytes(32), illAccess)],
]);

async function openFleet(
  t: Test,
  ...hsms: readonly (Pick<SoftHsmTestToken, 'uri' | 'label'> & { readonly initArgs: string })[]
): Promise<TokenFleet> {
  const surroundings = {
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    logger: silentLogger,
  };
  const tokens = hsms.map((hsm) => {
    const parsed = parsePkcs11Uri(hsm.uri);
    if (!parsed.ok) throw new Error(parsed.error);
    const token = createToken({
      ...surroundings,
      uri: parsed.value.uri,
      initArgs: hsm.initArgs,
      profile: 'auto',
      workers: 1,
      sessionsMax: 4,
      dataDir: t.testdir(),
      credentialsDirectory: null,
      tryLockFile: (fd) => loadNativeBinding().tryLockFile(fd),
    });
    token.setTestKey(testKeys.get(hsm.label)?.object ?? null);
    return token;
  });
  const fleet = new TokenFleet({ ...surroundings, tokens });
  t.teardown(() => fleet.close());
  await fleet.firstAttempt;
  return fleet;
}

/** An encrypt, checked by another implementation, and the decrypt of what that made. */
async function roundTrip(fleet: TokenFleet, key: SharedKey, route?: HsmRoute): Promise<string> {
  const operation = encryption(key.object);
  const sealed = await fleet.crypto.encrypt(operation, farDeadline(), route);
  if (!sealed.ok) return `encrypt: ${sealed.error.kind}`;
  const plain = unseal(key.bytes, sealed.value, operation.gcmAad);
  if (!plain.equals(operation.plaintext)) return 'encrypt: wrong';
  const opened = await fleet.crypto.decrypt(
    { key: key.object, gcmAad: operation.gcmAad, ...sealed.value },
    farDeadline(),
  );
  if (!opened.ok) return `decrypt: ${opened.error.kind}`;
  return Buffer.from(opened.value).equals(operation.plaintext) ? 'right' : 'decrypt: wrong';
}

async function outcomes(fleet: TokenFleet, key: SharedKey, rounds: number): Promise<Set<string>> {
  const all = new Set<string>();
  for (let round = 0; round < rounds; round++) {
    const some = await Promise.all(Array.from({ length: 8 }, () => roundTrip(fleet, key)));
    for (const outcome of some) all.add(outcome);
  }
  return all;
}

const right = new Set(['right']);
const statsOf = (fleet: TokenFleet, token: SoftHsmTestToken) =>
  fleet.stats().find(({ hsm }) => hsm === token.serial);

for (const [fault, rules] of [
  ['every call CKR_DEVICE_ERROR', ['* fail 0x30']],
  ['every call CKR_GENERAL_ERROR', ['* fail 0x5']],
  ['every call CKR_HOST_MEMORY', ['* fail 0x2']],
  ['every session gone', ['* fail 0xb3']],
  ['nobody logged in', ['C_EncryptInit fail 0x101', 'C_DecryptInit fail 0x101']],
  ['a flipped bit in every ciphertext', ['C_Encrypt flip']],
  ['a few calls CKR_GENERAL_ERROR', ['C_Encrypt fail 0x5 -1 30', 'C_Decrypt fail 0x5 -1 100']],
] as const) {
  t.test(`${fault}: no request fails, and none is answered wrongly`, async (t) => {
    t.teardown(() => shim.setFaults());
    const fleet = await openFleet(t, well, ill);
    const key = sharedKey();
    t.strictSame(await outcomes(fleet, key, 5), right, 'before');
    shim.setFaults(...rules);
    t.strictSame(await outcomes(fleet, key, 40), right, 'during');
    t.strictNotSame(statsOf(fleet, ill)?.failures, {}, 'the ill one was asked, and failed');
    shim.setFaults();
    t.strictSame(await outcomes(fleet, key, 5), right, 'after');
  });
}

t.test('every call hangs: no request fails', async (t) => {
  const fleet = await openFleet(t, well, ill);
  const key = sharedKey();
  t.strictSame(await outcomes(fleet, key, 5), right, 'before');
  shim.setFaults('C_Encrypt hang', 'C_Decrypt hang');
  t.strictSame(await outcomes(fleet, key, 20), right, 'during');
  const hung = statsOf(fleet, ill)?.outstanding ?? 0;
  t.ok(hung > 0, 'the ill one was asked');
  shim.setFaults();
  shim.releaseAll();
  t.strictSame(await outcomes(fleet, key, 5), right, 'after');
});

t.test('a key deleted on one token: the other serves it', async (t) => {
  const fleet = await openFleet(t, well, ill);
  const key = sharedKey();
  const other = sharedKey();
  illAccess.destroyKeys(key.object.objectId);
  t.strictSame(await outcomes(fleet, key, 10), right);
  const lost = statsOf(fleet, ill)?.failures['key-lost'] ?? 0;
  t.ok(lost > 0 && lost <= 8, `found missing by ${lost} operations, those that were under way at once`);
  t.strictSame(await outcomes(fleet, other, 5), right);
  t.notOk(statsOf(fleet, ill)?.breakerIsOpen, 'its other keys are served by both');
});

t.test('X-X2: what no token can open is bad ciphertext, by the word of two', async (t) => {
  const fleet = await openFleet(t, well, ill);
  const key = sharedKey();
  const operation = encryption(key.object);
  const sealed = seal(key.bytes, randomBytes(12), operation.gcmAad, operation.plaintext);
  const bad = { key: key.object, gcmAad: operation.gcmAad, ...sealed, tag: randomBytes(16) };
  for (let index = 0; index < 20; index++) {
    t.match(await fleet.crypto.decrypt(bad, farDeadline()), { ok: false, error: { kind: 'bad-ciphertext' } });
  }
  t.notOk(
    fleet.stats().some(({ breakerIsOpen }) => breakerIsOpen),
    'a caller trips no breaker',
  );
  // On a busy machine the other token is asked before the first has answered.
  const second = (token: typeof ill): number => {
    const { retries = 0, hedges = 0 } = statsOf(fleet, token) ?? {};
    return retries + hedges;
  };
  t.equal(second(ill) + second(well), 20);
});

t.test(
  'key-consistency gate: a token with other bytes behind the CKA_ID never encrypts for the key',
  async (t) => {
    const foreign = await addSoftHsmToken(well, 'foreign', { ownModule: true });
    const foreignAccess = logIn(t, foreign);
    testKeys.set(foreign.label, importKey(randomBytes(32), foreignAccess));
    const key = sharedKey();
    foreignAccess.importKey(randomBytes(32), key.object.objectId);
    const fleet = await openFleet(t, well, ill, foreign);
    const answered = new Set<string | null>();
    for (let index = 0; index < 60; index++) {
      const route: HsmRoute = { hsm: null, askedFirst: null };
      t.equal(await roundTrip(fleet, key, route), 'right');
      answered.add(route.hsm);
    }
    t.strictSame(answered, new Set([well.serial, ill.serial]), 'both that hold the key, and no other');
    t.equal(statsOf(fleet, foreign)?.failures['key-lost'], 1);
    // What one encrypts the other decrypts: each pair has served encrypts and decrypts of the other's making.
    const [one, two] = [well, ill].map((token) => statsOf(fleet, token)?.failures);
    t.strictSame([one, two], [{}, {}]);
  },
);

t.test('two tokens of one module serve together', async (t) => {
  const secondAccess = logIn(t, second);
  const key = importKey(randomBytes(32), wellAccess, secondAccess);
  testKeys.set(second.label, importKey(randomBytes(32), secondAccess));
  const fleet = await openFleet(t, well, second);
  t.strictSame(await outcomes(fleet, key, 10), right);
  t.equal(fleet.status().length, 2);
  wellAccess.destroyKeys(key.object.objectId);
  t.strictSame(await outcomes(fleet, key, 10), right);
});

t.test(
  'two vendors: what either encrypts the other decrypts, and bad ciphertext is bad to both',
  async (t) => {
    const nss = await makeNssToken(t);
    const nssAccess = logIn(t, nss);
    const key = importKey(randomBytes(32), wellAccess, nssAccess);
    testKeys.set(nss.label, importKey(randomBytes(32), nssAccess));
    const fleet = await openFleet(t, well, nss);
    const answered = new Set<string | null>();
    for (let index = 0; index < 40; index++) {
      const route: HsmRoute = { hsm: null, askedFirst: null };
      t.equal(await roundTrip(fleet, key, route), 'right');
      answered.add(route.hsm);
      // They take turns: after one more, what encrypted last time decrypts this time.
      if (index % 2 === 1) await fleet.crypto.encrypt(encryption(key.object), farDeadline());
    }
    t.equal(answered.size, 2);
    const operation = encryption(key.object);
    const sealed = seal(key.bytes, randomBytes(12), operation.gcmAad, operation.plaintext);
    const bad = { key: key.object, gcmAad: operation.gcmAad, ...sealed, tag: randomBytes(16) };
    for (let index = 0; index < 4; index++) {
      t.match(await fleet.crypto.decrypt(bad, farDeadline()), {
        ok: false,
        error: { kind: 'bad-ciphertext' },
      });
    }
    wellAccess.destroyKeys(key.object.objectId);
    t.strictSame(await outcomes(fleet, key, 10), right);
  },
);
