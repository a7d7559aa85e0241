import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { type Clock, systemClock } from '../../src/base/clock.js';
import { type CryptoPool, openCryptoPool } from '../../src/hsm/crypto-pool.js';
import { repeating } from '../../src/hsm/fleet/repetition.js';
import type { DecryptOperation, HsmFailure } from '../../src/hsm/types.js';
import { witnessAad, witnessPlaintext } from '../../src/hsm/witness.js';
import {
  encryption,
  farDeadline,
  importKnownKey,
  type KnownKey,
  seal,
} from '../support/crypto-pool-fixture.js';
import { makeFaultShim } from '../support/fault-shim.js';
import { logIn } from '../support/logged-in-token.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

/** How often a token is asked about a ciphertext, until when, and what is held against the token (X-X2). */

const softHsm = await makeSoftHsmToken(t);
const shim = await makeFaultShim(t, softHsm.modulePath);
const token = logIn(t, { ...softHsm, modulePath: shim.modulePath });
const key = importKnownKey(token);
const otherKey = importKnownKey(token);
t.afterEach(() => shim.setFaults());

/** Two PKCS#11 calls for each time that the ciphertext is asked about, and two for the witness that vouches for the token. */
const callsForRefusals = (refusals: number): number => 2 * refusals + 2;

async function startPool(t: Test, clock: Clock = systemClock): Promise<CryptoPool> {
  const opened = await openCryptoPool({
    ...token,
    workers: 1,
    sessionsMax: 1,
    witness: { plaintext: witnessPlaintext, gcmAad: witnessAad },
    clock,
    onSessionsLost: () => {},
    onUnsafeIv: () => t.fail('an IV that must not be used'),
  });
  if (!opened.ok) throw new Error(`no pool: ${JSON.stringify(opened.error)}`);
  const pool = opened.value;
  t.teardown(() => pool.close());
  for (const known of [key, otherKey]) {
    t.match(await pool.encrypt(encryption(known.object), farDeadline()), { ok: true }, 'the key is found');
  }
  return pool;
}

function good(of: KnownKey): DecryptOperation {
  const gcmAad = randomBytes(30);
  return { key: of.object, gcmAad, ...seal(of.bytes, randomBytes(12), gcmAad, randomBytes(20)) };
}

const bad = (of: KnownKey): DecryptOperation => ({ ...good(of), tag: randomBytes(16) });

interface Answered {
  readonly failure: HsmFailure | null;
  /** PKCS#11 calls that it took. */
  readonly calls: number;
}

async function decrypted(
  pool: CryptoPool,
  operation: DecryptOperation,
  deadlineMs = farDeadline(),
): Promise<Answered> {
  const before = pool.stats().roundTrips;
  const answer = await pool.decrypt(operation, deadlineMs);
  return { failure: answer.ok ? null : answer.error, calls: pool.stats().roundTrips - before };
}

t.test('what waited for its session is asked about no longer than until its deadline', async (t) => {
  let nowMs: number | null = null;
  const clock: Clock = { ...systemClock, monotonicMs: () => nowMs ?? systemClock.monotonicMs() };
  const pool = await startPool(t, clock);
  t.match(await decrypted(pool, bad(key)), {
    failure: { kind: 'bad-ciphertext' },
    calls: callsForRefusals(3),
  });

  shim.setFaults('C_Encrypt hang - 1');
  const hung = shim.nextHang();
  const before = pool.encrypt(encryption(key.object), farDeadline());
  const call = await hung;
  const startMs = systemClock.monotonicMs();
  // This thread's clock stands still, so that nothing is answered for being late.
  nowMs = startMs;
  const answer = pool.decrypt(bad(key), startMs + 60);
  while (systemClock.monotonicMs() <= startMs + 60) await new Promise((resolve) => setImmediate(resolve));
  const roundTrips = pool.stats().roundTrips;
  call.release();
  t.match(await before, { ok: true });
  const encryptCalls = 4;
  t.match(await answer, { error: { kind: 'bad-ciphertext' } });
  t.equal(
    pool.stats().roundTrips - roundTrips - encryptCalls,
    callsForRefusals(2),
    'there was no time for a third',
  );
});

t.test('a witness that another key made proves nothing against the token', async (t) => {
  const pool = await startPool(t);
  const { witness } = otherKey.object;
  const mistaken = { ...good(key), key: { ...key.object, witness } };
  t.match(await decrypted(pool, mistaken), { failure: { kind: 'key-lost' } });
  t.match(await decrypted(pool, bad(key)), {
    failure: { kind: 'bad-ciphertext' },
    calls: callsForRefusals(3),
  });
});

t.test('a handle that was another key’s by then proves nothing against the token', async (t) => {
  const pool = await startPool(t);
  shim.setFaults('handles swap');
  t.match(await decrypted(pool, good(key)), { failure: null }, 'refused under the old handle');
  t.match(await decrypted(pool, bad(key)), {
    failure: { kind: 'bad-ciphertext' },
    calls: callsForRefusals(3),
  });
});

