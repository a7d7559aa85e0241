import t, { type Test } from 'tap';
import { systemClock } from '../../src/base/clock.js';
import type { CryptoPool } from '../../src/hsm/crypto-pool.js';
import { encryption, farDeadline, importKnownKey, startPool } from '../support/crypto-pool-fixture.js';
import { makeFaultShim } from '../support/fault-shim.js';
import { logIn } from '../support/logged-in-token.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

/** `EncryptOperation.begun`: how many C_Encrypt calls an operation has really begun, told once. */

const softHsm = await makeSoftHsmToken(t);
const shim = await makeFaultShim(t, softHsm.modulePath);
const token = logIn(t, { ...softHsm, modulePath: shim.modulePath });
const key = importKnownKey(token);
t.afterEach(() => shim.setFaults());

const open = (t: Test): Promise<CryptoPool> => startPool(t, token, 1, () => {});

function asked(pool: CryptoPool, deadlineMs = farDeadline()) {
  const told: number[] = [];
  const begun = (count: number): void => void told.push(count);
  const answer = pool.encrypt(encryption(key.object, { begun }), deadlineMs);
  return { told, answer };
}

for (const [what, rules, ok, count] of [
  ['one that succeeds', [], true, 1],
  ['a failure before C_Encrypt', ['C_EncryptInit fail 0x71'], false, 0],
  ['no random bytes for its IV', ['C_GenerateRandom fail 0x5'], false, 0],
  ['C_Encrypt that fails', ['C_Encrypt fail 0x5'], false, 1],
  ['a session that is lost in C_Encrypt, twice', ['C_Encrypt fail 0xb3'], false, 2],
  ['a session that is lost in C_EncryptInit, once', ['C_EncryptInit fail 0xb3 1'], true, 1],
  ['a verification that fails once', ['C_Decrypt fail 0x5 1'], true, 2],
  ['a verification that fails again', ['C_Decrypt fail 0x5'], false, 2],
] as const) {
  t.test(`${what}: ${count}`, async (t) => {
    const pool = await open(t);
    // So that the key has been found, and its witness opened.
    t.ok((await asked(pool).answer).ok);
    if (rules.some((rule) => rule.startsWith('C_GenerateRandom'))) {
      for (let prefetched = 1; prefetched < 64; prefetched += 1) await asked(pool).answer;
    }
    shim.setFaults(...rules);
    const { told, answer } = asked(pool);
    t.equal((await answer).ok, ok);
    t.strictSame(told, [count]);
  });
}

t.test('what is refused before a token is asked: none', async (t) => {
  const pool = await open(t);
  const late = asked(pool, systemClock.monotonicMs() - 1);
  t.match(await late.answer, { error: { kind: 'deadline' } });
  t.strictSame(late.told, [0]);
  await pool.close();
  const closed = asked(pool);
  t.match(await closed.answer, { error: { kind: 'token-unavailable' } });
  t.strictSame(closed.told, [0]);
});

t.test(
  'a call that outlives its request is told when it returns; what waited behind it, at once',
  async (t) => {
    const pool = await open(t);
    t.ok((await asked(pool).answer).ok);
    shim.setFaults('C_Encrypt hang - 1');
    const hung = shim.nextHang();
    const first = asked(pool, systemClock.monotonicMs() + 2_000);
    const call = await hung;
    const behind = asked(pool, systemClock.monotonicMs() + 100);
    t.match(await first.answer, { error: { kind: 'deadline' } });
    t.match(await behind.answer, { error: { kind: /^(deadline|overloaded)$/ } });
    t.strictSame([first.told, behind.told], [[], [0]]);
    call.release();
    while (pool.stats().stuckCells > 0) await new Promise((resolve) => setImmediate(resolve));
    t.strictSame(first.told, [1]);
  },
);

t.test('a call that never returns counts as all that it may become', async (t) => {
  const pool = await open(t);
  t.ok((await asked(pool).answer).ok);
  shim.setFaults('C_Encrypt hang - 1');
  const hung = shim.nextHang();
  const { told, answer } = asked(pool, systemClock.monotonicMs() + 2_000);
  const call = await hung;
  await answer;
  await pool.close();
  t.strictSame(told, [6]);
  call.release();
});
