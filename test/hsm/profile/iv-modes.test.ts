import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import type { GcmForm } from '../../../src/hsm/profile/gcm-form.js';
import {
  encryption,
  farDeadline,
  importKnownKey,
  seal,
  startPool,
  unseal,
} from '../../support/crypto-pool-fixture.js';
import { makeFaultShim } from '../../support/fault-shim.js';
import { logIn } from '../../support/logged-in-token.js';
import { makeNssToken } from '../../support/nss.js';
import { makeSoftHsmToken } from '../../support/softhsm.js';

/** HSMs that make the IV themselves, imitated by the fault shim, through a session pool. */

const softHsm = await makeSoftHsmToken(t);
const shim = await makeFaultShim(t, softHsm.modulePath);
const token = logIn(t, { ...softHsm, modulePath: shim.modulePath });
const key = importKnownKey(token);
t.afterEach(() => shim.setFaults());

const inPlace: GcmForm = { ivSource: 'in-place', layout: 'with-iv-bits' };
const appended: GcmForm = { ivSource: 'appended', layout: 'with-iv-bits' };
const old: GcmForm = { ivSource: 'caller', layout: 'without-iv-bits' };

async function poolIn(t: Test, form: GcmForm, onUnsafeIv?: () => void) {
  const pool = await startPool(t, token, 1, undefined, 1, onUnsafeIv);
  pool.setProfile({ form, badTagCodes: null });
  return pool;
}

for (const [name, form, rules] of [
  ['appended after the tag (Luna)', appended, ['iv append']],
  ['written back after C_Encrypt (CloudHSM)', inPlace, ['iv in-place']],
  ['written back by C_EncryptInit (nShield)', inPlace, ['iv zero-in']],
  ['the caller’s, parameters without ulIvBits', old, ['parameters without-iv-bits']],
  [
    'written back, parameters without ulIvBits',
    { ivSource: 'in-place', layout: 'without-iv-bits' },
    ['iv in-place', 'parameters without-iv-bits'],
  ],
] as const) {
  t.test(`${name}: encrypts, verifies, decrypts`, async (t) => {
    shim.setFaults(...rules);
    const pool = await poolIn(t, form);
    const ivs = new Set<string>();
    for (const bytes of [0, 1, 32, 5_000]) {
      const operation = encryption(key.object, { plaintext: randomBytes(bytes) });
      const sealed = await pool.encrypt(operation, farDeadline());
      if (!sealed.ok) throw new Error(JSON.stringify(sealed.error));
      const { iv, ciphertext, tag } = sealed.value;
      t.equal(iv.length, 12);
      ivs.add(Buffer.from(iv).toString('hex'));
      t.strictSame(unseal(key.bytes, sealed.value, operation.gcmAad), operation.plaintext);
      const { gcmAad } = operation;
      const opened = await pool.decrypt({ key: key.object, iv, ciphertext, tag, gcmAad }, farDeadline());
      t.same(opened, { ok: true, value: operation.plaintext });
    }
    t.equal(ivs.size, 4);
  });
}

t.test('NSS softoken takes parameters in either layout', async (t) => {
  const nss = logIn(t, await makeNssToken(t));
  const { object } = importKnownKey(nss);
  const pool = await startPool(t, nss, 1);
  for (const layout of ['with-iv-bits', 'without-iv-bits'] as const) {
    pool.setProfile({ form: { ivSource: 'caller', layout }, badTagCodes: null });
    t.match(await pool.encrypt(encryption(object), farDeadline()), { ok: true }, layout);
  }
});

t.test('an IV that stays zero: no ciphertext, whether or not it would be verified', async (t) => {
  let told = 0;
  const pool = await poolIn(t, inPlace, () => {
    told += 1;
  });
  shim.setFaults('iv stays-zero');
  for (const verify of [true, false]) {
    const answer = await pool.encrypt(encryption(key.object, { verify }), farDeadline());
    t.match(answer, { ok: false, error: { kind: 'unsafe-iv', rv: null, functionName: 'C_Encrypt' } });
  }
  t.equal(told, 2);
});

t.test('a module that makes its own IV where it was given one: no ciphertext', async (t) => {
  // In place of ours, as old client libraries of CloudHSM do it.
  let told = 0;
  const pool = await poolIn(t, { ivSource: 'caller', layout: 'with-iv-bits' }, () => {
    told += 1;
  });
  shim.setFaults('iv replaces');
  t.match(await pool.encrypt(encryption(key.object), farDeadline()), { error: { kind: 'unsafe-iv' } });
  t.equal(told, 1);
  // After the tag: another length than anybody asked for.
  shim.setFaults('iv append');
  t.match(await pool.encrypt(encryption(key.object), farDeadline()), {
    ok: false,
    error: { kind: 'failed' },
  });
});

t.test('X-X2: a profile takes codes away from what may be a bad ciphertext, and adds none', async (t) => {
  const pool = await startPool(t, token, 1);
  const form: GcmForm = { ivSource: 'caller', layout: 'with-iv-bits' };
  const gcmAad = randomBytes(40);
  const good = { key: key.object, gcmAad, ...seal(key.bytes, randomBytes(12), gcmAad, randomBytes(32)) };
  const bad = { ...good, tag: randomBytes(16) };
  const kindOf = async (operation: typeof good): Promise<string> => {
    const answer = await pool.decrypt(operation, farDeadline());
    return answer.ok ? 'ok' : answer.error.kind;
  };
  t.equal(await kindOf(bad), 'bad-ciphertext', 'SoftHSM2 2.6 says CKR_GENERAL_ERROR');
  pool.setProfile({ form, badTagCodes: new Set(['CKR_GENERAL_ERROR']) });
  t.equal(await kindOf(bad), 'bad-ciphertext');
  pool.setProfile({ form, badTagCodes: new Set(['CKR_ENCRYPTED_DATA_INVALID']) });
  t.equal(await kindOf(bad), 'failed');
  t.equal(await kindOf(good), 'ok');
  // An error that passes costs nobody anything: the second try of an ambiguous code is as it was.
  shim.setFaults('C_Decrypt fail 0x5 1');
  t.equal(await kindOf(good), 'ok');
  // What the table calls no ciphertext's fault stays so, whatever a profile says.
  pool.setProfile({ form, badTagCodes: new Set(['CKR_DEVICE_ERROR', 'CKR_DATA_INVALID']) });
  shim.setFaults('C_Decrypt fail 0x30');
  t.equal(await kindOf(bad), 'token-unavailable');
});
