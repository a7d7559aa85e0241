import { randomBytes } from 'node:crypto';
import type { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import { type Clock, systemClock } from '../../src/base/clock.js';
import type { CryptoPool } from '../../src/hsm/crypto-pool.js';
import { checkTestKey } from '../../src/hsm/health-check.js';
import type { DecryptOperation, KeyObject, Witness } from '../../src/hsm/types.js';
import {
  encryption,
  farDeadline,
  importKnownKey,
  type KnownKey,
  seal,
  startPool,
  unseal,
} from '../support/crypto-pool-fixture.js';
import { makeFaultShim } from '../support/fault-shim.js';
import { logIn } from '../support/logged-in-token.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

const softHsm = await makeSoftHsmToken(t);
const shim = await makeFaultShim(t, softHsm.modulePath);
const token = logIn(t, { ...softHsm, modulePath: shim.modulePath });
const key = importKnownKey(token);
const otherKey = importKnownKey(token);
t.afterEach(() => shim.setFaults());

/** What was never begun: its last sweep may see that the time that is left is too short. */
const lateKinds = /^(deadline|overloaded)$/;

/** So long a busy machine may take until a call hangs that is to be given up on. */
const hangMs = 2_000;
const inMs = (ms: number): number => systemClock.monotonicMs() + ms;

function decryption(of: KnownKey, plaintext: Uint8Array): DecryptOperation {
  const gcmAad = randomBytes(30);
  return { key: of.object, gcmAad, ...seal(of.bytes, randomBytes(12), gcmAad, plaintext) };
}

/** Waits until no call is out any more. */
async function untilNothingIsStuck(pool: CryptoPool): Promise<void> {
  while (pool.stats().stuckCells > 0) await new Promise((resolve) => setImmediate(resolve));
}

/** Enough operations at once to take every cell that was used lately, and to let the pool learn what one costs. */
async function manyEncryptRightly(
  t: Test,
  pool: CryptoPool,
  message: string,
  under: KnownKey = key,
): Promise<void> {
  for (let round = 0; round < 4; round++) {
    await Promise.all(Array.from({ length: 30 }, () => encryptsRightly(t, pool, message, under)));
  }
}

/** `'under another key'` where another key made it. */
function unsealed(under: KnownKey, sealed: Witness, gcmAad: Uint8Array): Buffer | string {
  try {
    return unseal(under.bytes, sealed, gcmAad);
  } catch {
    return 'under another key';
  }
}

async function encryptsRightly(t: Test, pool: CryptoPool, message: string, under = key): Promise<void> {
  const operation = encryption(under.object);
  const sealed = await pool.encrypt(operation, farDeadline());
  const back = sealed.ok ? unsealed(under, sealed.value, operation.gcmAad) : null;
  t.strictSame(
    { failure: sealed.ok ? null : sealed.error, back },
    { failure: null, back: operation.plaintext },
    message,
  );
}

t.test('an operation is watched as closely while an abandoned call is out', async (t) => {
  const pool = await startPool(t, token, 2);
  await encryptsRightly(t, pool, 'before');
  shim.setFaults('C_Encrypt hang');
  t.match(await pool.encrypt(encryption(key.object), inMs(hangMs)), { error: { kind: 'deadline' } });
  t.equal(pool.stats().stuckCells, 1);
  // Abandoned calls alone are looked for every 50 ms. Timers fire in the order in which they are due.
  const answered = pool.encrypt(encryption(key.object), inMs(10)).then(() => 'answered');
  const tooLate = new Promise((resolve) => setTimeout(resolve, 35, 'too late'));
  t.equal(await Promise.race([answered, tooLate]), 'answered');
  shim.setFaults();
  shim.releaseAll();
  await untilNothingIsStuck(pool);
});

for (const sessions of [1, 4]) {
  t.test(
    `${sessions} session(s): a call that hangs is answered at its deadline, and nobody sees what it returns`,
    async (t) => {
      const pool = await startPool(t, token, sessions);
      await encryptsRightly(t, pool, 'before');
      const secret = Buffer.alloc(32, 'tenant A');
      shim.setFaults('C_Decrypt hang - 1');
      const hung = shim.nextHang();
      const answerToA = pool.decrypt(decryption(key, secret), inMs(hangMs));
      const call = await hung;
      t.equal(call.functionName, 'C_Decrypt');
      t.match(await answerToA, { ok: false, error: { kind: 'deadline' } });
      t.equal(pool.stats().stuckCells, 1, 'the cell stays with the call');
      t.equal(pool.stats().inFlight, 0);

      const tenantB = async () => {
        const plaintext = randomBytes(32);
        const answer = await pool.decrypt(decryption(otherKey, plaintext), farDeadline());
        if (!answer.ok) return answer.error.kind;
        return Buffer.from(answer.value).equals(plaintext) ? 'right' : 'WRONG';
      };
      const during = await Promise.all(Array.from({ length: 60 }, tenantB));
      // With one session the token is stuck; with more, the others go on.
      t.strictSame(new Set(during), new Set([sessions === 1 ? 'token-unavailable' : 'right']));

      call.release();
      await untilNothingIsStuck(pool);
      const after = await Promise.all(Array.from({ length: 60 }, tenantB));
      t.strictSame(new Set(after), new Set(['right']), 'tenant B gets what is tenant B’s');
      t.equal(pool.stats().cellsInUse, 0, 'the cell came back');
    },
  );

  t.test(
    `${sessions} session(s): what waits behind a hung call leaves at its own deadline and is never carried out`,
    async (t) => {
      const pool = await startPool(t, token, sessions);
      await manyEncryptRightly(t, pool, 'before');
      const before = pool.stats().operations;
      shim.setFaults('C_Encrypt hang');
      const hangs = Array.from({ length: sessions }, () => shim.nextHang());
      const answers = Array.from({ length: 3 * sessions }, () =>
        pool.encrypt(encryption(key.object), inMs(hangMs)),
      );
      const first = await hangs[0];
      for (const answer of await Promise.all(answers)) t.match(answer, { error: { kind: lateKinds } });
      t.equal(pool.stats().stuckCells, sessions);
      t.equal(pool.stats().cellsInUse, sessions, 'the others gave their cells back');
      t.match(await pool.encrypt(encryption(key.object), farDeadline()), {
        error: { kind: 'token-unavailable' },
      });
      shim.setFaults();
      first?.release();
      for (const call of await Promise.all(hangs)) call.release();
      await untilNothingIsStuck(pool);
      t.equal(pool.stats().operations - before, sessions, 'the calls that hung, and nothing given up before');
      await manyEncryptRightly(t, pool, 'after');
      t.equal(pool.stats().cellsInUse, 0);
    },
  );

  t.test(
    `${sessions} session(s): a token that fails everything never makes a ciphertext bad (X-X2)`,
    async (t) => {
      const pool = await startPool(t, token, sessions);
      for (const rv of [0x5, 0x6, 0x7, 0x20, 0x40, 0x41, 0x42, 0x71, 0x80000101]) {
        shim.setFaults(`C_DecryptInit fail ${rv}`);
        const onInit = await pool.decrypt(decryption(key, randomBytes(20)), farDeadline());
        shim.setFaults(`C_Decrypt fail ${rv}`);
        const onDecrypt = await pool.decrypt(decryption(key, randomBytes(20)), farDeadline());
        for (const answer of [onInit, onDecrypt]) {
          t.ok(
            !answer.ok && ['failed', 'key-lost'].includes(answer.error.kind),
            `rv ${rv}: ${JSON.stringify(answer)}`,
          );
        }
      }
      for (const rv of [0x5, 0x6]) {
        shim.setFaults(`* fail ${rv}`);
        const answer = await pool.decrypt(decryption(key, randomBytes(20)), farDeadline());
        t.ok(!answer.ok && answer.error.kind !== 'bad-ciphertext', `everything fails with ${rv}`);
        t.match(await pool.encrypt(encryption(key.object), farDeadline()), { ok: false });
      }
      shim.setFaults();
      await encryptsRightly(t, pool, 'and then it is well again');
    },
  );

  t.test(
    `${sessions} session(s): sessions, handles and devices that fail once cost nothing, for ever are the token’s (X-X2)`,
    async (t) => {
      const pool = await startPool(t, token, sessions);
      // SESSION_HANDLE_INVALID, SESSION_CLOSED, KEY_HANDLE_INVALID, OBJECT_HANDLE_INVALID, DEVICE_ERROR,
      // OPERATION_ACTIVE
      for (const rv of [0xb3, 0xb0, 0x60, 0x82, 0x30, 0x90]) {
        const plaintext = randomBytes(20);
        for (const call of ['C_DecryptInit', 'C_Decrypt']) {
          shim.setFaults(`${call} fail ${rv} 1`);
          const once = await pool.decrypt(decryption(key, plaintext), farDeadline());
          t.ok(once.ok && plaintext.equals(once.value), `${call} fails once with ${rv}`);
          shim.setFaults(`${call} fail ${rv}`);
          t.match(
            await pool.decrypt(decryption(key, plaintext), farDeadline()),
            { ok: false, error: { kind: 'token-unavailable', functionName: call } },
            `${call} always fails with ${rv}`,
          );
        }
        shim.setFaults(`C_Encrypt fail ${rv} 1`);
        await encryptsRightly(t, pool, `C_Encrypt fails once with ${rv}`);
      }
    },
  );
}

t.test('an ambiguous failure that the canary and a second try belie is no failure (X-X2)', async (t) => {
  const pool = await startPool(t, token, 1);
  await encryptsRightly(t, pool, 'the key is found');
  const plaintext = randomBytes(20);
  shim.setFaults('C_Decrypt fail 0x5 1');
  const answer = await pool.decrypt(decryption(key, plaintext), farDeadline());
  t.ok(answer.ok && plaintext.equals(answer.value));
});

t.test(
  'a ciphertext is bad once it was refused three times, and five where the token has erred (X-X2)',
  async (t) => {
    const nowMs = systemClock.monotonicMs();
    // It stands still: what has no time left for another try is not answered for being late.
    const clock: Clock = { ...systemClock, monotonicMs: () => nowMs };
    const pool = await startPool(t, token, 1, undefined, 1, undefined, { clock });
    await encryptsRightly(t, pool, 'the key is found');
    const plaintext = randomBytes(20);
    const answers = async (times: number, deadlineMs = farDeadline()): Promise<string> => {
      shim.setFaults(`C_Decrypt fail 0x5 ${times} id=${key.object.objectId}`);
      // The pool's canary is another key.
      const unwitnessed = { ...decryption(key, plaintext), key: { ...key.object, witness: null } };
      const answer = await pool.decrypt(unwitnessed, deadlineMs);
      return answer.ok ? 'right' : answer.error.kind;
    };
    pool.setCanary(otherKey.object);
    t.equal(await answers(3), 'bad-ciphertext', 'nothing was known against it');
    t.equal(await answers(2), 'right', 'it went away');
    t.equal(await answers(4), 'right', 'so it has to say it five times');
    t.equal(await answers(5), 'bad-ciphertext');
    t.equal(
      await answers(4, nowMs + 1),
      'failed',
      'and where there is no time for that, it is its own fault',
    );

    shim.setFaults();
    const careful = await startPool(t, token, 1, undefined, 1, undefined, { clock });
    await encryptsRightly(t, careful, 'the key is found');
    shim.setFaults('C_EncryptInit fail 0x5 1');
    t.match(await careful.encrypt(encryption(key.object), farDeadline()), { error: { kind: 'failed' } });
    const bad = { ...decryption(key, plaintext), tag: randomBytes(16) };
    shim.setFaults();
    t.match(
      await careful.decrypt(bad, nowMs + 1),
      { error: { kind: 'failed' } },
      'an encrypt has no ciphertext',
    );
    t.match(await careful.decrypt(bad, farDeadline()), { error: { kind: 'bad-ciphertext' } });
  },
);

t.test(
  'C_DecryptInit knows no ciphertext: what says nothing there is no fault of the caller’s',
  async (t) => {
    const pool = await startPool(t, token, 1);
    pool.setCanary(otherKey.object);
    await encryptsRightly(t, pool, 'the keys are found', otherKey);
    await encryptsRightly(t, pool, 'the keys are found');
    const good = { ...decryption(key, randomBytes(20)), key: { ...key.object, witness: null } };
    shim.setFaults(`C_DecryptInit fail 0x5 id=${key.object.objectId}`);
    t.match(await pool.decrypt(good, farDeadline()), {
      error: { kind: 'failed', rv: 'CKR_GENERAL_ERROR', functionName: 'C_DecryptInit' },
    });
  },
);

for (const workers of [1, 2]) {
  t.test(
    `${workers} worker(s): a handle that became another key's is used by nobody once that is seen`,
    async (t) => {
      const pool = await startPool(t, token, 1, undefined, workers);
      // Each worker finds both.
      for (const known of [key, otherKey]) await manyEncryptRightly(t, pool, 'before', known);
      const plaintext = randomBytes(20);
      shim.setFaults('handles swap');
      const answer = await pool.decrypt(decryption(key, plaintext), farDeadline());
      t.ok(answer.ok && plaintext.equals(answer.value), 'the key is found under its new handle');
      for (const known of [key, otherKey]) await manyEncryptRightly(t, pool, 'after', known);
    },
  );
}

t.test('a check on the test key finds out that the objects have other numbers now', async (t) => {
  const pool = await startPool(t, token, 1);
  for (const known of [key, otherKey]) await encryptsRightly(t, pool, 'found', known);
  shim.setFaults('handles swap');
  t.match(await checkTestKey(pool, key.object, systemClock), { kind: 'passed' });
  // Nothing was decrypted under this one, whose handle is the other's by now.
  await encryptsRightly(t, pool, 'found anew', otherKey);
});

t.test(
  'a key without a witness: the pool’s canary decides, and without one nothing is the caller’s fault (X-X2)',
  async (t) => {
    const pool = await startPool(t, token, 1);
    const unwitnessed: KeyObject = { objectId: otherKey.object.objectId, witness: null };
    const good = { ...decryption(otherKey, randomBytes(20)), key: unwitnessed };
    const bad = { ...good, tag: randomBytes(16) };
    t.match(await pool.decrypt(bad, farDeadline()), { error: { kind: 'failed', rv: 'CKR_GENERAL_ERROR' } });
    pool.setCanary(key.object);
    t.match(await pool.decrypt(bad, farDeadline()), {
      error: { kind: 'bad-ciphertext', rv: 'CKR_GENERAL_ERROR' },
    });
    t.match(await pool.decrypt(good, farDeadline()), { ok: true });
    shim.setFaults('C_Decrypt fail 0x5');
    t.match(await pool.decrypt(good, farDeadline()), { error: { kind: 'failed' } });
    // The canary key itself is lost: that says nothing of the caller's ciphertext, nor of the caller's key.
    shim.setFaults();
    pool.setCanary({ ...key.object, objectId: otherKey.object.objectId });
    t.match(await pool.decrypt(bad, farDeadline()), { error: { kind: 'failed' } });
  },
);

t.test(
  'a flipped bit in a ciphertext is caught by the verifying decrypt; once is retried, always fails (X-E4)',
  async (t) => {
    const pool = await startPool(t, token, 1);
    await encryptsRightly(t, pool, 'the key is found');
    shim.setFaults('C_Encrypt flip - 1');
    await encryptsRightly(t, pool, 'one flipped bit');
    shim.setFaults('C_Encrypt flip');
    t.match(await pool.encrypt(encryption(key.object), farDeadline()), {
      ok: false,
      error: { kind: 'failed' },
    });
    shim.setFaults('C_Decrypt flip');
    t.match(await pool.encrypt(encryption(key.object), farDeadline()), {
      ok: false,
      error: { kind: 'failed' },
    });
    shim.setFaults('C_Encrypt flip - 1');
    const unverified = encryption(key.object, { verify: false, plaintext: randomBytes(20) });
    const result = await pool.encrypt(unverified, farDeadline());
    t.ok(result.ok);
    if (result.ok)
      t.throws(() => unseal(key.bytes, result.value, unverified.gcmAad), 'only for keys that can’t decrypt');
  },
);

t.test('the login or the token gone: told once, refused until resumed (X-X2)', async (t) => {
  // USER_NOT_LOGGED_IN, TOKEN_NOT_PRESENT, DEVICE_REMOVED, CRYPTOKI_NOT_INITIALIZED
  for (const [rv, name] of [
    [0x101, 'CKR_USER_NOT_LOGGED_IN'],
    [0xe0, 'CKR_TOKEN_NOT_PRESENT'],
    [0x32, 'CKR_DEVICE_REMOVED'],
    [0x190, 'CKR_CRYPTOKI_NOT_INITIALIZED'],
  ] as const) {
    const lost: string[] = [];
    const pool = await startPool(t, token, 1, (why) => lost.push(why));
    shim.setFaults(`C_DecryptInit fail ${rv}`);
    const answer = await pool.decrypt(decryption(key, randomBytes(20)), farDeadline());
    t.match(answer, { ok: false, error: { kind: 'token-unavailable', rv: name } });
    shim.setFaults();
    t.match(await pool.encrypt(encryption(key.object), farDeadline()), {
      error: { kind: 'token-unavailable', rv: name },
    });
    t.strictSame(lost, [name]);
    t.match(await pool.resume(), { ok: true });
    await encryptsRightly(t, pool, `resumed after ${name}`);
    await pool.close();
  }
});

t.test('after a new login every session is opened and every key found and witnessed anew', async (t) => {
  const pool = await startPool(t, token, 1);
  const callsOf = async (): Promise<number> => {
    const before = pool.stats().roundTrips;
    await encryptsRightly(t, pool, 'encrypts');
    return pool.stats().roundTrips - before;
  };
  await callsOf();
  const known = await callsOf();
  t.equal(known, 4, 'a known key: encrypt and decrypt, two calls each');
  t.match(await pool.resume(), { ok: true });
  t.equal(await callsOf(), known + 7, 'random numbers, four calls to find, two to witness');
});

t.test('a call that hangs is made up for by another session before its deadline', async (t) => {
  const pool = await startPool(t, token, 2);
  await encryptsRightly(t, pool, 'one session is all that a quick token needs');
  t.equal(pool.stats().sessions, 1);
  shim.setFaults('C_Encrypt hang - 1');
  const hung = shim.nextHang();
  const slow = encryptsRightly(t, pool, 'late, and right');
  const call = await hung;
  await manyEncryptRightly(t, pool, 'meanwhile');
  t.equal(pool.stats().stuckCells, 0);
  t.equal(pool.stats().sessions, 2);
  call.release();
  await slow;
});

t.test('a session that nothing comes for any more is closed, the first one apart', async (t) => {
  const pool = await startPool(t, token, 2, undefined, 1, undefined, { sessionIdleMs: 1 });
  shim.setFaults('C_Encrypt hang - 1');
  const hung = shim.nextHang();
  const slow = encryptsRightly(t, pool, 'late, and right');
  const call = await hung;
  await manyEncryptRightly(t, pool, 'meanwhile');
  call.release();
  await slow;
  while (pool.stats().sessions > 1) await pool.encrypt(encryption(key.object), inMs(10_000));
  await encryptsRightly(t, pool, 'with the one that is left');
});

t.test('a session whose closing hangs is counted no more, and keeps nobody waiting', async (t) => {
  const pool = await startPool(t, token, 4, undefined, 1, undefined, { sessionIdleMs: 1 });
  shim.setFaults('C_Encrypt hang - 1', 'C_CloseSession hang - 1');
  const hung = shim.nextHang();
  const slow = encryptsRightly(t, pool, 'late, and right');
  const call = await hung;
  const hungClosing = shim.nextHang();
  await manyEncryptRightly(t, pool, 'meanwhile');
  call.release();
  await slow;
  while (pool.stats().sessions > 1) await pool.encrypt(encryption(key.object), inMs(10_000));
  const closing = await hungClosing;
  await manyEncryptRightly(t, pool, 'with the one that is left');
  t.equal(pool.stats().stuckCells, 0);
  closing.release();
});

t.test('a slow token keeps its sessions, and gives them back once it is quick', async (t) => {
  const pool = await startPool(t, token, 4, undefined, 1, undefined, { sessionIdleMs: 1 });
  shim.setFaults('C_Encrypt delay 10');
  const together = Array.from({ length: 4 }, () => pool.encrypt(encryption(key.object), inMs(10_000)));
  for (const answer of await Promise.all(together)) t.ok(answer.ok);
  await encryptsRightly(t, pool, 'one after the other, the next');
  const { sessions } = pool.stats();
  t.ok(sessions > 1);
  // Each takes ten times as long as a session has to rest before it is closed.
  for (let turn = 0; turn < 3; turn += 1) await encryptsRightly(t, pool, 'alone');
  t.equal(pool.stats().sessions, sessions);
  shim.setFaults();
  while (pool.stats().sessions > 1) await pool.encrypt(encryption(key.object), inMs(10_000));
});

t.test(
  'what waits for a token that has become slow is told before its deadline that it will not be done',
  async (t) => {
    const pool = await startPool(t, token, 1);
    await manyEncryptRightly(t, pool, 'before');
    shim.setFaults('C_EncryptInit delay 40', 'C_Encrypt delay 40');
    const deadlineMs = inMs(1_000);
    const answers = await Promise.all(
      Array.from({ length: 60 }, () => pool.encrypt(encryption(key.object), deadlineMs)),
    );
    const kinds = answers.map((answer) => (answer.ok ? 'ok' : answer.error.kind));
    t.equal(kinds[0], 'ok');
    t.equal(kinds.at(-1), 'overloaded', 'the last have no chance');
    t.ok(kinds.lastIndexOf('ok') < kinds.indexOf('overloaded'), 'first come, first served');
  },
);

t.test('a session that the token refuses is no loss, and is asked for again after a login', async (t) => {
  const lost: string[] = [];
  const pool = await startPool(t, token, 2, (rv) => lost.push(rv));
  await encryptsRightly(t, pool, 'before');
  // CKR_SESSION_COUNT
  shim.setFaults('C_OpenSession fail 0xb1', 'C_Encrypt hang - 1');
  const hung = shim.nextHang();
  const slow = encryptsRightly(t, pool, 'the session that there is');
  const call = await hung;
  t.match(await pool.encrypt(encryption(key.object), inMs(100)), { error: { kind: lateKinds } });
  call.release();
  await slow;
  await manyEncryptRightly(t, pool, 'after');
  t.equal(pool.stats().sessions, 1);
  t.strictSame(lost, []);

  shim.setFaults('C_Encrypt hang - 1');
  t.match(await pool.resume(), { ok: true });
  const hungAgain = shim.nextHang();
  const slowAgain = encryptsRightly(t, pool, 'after the login');
  const callAgain = await hungAgain;
  await manyEncryptRightly(t, pool, 'another session');
  t.equal(pool.stats().sessions, 2);
  callAgain.release();
  await slowAgain;
});

t.test('a worker ends: another takes what was queued, and what it had is answered', async (t) => {
  const workers: Worker[] = [];
  const note = (worker: Worker): void => void workers.push(worker);
  process.on('worker', note);
  t.teardown(() => process.off('worker', note));
  const pool = await startPool(t, token, 1);
  await encryptsRightly(t, pool, 'before');
  shim.setFaults('C_Encrypt hang - 1');
  const hung = shim.nextHang();
  const answers = Array.from({ length: 20 }, () => encryptsRightly(t, pool, 'answered'));
  const call = await hung;
  const ended = workers[0]?.terminate();
  call.release();
  await Promise.all(answers);
  // It ends with its shift, when more is queued.
  const goOn = async (): Promise<void> => {
    while (workers.length < 2) await encryptsRightly(t, pool, 'meanwhile');
  };
  await Promise.all([goOn(), goOn()]);
  await ended;
  await encryptsRightly(t, pool, 'after');
  t.equal(pool.stats().cellsInUse, 0);
});

t.test('closing while a call hangs does not wait for it', async (t) => {
  for (const sessions of [1, 4]) {
    const pool = await startPool(t, token, sessions);
    await encryptsRightly(t, pool, 'before');
    shim.setFaults('C_Encrypt hang - 1');
    const hung = shim.nextHang();
    const answer = pool.encrypt(encryption(key.object), inMs(hangMs));
    const call = await hung;
    t.match(await answer, { error: { kind: 'deadline' } });
    await pool.close();
    t.match(await pool.encrypt(encryption(key.object), farDeadline()), {
      error: { kind: 'token-unavailable' },
    });
    call.release();
  }
});
