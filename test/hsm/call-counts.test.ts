import t from 'tap';
import { addCalls, type CallCounts, noCalls } from '../../src/hsm/call-counts.js';
import { encryption, farDeadline, importKnownKey, startPool } from '../support/crypto-pool-fixture.js';
import { makeFaultShim } from '../support/fault-shim.js';
import { logIn } from '../support/logged-in-token.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

const counts = (
  functionName: string,
  byDuration: readonly number[],
  rest: Partial<CallCounts>,
): CallCounts => ({
  boundsSeconds: [1, 2],
  functions: [{ functionName, byDuration, seconds: 1 }],
  operations: 1,
  roundTrips: 2,
  repeats: 3,
  ...rest,
});

t.test('what several pools counted is one sum', async (t) => {
  const one = counts('C_Encrypt', [1, 0, 2], {});
  const other = counts('C_Encrypt', [0, 1, 1], { repeats: 1 });
  t.strictSame(addCalls(noCalls, one), one);
  t.strictSame(addCalls(one, noCalls), one);
  t.strictSame(addCalls(one, other), {
    boundsSeconds: [1, 2],
    functions: [{ functionName: 'C_Encrypt', byDuration: [1, 1, 3], seconds: 2 }],
    operations: 2,
    roundTrips: 4,
    repeats: 4,
  });
  t.equal(addCalls(one, counts('C_Decrypt', [1, 1, 1], {})).functions.length, 2);
});

t.test('a pool counts its calls by function and duration, and what it did again', async (t) => {
  const softHsm = await makeSoftHsmToken(t);
  const shim = await makeFaultShim(t, softHsm.modulePath);
  const token = logIn(t, { ...softHsm, modulePath: shim.modulePath });
  const key = importKnownKey(token);
  const [pool, other] = [await startPool(t, token, 2), await startPool(t, token, 1)];
  const sum = (name: string, from = 0): number =>
    pool
      .calls()
      .functions.find(({ functionName }) => functionName === name)
      ?.byDuration.slice(from)
      .reduce((total, calls) => total + calls, 0) ?? 0;

  const opening = sum('C_OpenSession') + sum('C_GetSessionInfo');
  t.equal(opening, 2);
  for (let round = 0; round < 5; round++)
    t.match(await pool.encrypt(encryption(key.object), farDeadline()), { ok: true });
  t.equal(sum('C_Encrypt'), 5);
  t.equal(sum('C_Decrypt'), 6, 'with the witness');
  const calls = pool.calls();
  const all = calls.functions.reduce(
    (total, { byDuration }) => total + byDuration.reduce((a, b) => a + b),
    0,
  );
  t.strictSame(
    { operations: calls.operations, roundTrips: calls.roundTrips + opening, repeats: calls.repeats },
    { operations: 5, roundTrips: all, repeats: 0 },
  );

  shim.setFaults('C_Encrypt delay 30 1');
  t.match(await pool.encrypt(encryption(key.object), farDeadline()), { ok: true });
  const tenMs = calls.boundsSeconds.indexOf(0.01);
  t.equal(sum('C_Encrypt', tenMs + 1), 1, 'one took more than 10 ms');
  t.ok(
    (pool.calls().functions.find(({ functionName }) => functionName === 'C_Encrypt')?.seconds ?? 0) >= 0.03,
  );

  shim.setFaults('C_EncryptInit fail 0xb3 1');
  t.match(await pool.encrypt(encryption(key.object), farDeadline()), { ok: true });
  t.equal(pool.calls().repeats, 1);

  t.strictSame(
    other
      .calls()
      .functions.map(({ functionName }) => functionName)
      .sort(),
    ['C_GetSessionInfo', 'C_OpenSession'],
    'another pool of the same module counts for itself',
  );
});
