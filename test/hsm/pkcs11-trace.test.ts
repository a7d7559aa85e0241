import { randomBytes } from 'node:crypto';
import { readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { loadNativeBinding } from '../../src/base/native.js';
import { systemTimers } from '../../src/base/timers.js';
import { Management } from '../../src/hsm/management.js';
import { Pin } from '../../src/hsm/pin.js';
import { type Pkcs11Trace, tracePkcs11Calls } from '../../src/hsm/pkcs11-trace.js';
import { CapturedLogger } from '../support/captured-logger.js';
import { encryption, farDeadline, importKnownKey, startPool } from '../support/crypto-pool-fixture.js';
import { logIn } from '../support/logged-in-token.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

const native = loadNativeBinding();
const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const softHsm = await makeSoftHsmToken(t);

t.strictSame(native.takePkcs11Trace(10), { calls: [], dropped: 0, unobservedModules: 0 });

const logger = new CapturedLogger();
/** Lines are taken when the test wants them. */
const trace: Pkcs11Trace = tracePkcs11Calls(native, { after: () => () => {} }, logger);
const token = logIn(t, softHsm);
const key = importKnownKey(token);
trace.flush();
logger.lines.length = 0;

interface TracedLine {
  readonly [name: string]: unknown;
}

/** The calls since the last time. */
function calls(): readonly TracedLine[] {
  trace.flush();
  return logger.lines.splice(0).flatMap(({ message, fields }) => (message === 'pkcs11 call' ? [fields] : []));
}

const namesOf = (lines: readonly TracedLine[]): readonly unknown[] => lines.map((line) => line['function']);

t.test('a module that was loaded before is offered to nobody, one that is not loaded neither', async (t) => {
  t.equal(native.offerTracedPkcs11Module('/nonexistent.so'), false);
});

t.test('every call of an operation has its line, with handles and lengths', async (t) => {
  const pool = await startPool(t, token, 1);
  t.match(calls(), [
    // The worker's reference to the module.
    { function: 'C_Initialize', rv: 'CKR_CRYPTOKI_ALREADY_INITIALIZED' },
    { function: 'C_OpenSession', slot: String(token.slotId), flags: '0x4', session: /^\d+$/, rv: 'CKR_OK' },
    { function: 'C_GetSessionInfo', state: 1, rv: 'CKR_OK' },
  ]);
  const operation = encryption(key.object, { plaintext: randomBytes(77), gcmAad: randomBytes(50) });
  const encrypted = await pool.encrypt(operation, farDeadline());
  if (!encrypted.ok) throw new Error(JSON.stringify(encrypted.error));
  const first = calls();
  t.strictSame(
    namesOf(first),
    [
      'C_FindObjectsInit',
      'C_FindObjects',
      'C_FindObjectsFinal',
      // The witness.
      'C_DecryptInit',
      'C_Decrypt',
      'C_GenerateRandom',
      'C_EncryptInit',
      'C_Encrypt',
      'C_DecryptInit',
      'C_Decrypt',
    ].toSpliced(2, 0, 'C_FindObjects'),
  );
  const { roundTrips } = pool.stats();
  t.equal(first.length, roundTrips, 'as many as were counted');
  const [init, encrypt] = first.slice(-4);
  t.match(init, {
    function: 'C_EncryptInit',
    session: /^\d+$/,
    mechanism: 'CKM_AES_GCM',
    ivBytes: 12,
    aadBytes: 50,
    object: /^\d+$/,
    rv: 'CKR_OK',
    us: Number,
    thread: Number,
    began: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/,
    module: realpathSync(softHsm.modulePath),
  });
  t.match(encrypt, { function: 'C_Encrypt', bytes: 77, outBytes: 93 });
  t.equal(new Set(first.map(({ session }) => session)).size, 1);

  const { ciphertext, iv } = encrypted.value;
  const wrong = { key: key.object, gcmAad: operation.gcmAad, ciphertext, iv, tag: randomBytes(16) };
  t.match(await pool.decrypt(wrong, farDeadline()), { ok: false, error: { kind: 'bad-ciphertext' } });
  t.match(
    calls().find((line) => line['function'] === 'C_Decrypt'),
    { bytes: 93, rv: /^CKR_(GENERAL_ERROR|ENCRYPTED_DATA_INVALID)$/, outBytes: undefined },
  );
});

t.test('management is traced as well, and nothing secret is in any line', async (t) => {
  const marker = Buffer.from(`a plaintext that nobody may see ${randomBytes(8).toString('hex')}`);
  const { modulePath, initArgs, pin } = softHsm;
  const management = new Management({ modulePath, initArgs, timers: systemTimers });
  t.teardown(() => management.close());
  const wanted = { label: softHsm.label, serial: null, manufacturer: null, model: null };
  const discovered = await management.discover(wanted);
  if (!discovered.ok) throw new Error(discovered.error.message);
  const { slotId } = discovered.value;
  t.match(await management.login(slotId, new Pin(pin), () => {}), { ok: true });
  t.match(await management.login(slotId, new Pin(`${pin}-wrong`), () => {}), { ok: true });
  const made = await management.generateKey(slotId, {
    objectId: randomBytes(16).toString('hex'),
    label: 'l',
  });
  t.equal(made.ok, true);
  t.match(await management.listObjects(slotId), { ok: true });
  const ofManagement = calls();
  const names = new Set(namesOf(ofManagement));
  for (const name of [
    'C_GetSlotList',
    'C_GetTokenInfo',
    'C_OpenSession',
    'C_Login',
    'C_FindObjectsInit',
    'C_GetAttributeValue',
    'C_GenerateKey',
  ]) {
    t.ok(names.has(name), name);
  }
  const login = ofManagement.find((line) => line['function'] === 'C_Login');
  t.strictSame(Object.keys(login ?? {}).sort(), [
    'began',
    'function',
    'module',
    'rv',
    'session',
    'thread',
    'us',
    'userType',
  ]);
  t.match(login, { rv: 'CKR_USER_ALREADY_LOGGED_IN', userType: 1 });
  t.match(
    ofManagement.find((line) => line['function'] === 'C_GenerateKey'),
    { mechanism: 'CKM_AES_KEY_GEN', object: /^\d+$/ },
  );

  const pool = await startPool(t, token, 1);
  const operation = encryption(key.object, { plaintext: marker, gcmAad: marker });
  const sealed = await pool.encrypt(operation, farDeadline());
  if (!sealed.ok) throw new Error(JSON.stringify(sealed.error));
  t.match(await pool.decrypt({ key: key.object, gcmAad: marker, ...sealed.value }, farDeadline()), {
    ok: true,
  });
  const all = [...ofManagement, ...calls()];
  for (const secret of [
    marker,
    Buffer.from(pin),
    Buffer.from(sealed.value.iv),
    Buffer.from(sealed.value.ciphertext),
    Buffer.from(sealed.value.tag),
  ]) {
    for (const encoding of ['latin1', 'base64', 'hex'] as const) {
      // A short number may be in a length or a time; as a value of its own it may not.
      const text = secret.toString(encoding).replace(/=+$/, '');
      t.notOk(
        all.some((line) =>
          Object.values(line).some(
            (value) => String(value).includes(text) && typeof value !== 'number' && value !== line['began'],
          ),
        ),
        `${encoding} of ${secret.byteLength} bytes`,
      );
    }
  }
});

t.test('a trace that nobody takes holds up no call: lines are dropped, and counted', async (t) => {
  const pool = await startPool(t, token, 2);
  calls();
  const before = pool.stats().roundTrips;
  for (let round = 0; round < 100; round++) {
    const encrypts = Array.from({ length: 30 }, () => pool.encrypt(encryption(key.object), farDeadline()));
    for (const encrypted of await Promise.all(encrypts)) if (!encrypted.ok) t.fail(encrypted.error.kind);
  }
  const made = pool.stats().roundTrips - before;
  trace.flush();
  const taken = logger.lines.filter(({ message }) => message === 'pkcs11 call').length;
  t.equal(taken, 8_192);
  t.ok(
    trace.dropped() >= made - taken && trace.dropped() < made - taken + 10,
    `${made} made, ${taken} taken`,
  );
  t.match(
    logger.lines.find(({ level }) => level === 'warn'),
    {
      message: /missing from the trace/,
      fields: { droppedCalls: trace.dropped() },
    },
  );
  const dropped = trace.dropped();
  calls();
  await pool.encrypt(encryption(key.object), farDeadline());
  t.equal(calls().length, 4, 'there is room again');
  t.equal(trace.dropped(), dropped);
});

t.test('every function that we call is wrapped', async (t) => {
  const read = (file: string): string => readFileSync(join(root, file), 'utf8');
  const wrapped = new Set(
    [...read('native/pkcs11_calls.cc').matchAll(/XKSD_WRAP\((\w+)\);/g)].map(([, name]) => name),
  );
  const called = [
    ...['pkcs11_module.cc', 'pkcs11_session.cc', 'pkcs11_pool.cc'].flatMap((file) => [
      ...read(`native/${file}`).matchAll(/functions(?:_|\(\))?(?:\.|->)C_(\w+)\(/g),
    ]),
    ...['management-worker.ts', 'pkcs11-session.ts'].flatMap((file) => [
      ...read(`src/hsm/${file}`).matchAll(/odule\??\.C_(\w+)\(/g),
    ]),
  ].map(([, name]) => name);
  t.ok(called.length > 20, `${called.length} calls found`);
  for (const name of new Set(called)) t.ok(wrapped.has(name), `C_${name}`);
});
