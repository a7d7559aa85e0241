import { spawnSync } from 'node:child_process';
import { createDecipheriv, randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import pkcs11js from 'pkcs11js';
import t from 'tap';
import { loadNativeBinding } from '../../src/base/native.js';
import { makeFaultShim } from '../support/fault-shim.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

/** The shim itself: that it does what fault-rules.h and iv-modes.h say, and nothing else. */

/** PKCS#11 v2.40 §3.2, CK_SLOT_INFO. */
const ckfTokenPresent = 1;

const softHsm = await makeSoftHsmToken(t);
const shim = await makeFaultShim(t, softHsm.modulePath);
t.equal(loadNativeBinding().loadPkcs11Module(shim.modulePath, '').rv, 'CKR_OK');
const module = new pkcs11js.PKCS11();
module.load(shim.modulePath);
t.afterEach(() => shim.setFaults());

const findSlot = () =>
  module.C_GetSlotList(true).find((one) => module.C_GetTokenInfo(one).label.trim() === softHsm.label);
const slot = findSlot() ?? Buffer.alloc(8);

function openSession(): pkcs11js.Handle {
  const session = module.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
  if (module.C_GetSessionInfo(session).state !== 3) module.C_Login(session, pkcs11js.CKU_USER, softHsm.pin);
  return session;
}

const keyBytes = randomBytes(32);
function createKey(id: string, label: string): void {
  module.C_CreateObject(session, [
    { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
    { type: pkcs11js.CKA_KEY_TYPE, value: pkcs11js.CKK_AES },
    { type: pkcs11js.CKA_TOKEN, value: true },
    { type: pkcs11js.CKA_ENCRYPT, value: true },
    { type: pkcs11js.CKA_DECRYPT, value: true },
    { type: pkcs11js.CKA_ID, value: Buffer.from(id, 'hex') },
    { type: pkcs11js.CKA_LABEL, value: label },
    { type: pkcs11js.CKA_VALUE, value: keyBytes },
  ]);
}

let session = openSession();
const [customerKey, testKey] = ['a1a1', 'b2b2'];
createKey(customerKey, 'customer');
createKey(testKey, 'test-key');

/** Anew each time: handles go with the login. */
function find(id: string): pkcs11js.Handle {
  module.C_FindObjectsInit(session, [{ type: pkcs11js.CKA_ID, value: Buffer.from(id, 'hex') }]);
  const [found] = module.C_FindObjects(session, 1);
  module.C_FindObjectsFinal(session);
  return found ?? Buffer.alloc(8);
}

interface Gcm {
  readonly iv?: Buffer;
  readonly ivBits?: number;
}

const gcmMechanism = (iv: Buffer, ivBits = iv.length * 8) => ({
  mechanism: pkcs11js.CKM_AES_GCM,
  parameter: { type: pkcs11js.CK_PARAMS_GCM, iv, ivBits, aad: Buffer.from('aad'), tagBits: 128 },
});

function encrypt(
  plaintext: Buffer,
  { iv = randomBytes(12), ivBits = iv.length * 8 }: Gcm = {},
  under = customerKey,
) {
  module.C_EncryptInit(session, gcmMechanism(iv, ivBits), find(under));
  return Buffer.from(module.C_Encrypt(session, plaintext, Buffer.alloc(plaintext.length + 40)));
}

/** By another implementation; throws where the tag is wrong. */
function unseal(iv: Buffer, sealed: Buffer): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', keyBytes, iv).setAAD(Buffer.from('aad'));
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
}

const random = () => module.C_GenerateRandom(session, Buffer.alloc(4));

t.test('a delay comes before the call and lets the rules after it hold', async (t) => {
  shim.setFaults('* delay 40', 'C_GenerateRandom fail 0x30');
  const startMs = performance.now();
  t.throws(random, /CKR_DEVICE_ERROR/);
  t.ok(performance.now() - startMs >= 40);
});

t.test('a share of the calls fails, TIMES ends it, EVERY spreads it', async (t) => {
  const failures = (calls: number): number => {
    let failed = 0;
    for (let call = 0; call < calls; call++) {
      try {
        random();
      } catch {
        failed += 1;
      }
    }
    return failed;
  };
  shim.setFaults('C_GenerateRandom fail 0x5 10%');
  const drawn = failures(2_000);
  // Six standard deviations around 200.
  t.ok(drawn > 120 && drawn < 280, `${drawn} of 2,000`);
  shim.setFaults('C_GenerateRandom fail 0x5 0%');
  t.equal(failures(200), 0);
  shim.setFaults('C_GenerateRandom fail 0x5 100% 3');
  t.equal(failures(200), 3);
  shim.setFaults('C_GenerateRandom fail 0x5 3');
  t.equal(failures(200), 3);
  shim.setFaults('C_GenerateRandom fail 0x5 -1 100');
  t.equal(failures(250), 2);
});

t.test('a rule for one object leaves the others, and calls about none, alone', async (t) => {
  for (const condition of ['id=a1a1', 'label=customer']) {
    shim.setFaults(`* fail 0x5 ${condition}`);
    t.throws(() => encrypt(Buffer.from('x')), /CKR_GENERAL_ERROR/, condition);
    t.equal(encrypt(Buffer.from('x'), {}, testKey).length, 17);
    random();
    shim.setFaults(`C_Encrypt fail 0x5 ${condition}`);
    t.throws(() => encrypt(Buffer.from('x')), /CKR_GENERAL_ERROR/, condition);
    t.equal(encrypt(Buffer.from('x'), {}, testKey).length, 17);
  }
});

t.test('a rule for another process does nothing here; one for this does', async (t) => {
  shim.setFaults(`C_GenerateRandom fail 0x5 pid=${process.ppid}`);
  random();
  shim.setFaults(`C_GenerateRandom fail 0x5 pid=${process.pid}`);
  t.throws(random, /CKR_GENERAL_ERROR/);
});

t.test('a signal ends the process in the call', async (t) => {
  for (const [number, name] of [
    [11, 'SIGSEGV'],
    [6, 'SIGABRT'],
  ] as const) {
    shim.setFaults(`C_GetSlotList signal ${number}`);
    const ended = spawnSync('pkcs11-tool', ['--module', shim.modulePath, '--list-slots'], {
      env: { ...process.env, ...softHsm.env },
    });
    t.equal(ended.signal, name);
  }
});

t.test('sessions closed or logged out under us', async (t) => {
  shim.setFaults('C_GenerateRandom close-sessions - 1');
  t.throws(random, /CKR_SESSION_HANDLE_INVALID/);
  session = openSession();
  random();
  shim.setFaults('C_GenerateRandom logout - 1');
  random();
  t.equal(module.C_GetSessionInfo(session).state, 2, 'a public session');
  module.C_Login(session, pkcs11js.CKU_USER, softHsm.pin);
});

t.test('a token removed and reinserted', async (t) => {
  shim.setFaults('token removed');
  t.strictSame(module.C_GetSlotList(true), []);
  t.ok(module.C_GetSlotList(false).length > 0);
  t.equal(module.C_GetSlotInfo(slot).flags & ckfTokenPresent, 0);
  t.throws(() => module.C_GetTokenInfo(slot), /CKR_TOKEN_NOT_PRESENT/);
  t.throws(() => module.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION), /CKR_TOKEN_NOT_PRESENT/);
  t.throws(random, /CKR_DEVICE_REMOVED/);
  shim.setFaults();
  t.throws(random, /CKR_SESSION_HANDLE_INVALID/, 'its sessions went with it');
  t.strictSame(findSlot(), slot);
  session = openSession();
  random();
});

