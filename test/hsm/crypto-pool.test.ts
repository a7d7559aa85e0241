import { createHash, randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { cellLimits, cellsMax } from '../../src/hsm/cells.js';
import { type CryptoPool, openCryptoPool } from '../../src/hsm/crypto-pool.js';
import type { DecryptOperation, KeyObject } from '../../src/hsm/types.js';
import { objectId } from '../../src/hsm/types.js';
import { witnessAad, witnessPlaintext } from '../../src/hsm/witness.js';
import {
  encryption,
  farDeadline,
  importKnownKey,
  seal,
  startPool,
  unseal,
} from '../support/crypto-pool-fixture.js';
import { type LoggedInToken, logIn } from '../support/logged-in-token.js';
import { makeNssToken } from '../support/nss.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

async function rejects(t: Test, pool: CryptoPool, operation: DecryptOperation, name: string): Promise<void> {
  const result = await pool.decrypt(operation, farDeadline());
  t.match(result, { ok: false, error: { kind: 'bad-ciphertext' } }, name);
}

async function suite(t: Test, token: LoggedInToken): Promise<void> {
  for (const sessions of [1, 4]) {
    await t.test(
      `${sessions} session(s): what it encrypts, AES-256-GCM elsewhere decrypts (X-E2, X-E4)`,
      async (t) => {
        const pool = await startPool(t, token, sessions);
        const key = importKnownKey(token);
        const sizes = [0, 1, 15, 16, 32, 1_000, 4_300, cellLimits.dataBytesMax];
        const ivs = new Set<string>();
        for (const size of sizes) {
          const aadBytes = size === 0 ? 0 : Math.min(size * 2, cellLimits.gcmAadBytesMax);
          const operation = encryption(key.object, {
            plaintext: randomBytes(size),
            gcmAad: randomBytes(aadBytes),
            integrityPrefix: randomBytes(aadBytes),
          });
          const result = await pool.encrypt(operation, farDeadline());
          t.ok(result.ok, `${size} bytes`);
          if (!result.ok) continue;
          const { value } = result;
          t.strictSame(unseal(key.bytes, value, operation.gcmAad), operation.plaintext);
          t.equal(value.iv.length, 12);
          ivs.add(Buffer.from(value.iv).toString('hex'));
          const cdiv = createHash('sha256')
            .update(operation.integrityPrefix ?? '')
            .update(value.iv)
            .update(value.ciphertext)
            .update(value.tag);
          t.strictSame(Buffer.from(value.integrityValue ?? ''), cdiv.digest(), 'integrity value');
          const back = await pool.decrypt(
            { key: key.object, gcmAad: operation.gcmAad, ...value },
            farDeadline(),
          );
          t.ok(back.ok && Buffer.from(back.value).equals(operation.plaintext), 'decrypts');
        }
        t.equal(ivs.size, sizes.length, 'every IV is fresh');
        t.equal(pool.stats().cellsInUse, 0, 'every cell came back');
      },
    );

    await t.test(
      `${sessions} session(s): decrypts what was encrypted elsewhere, 12- or 16-byte IV (X-D1)`,
      async (t) => {
        const pool = await startPool(t, token, sessions);
        const key = importKnownKey(token);
        for (const ivBytes of [12, 16]) {
          const gcmAad = randomBytes(77);
          const plaintext = randomBytes(333);
          const sealed = seal(key.bytes, randomBytes(ivBytes), gcmAad, plaintext);
          const result = await pool.decrypt({ key: key.object, gcmAad, ...sealed }, farDeadline());
          t.ok(result.ok && plaintext.equals(result.value), `IV of ${ivBytes} bytes`);
        }
      },
    );

    await t.test(`${sessions} session(s): anything altered is bad ciphertext (X-D2)`, async (t) => {
      const pool = await startPool(t, token, sessions);
      const key = importKnownKey(token);
      const gcmAad = randomBytes(20);
      const good = { key: key.object, gcmAad, ...seal(key.bytes, randomBytes(12), gcmAad, randomBytes(64)) };
      for (const part of ['ciphertext', 'tag', 'iv', 'gcmAad'] as const) {
        const altered = Buffer.from(good[part]);
        altered[3] = (altered[3] ?? 0) ^ 1;
        await rejects(t, pool, { ...good, [part]: altered }, part);
      }
      await rejects(t, pool, { ...good, ciphertext: new Uint8Array() }, 'nothing but a tag');
      await rejects(t, pool, { ...good, iv: randomBytes(13) }, 'an IV of 13 bytes');
      await rejects(t, pool, { ...good, tag: good.tag.subarray(1) }, 'a tag of 15 bytes');
      const still = await pool.decrypt(good, farDeadline());
      t.ok(still.ok, 'and the unaltered one still decrypts');
    });

    await t.test(`${sessions} session(s): many at once, each gets its own`, async (t) => {
      const pool = await startPool(t, token, sessions);
      const keys = [importKnownKey(token), importKnownKey(token)];
      const operations = Array.from({ length: 200 }, (_, index) => {
        const key = keys[index % 2];
        if (key === undefined) throw new Error('two keys');
        return { key, operation: encryption(key.object, { plaintext: randomBytes(index * 20) }) };
      });
      const results = await Promise.all(
        operations.map(async ({ key, operation }) => {
          const sealed = await pool.encrypt(operation, farDeadline());
          if (!sealed.ok) return sealed.error.kind;
          if (!unseal(key.bytes, sealed.value, operation.gcmAad).equals(operation.plaintext))
            return 'mixed up';
          const back = await pool.decrypt({ ...operation, ...sealed.value }, farDeadline());
          return back.ok && Buffer.from(back.value).equals(operation.plaintext) ? 'right' : 'wrong';
        }),
      );
      t.strictSame(new Set(results), new Set(['right']));
      const { cellsInUse, queued, inFlight, operations: count } = pool.stats();
      t.strictSame(
        { cellsInUse, queued, inFlight, count },
        { cellsInUse: 0, queued: 0, inFlight: 0, count: 400 },
      );
    });
  }

  await t.test('a key that is not there, or is there twice, or is another: key-lost', async (t) => {
    const pool = await startPool(t, token, 1);
    const missing: KeyObject = { objectId: objectId('00ff'.repeat(8)), witness: null };
    t.match(await pool.encrypt(encryption(missing), farDeadline()), {
      ok: false,
      error: { kind: 'key-lost' },
    });

    const twice = importKnownKey(token);
    token.importKey(randomBytes(32), twice.object.objectId);
    t.match(await pool.encrypt(encryption(twice.object), farDeadline()), {
      ok: false,
      error: { kind: 'key-lost' },
    });

    // Found and used; then destroyed, and another object made under the same CKA_ID.
    const first = importKnownKey(token);
    t.match(await pool.encrypt(encryption(first.object), farDeadline()), { ok: true });
    token.destroyKeys(first.object.objectId);
    token.importKey(randomBytes(32), first.object.objectId);
    t.match(await pool.encrypt(encryption(first.object), farDeadline()), {
      ok: false,
      error: { kind: 'key-lost' },
    });
    const gcmAad = randomBytes(9);
    const sealed = seal(first.bytes, randomBytes(12), gcmAad, randomBytes(9));
    t.match(await pool.decrypt({ key: first.object, gcmAad, ...sealed }, farDeadline()), {
      ok: false,
      error: { kind: 'key-lost' },
    });
  });

  await t.test('too large, too late and malformed keys are refused without the token', async (t) => {
    const pool = await startPool(t, token, 1);
    const key = importKnownKey(token);
    const tooLarge = encryption(key.object, { plaintext: Buffer.alloc(cellLimits.dataBytesMax + 1) });
    t.match(await pool.encrypt(tooLarge, farDeadline()), { ok: false, error: { kind: 'too-large' } });
    const wideAad = encryption(key.object, { gcmAad: Buffer.alloc(cellLimits.gcmAadBytesMax + 1) });
    t.match(await pool.encrypt(wideAad, farDeadline()), { ok: false, error: { kind: 'too-large' } });
    const late = systemClock.monotonicMs();
    t.match(await pool.encrypt(encryption(key.object), late), { ok: false, error: { kind: 'deadline' } });
    t.equal(pool.stats().operations, 0, 'no operation went out');
  });

  await t.test('more at once than fit: some are refused as overloaded, all others are right', async (t) => {
    const pool = await startPool(t, token, 1);
    const key = importKnownKey(token);
    const answers = await Promise.all(
      Array.from({ length: 2 * cellsMax }, () => pool.encrypt(encryption(key.object), farDeadline())),
    );
    const kinds = new Set(answers.map((answer) => (answer.ok ? 'ok' : answer.error.kind)));
    t.strictSame(kinds, new Set(['ok', 'overloaded']));
    t.equal(pool.stats().cellsInUse, 0);
  });

  await t.test(
    'the login ends under it: told once, refused until resumed, then right again (X-X2)',
    async (t) => {
      for (const sessions of [1, 4]) {
        const lost: string[] = [];
        const pool = await startPool(t, token, sessions, (rv) => lost.push(rv));
        const key = importKnownKey(token);
        const operation = encryption(key.object);
        t.match(await pool.encrypt(operation, farDeadline()), { ok: true });
        token.closeAllSessions();
        const during = await Promise.all(
          Array.from({ length: 10 }, () => pool.encrypt(operation, farDeadline())),
        );
        t.ok(
          during.every((answer) => !answer.ok && answer.error.kind === 'token-unavailable'),
          'unavailable, not key-lost: private keys are invisible without a login',
        );
        t.strictSame(lost, ['CKR_USER_NOT_LOGGED_IN']);
        t.match(
          await pool.resume(),
          { ok: false, error: { kind: 'token-unavailable' } },
          'not logged in yet',
        );
        token.logIn();
        t.match(await pool.resume(), { ok: true });
        const after = await pool.encrypt(operation, farDeadline());
        t.ok(after.ok && unseal(key.bytes, after.value, operation.gcmAad).equals(operation.plaintext));
        t.equal(lost.length, 1);
        await pool.close();
      }
    },
  );

  await t.test('after close everything is refused', async (t) => {
    const pool = await startPool(t, token, 4);
    const key = importKnownKey(token);
    const last = pool.encrypt(encryption(key.object), farDeadline());
    await pool.close();
    t.match(await pool.encrypt(encryption(key.object), farDeadline()), {
      error: { kind: 'token-unavailable' },
    });
    t.type((await last).ok, 'boolean', 'what was out is answered');
  });
}

t.test('SoftHSM2', async (t) => suite(t, logIn(t, await makeSoftHsmToken(t))));
t.test('NSS softoken', async (t) => suite(t, logIn(t, await makeNssToken(t))));

t.test('a module that is not there fails with what dlopen said', async (t) => {
  const opened = await openCryptoPool({
    modulePath: '/nonexistent/libpkcs11.so',
    initArgs: '',
    slotId: 0n,
    workers: 1,
    sessionsMax: 1,
    witness: { plaintext: witnessPlaintext, gcmAad: witnessAad },
    clock: systemClock,
    onSessionsLost: () => t.fail('nothing to lose'),
    onUnsafeIv: () => t.fail('no IV'),
  });
  t.match(opened, { ok: false, error: { kind: 'failed', rv: null, functionName: 'dlopen' } });
});
