import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import pkcs11js from 'pkcs11js';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/base/clock.js';
import type { CryptoPool } from '../../src/hsm/crypto-pool.js';
import {
  encryption,
  farDeadline,
  importKnownKey,
  startPool,
  unseal,
} from '../support/crypto-pool-fixture.js';
import { logIn } from '../support/logged-in-token.js';
import { makeNetworkHsm } from '../support/network-hsm.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

/** The crypto pool over an HSM whose other half can be stopped, killed and started again. */

const run = promisify(execFile);
const softHsm = await makeSoftHsmToken(t);
const hsm = await makeNetworkHsm(t, { modulePath: softHsm.modulePath, env: softHsm.env });
const token = logIn(t, { ...softHsm, modulePath: hsm.modulePath });
const key = importKnownKey(token);

async function encryptsRightly(t: Test, pool: CryptoPool, message: string): Promise<void> {
  const operation = encryption(key.object);
  const sealed = await pool.encrypt(operation, farDeadline());
  const back = sealed.ok ? unseal(key.bytes, sealed.value, operation.gcmAad) : sealed.error;
  t.strictSame(back, operation.plaintext, message);
}

const inMs = (ms: number): number => systemClock.monotonicMs() + ms;

for (const sessions of [1, 4]) {
  t.test(`${sessions} session(s): cryptography over the network`, async (t) => {
    const pool = await startPool(t, token, sessions);
    for (let round = 0; round < 4; round++)
      await Promise.all(Array.from({ length: 16 }, () => encryptsRightly(t, pool, 'encrypts')));
    const gcmAad = randomBytes(20);
    const sealed = await pool.encrypt({ ...encryption(key.object), gcmAad }, farDeadline());
    if (!sealed.ok) throw new Error(`no encrypt: ${JSON.stringify(sealed.error)}`);
    const decryption = { key: key.object, gcmAad, ...sealed.value };
    t.match(await pool.decrypt(decryption, farDeadline()), { ok: true });
    t.match(await pool.decrypt({ ...decryption, tag: randomBytes(16) }, farDeadline()), {
      error: { kind: 'bad-ciphertext' },
    });
  });

  t.test(`${sessions} session(s): a server that is stopped is answered at the deadline`, async (t) => {
    const pool = await startPool(t, token, sessions);
    await encryptsRightly(t, pool, 'before');
    hsm.pause();
    const answers = Array.from({ length: sessions }, () => pool.encrypt(encryption(key.object), inMs(100)));
    const kinds = (await Promise.all(answers)).map((answer) => (answer.ok ? 'ok' : answer.error.kind));
    t.ok(kinds.includes('deadline'));
    // Where the one before happened to take long, it is told at once that it will not be done.
    t.strictSame(
      kinds.filter((kind) => !/^(deadline|overloaded)$/.test(kind)),
      [],
    );
    hsm.resume();
    while (pool.stats().stuckCells > 0) await new Promise((resolve) => setImmediate(resolve));
    await encryptsRightly(t, pool, 'after');
  });

  t.test(`${sessions} session(s): a server that is killed and back wants another login`, async (t) => {
    const lost: string[] = [];
    const pool = await startPool(t, token, sessions, (rv) => lost.push(rv));
    await encryptsRightly(t, pool, 'before');
    await hsm.kill();
    t.match(await pool.encrypt(encryption(key.object), farDeadline()), {
      error: { kind: 'token-unavailable', rv: 'CKR_DEVICE_ERROR' },
    });
    await hsm.start();
    t.match(await pool.encrypt(encryption(key.object), farDeadline()), {
      error: { kind: 'token-unavailable', rv: 'CKR_USER_NOT_LOGGED_IN' },
    });
    t.strictSame(lost, ['CKR_USER_NOT_LOGGED_IN']);
    token.logIn();
    t.match(await pool.resume(), { ok: true });
    await encryptsRightly(t, pool, 'after');
  });
}

t.test('another application’s login and end are no concern of ours', async (t) => {
  const pool = await startPool(t, token, 1);
  await encryptsRightly(t, pool, 'before');
  const { stdout } = await run('pkcs11-tool', [
    ...['--module', hsm.modulePath, '--token-label', softHsm.label],
    ...['--login', '--pin', softHsm.pin, '--list-objects', '--type', 'secrkey'],
  ]);
  t.match(stdout, /AES length 32/);
  await encryptsRightly(t, pool, 'after');
});

t.test('a client that takes up with its server in C_Initialize only', async (t) => {
  const other = await makeNetworkHsm(t, {
    modulePath: softHsm.modulePath,
    env: softHsm.env,
    goneRv: 0x32,
    recovery: 'initialize',
  });
  const module = new pkcs11js.PKCS11();
  module.load(other.modulePath);
  module.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK });
  t.teardown(() => module.C_Finalize());
  const slots = module.C_GetSlotList(true).length;
  await other.kill();
  t.throws(() => module.C_GetSlotList(true), /CKR_DEVICE_REMOVED/);
  await other.start();
  t.throws(() => module.C_GetSlotList(true), /CKR_DEVICE_REMOVED/);
  module.C_Finalize();
  module.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK });
  t.equal(module.C_GetSlotList(true).length, slots);
});