for (const [what, rules, shownBy] of [
  ['a ciphertext that is opened after all', 'C_Decrypt fail 0x5 1', 'decrypt'],
  ['a ciphertext and the key’s witness, both opened after all', 'C_Decrypt fail 0x5 2', 'decrypt'],
  ['an encrypt, in which there is none', 'C_Encrypt fail 0x5 1', 'encrypt'],
  ['what the token has just made', 'C_Decrypt fail 0x5 1', 'encrypt'],
] as const) {
  t.test(`a refusal that meant nothing: ${what}`, async (t) => {
    const pool = await startPool(t);
    shim.setFaults(rules);
    if (shownBy === 'decrypt') t.match(await decrypted(pool, good(key)), { failure: null });
    else await pool.encrypt(encryption(key.object), farDeadline());
    shim.setFaults();
    t.match(await decrypted(pool, good(key)), { failure: null }, 'its session is open again');
    t.match(await decrypted(pool, bad(key)), {
      failure: { kind: 'bad-ciphertext' },
      calls: callsForRefusals(5),
    });
  });
}

t.test('where there is no time to refuse it as often, the ciphertext is doubted', async (t) => {
  const nowMs = systemClock.monotonicMs();
  // It stands still: all deadlines are in the past, and nothing is answered for being late.
  const clock: Clock = { ...systemClock, monotonicMs: () => nowMs };
  const pool = await startPool(t, clock);
  shim.setFaults('C_Decrypt fail 0x5 1');
  t.match(await decrypted(pool, good(key)), { failure: null }, 'refused for nothing');
  shim.setFaults();
  const { failure } = await decrypted(pool, bad(key), nowMs + 1);
  t.strictSame(failure, {
    kind: 'failed',
    isDoubted: true,
    rv: 'CKR_GENERAL_ERROR',
    functionName: 'C_Decrypt',
  });
  shim.setFaults('C_Encrypt fail 0x5');
  const answer = await pool.encrypt(encryption(key.object), farDeadline());
  t.strictSame(
    answer.ok ? null : answer.error,
    { kind: 'failed', rv: 'CKR_GENERAL_ERROR', functionName: 'C_Encrypt' },
    'nothing else is',
  );
});

/** Its word for a bad ciphertext is the code that says so, and CKR_GENERAL_ERROR was never seen to mean that. */
const ownWord = {
  form: { ivSource: 'caller', layout: 'with-iv-bits' },
  badTagCodes: new Set(['CKR_ENCRYPTED_DATA_INVALID']),
} as const;

t.test('a token’s own word is believed at once, but not after it has failed over the same', async (t) => {
  const pool = await startPool(t);
  pool.setProfile(ownWord);
  shim.setFaults('bad-tag 0x40');
  t.match(await decrypted(pool, bad(key)), {
    failure: { kind: 'bad-ciphertext', rv: 'CKR_ENCRYPTED_DATA_INVALID' },
    calls: callsForRefusals(1),
  });
  t.match(await decrypted(pool, { ...bad(key), hasFailed: true }), {
    failure: { kind: 'bad-ciphertext', rv: 'CKR_ENCRYPTED_DATA_INVALID' },
    calls: callsForRefusals(3),
  });
});

t.test('a single token that fails and then calls a good ciphertext bad once is asked further', async (t) => {
  const pool = await startPool(t);
  pool.setProfile(ownWord);
  pool.setCanary(otherKey.object);
  const crypto = repeating(pool, systemClock);
  const faulty = { ...good(key), key: { ...key.object, witness: null } };
  const only = `id=${key.object.objectId}`;
  shim.setFaults(`C_Decrypt fail 0x5 3 ${only}`, `C_Decrypt fail 0x40 1 ${only}`);
  t.match(await crypto.decrypt(faulty, farDeadline()), { ok: true });
});

for (const [what, rv] of [
  ['the device fails', '0x30'],
  ['the session is lost', '0xb3'],
] as const) {
  t.test(
    `${what}, and the token calls the good ciphertext bad once after that: it is asked further`,
    async (t) => {
      const pool = await startPool(t);
      pool.setProfile({
        form: { ivSource: 'caller', layout: 'with-iv-bits' },
        badTagCodes: new Set(['CKR_ENCRYPTED_DATA_INVALID']),
      });
      pool.setCanary(otherKey.object);
      const only = `id=${key.object.objectId}`;
      shim.setFaults(`C_Decrypt fail ${rv} 1 ${only}`, `C_Decrypt fail 0x40 1 ${only}`);
      const unwitnessed = { ...good(key), key: { ...key.object, witness: null } };
      t.match(await pool.decrypt(unwitnessed, farDeadline()), { ok: true }, 'without a witness of its own');
      // The witness is opened between the two.
      shim.setFaults(`C_Decrypt fail ${rv} 1 ${only}`, `C_Decrypt fail 0x40 1 2 ${only}`);
      t.match(await pool.decrypt(good(key), farDeadline()), { ok: true }, 'with one');
    },
  );
}