t.test('IVs that the module makes', async (t) => {
  const plaintext = randomBytes(20);
  const zero = (): Buffer => Buffer.alloc(12);

  shim.setFaults('iv append');
  const short = encrypt(plaintext, { iv: Buffer.alloc(0), ivBits: 96 });
  t.equal(short.length, 20 + 16 + 12);
  t.strictSame(unseal(short.subarray(-12), short.subarray(0, -12)), plaintext);
  const long = encrypt(plaintext);
  t.equal(long.length, 20 + 16 + 16, 'a caller’s IV is ignored');
  t.strictSame(unseal(long.subarray(-16), long.subarray(0, -16)), plaintext);

  shim.setFaults('iv in-place');
  const place = zero();
  const sealed = encrypt(plaintext, { iv: place });
  t.notSame(place, zero());
  t.strictSame(unseal(place, sealed), plaintext);
  t.throws(() => encrypt(plaintext), /CKR_MECHANISM_PARAM_INVALID/, 'a caller’s IV is refused');

  shim.setFaults('iv zero-in');
  const asked = zero();
  module.C_EncryptInit(session, gcmMechanism(asked), find(customerKey));
  t.notSame(asked, zero(), 'the IV is there before C_Encrypt');
  t.strictSame(unseal(asked, module.C_Encrypt(session, plaintext, Buffer.alloc(60))), plaintext);
  const own = randomBytes(12);
  t.strictSame(unseal(own, encrypt(plaintext, { iv: own })), plaintext, 'a caller’s IV is used');

  shim.setFaults('iv stays-zero');
  const untouched = zero();
  const broken = encrypt(plaintext, { iv: untouched });
  t.strictSame(untouched, zero());
  t.strictSame(unseal(zero(), broken), plaintext);
});
