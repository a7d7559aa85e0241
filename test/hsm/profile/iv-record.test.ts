import t from 'tap';
import type { GcmForm } from '../../../src/hsm/profile/gcm-form.js';
import { encryption, farDeadline, importKnownKey, startPool } from '../../support/crypto-pool-fixture.js';
import { makeFaultShim } from '../../support/fault-shim.js';
import { logIn } from '../../support/logged-in-token.js';
import { makeSoftHsmToken } from '../../support/softhsm.js';

/** Alone in its process: what a process has seen of a token's IVs, it remembers. */

const softHsm = await makeSoftHsmToken(t);
const shim = await makeFaultShim(t, softHsm.modulePath);
const token = logIn(t, { ...softHsm, modulePath: shim.modulePath });
const key = importKnownKey(token);
const counting = [importKnownKey(token), importKnownKey(token)];

/** As many as each session remembers. */
const remembered = 1_024;

const inPlace: GcmForm = { ivSource: 'in-place', layout: 'with-iv-bits' };
const appended: GcmForm = { ivSource: 'appended', layout: 'with-iv-bits' };

t.test('an IV that comes again is refused, in whichever session of the process it comes', async (t) => {
  let told = 0;
  const kindsOf = async (form: GcmForm, count: number, sessions = 1) => {
    const pool = await startPool(t, token, sessions, undefined, 1, () => {
      told += 1;
    });
    pool.setProfile({ form, badTagCodes: null });
    const one = async () => {
      const answer = await pool.encrypt(encryption(key.object, { verify: false }), farDeadline());
      return answer.ok ? 'ok' : answer.error.kind;
    };
    const kinds: string[] = [];
    while (kinds.length < count) {
      kinds.push(...(await Promise.all(Array.from({ length: Math.min(sessions, count) }, one))));
    }
    await pool.close();
    return kinds;
  };
  const oks = (count: number) => Array.from({ length: count }, () => 'ok');
  shim.setFaults(`iv in-place ${remembered}`);
  t.strictSame(await kindsOf(inPlace, remembered + 1), [...oks(remembered), 'unsafe-iv']);
  t.equal(told, 1);
  t.strictSame(await kindsOf(inPlace, 2), ['unsafe-iv', 'unsafe-iv'], 'in a session that is opened anew');
  // Each session would see each of these once.
  shim.setFaults('C_Encrypt delay 20', `iv append ${remembered + 16}`);
  const kinds = await kindsOf(appended, 64, 64);
  // It counts on from the 1,027 before, so that 1,028 to 1,040 come first, and then those that came already.
  t.equal(kinds.filter((kind) => kind === 'ok').length, 13, 'and among 64 of them');
});

t.test('HSMs that count IVs for each key: two keys may have the same, one key may not', async (t) => {
  shim.setFaults('iv in-place 1');
  const kindOf = async (pool: Awaited<ReturnType<typeof startPool>>, { object }: (typeof counting)[0]) => {
    const answer = await pool.encrypt(encryption(object, { verify: false }), farDeadline());
    return answer.ok ? 'ok' : answer.error.kind;
  };
  for (const expected of ['ok', 'unsafe-iv', 'unsafe-iv']) {
    // In one session, which is another one each time.
    const pool = await startPool(t, token, 1, undefined, 1, () => {});
    pool.setProfile({ form: inPlace, badTagCodes: null });
    for (const key of counting) t.equal(await kindOf(pool, key), expected);
    await pool.close();
  }
});
