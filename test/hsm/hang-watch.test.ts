import t from 'tap';
import { type Hang, HangWatch, hangMsMax, loginHangMsMax } from '../../src/hsm/hang-watch.js';

const call: Hang = { kind: 'call', what: '2 calls have not returned' };
const login: Hang = { kind: 'login', what: 'login has not returned' };

t.test('a hang that passes is none, one that lasts is beyond recovery', async (t) => {
  const watch = new HangWatch();
  t.equal(watch.observe(call, 0), null);
  t.equal(watch.observe(call, hangMsMax - 1), null);
  t.equal(watch.observe(null, hangMsMax), null);
  t.equal(watch.observe(call, hangMsMax + 1), null, 'counted from anew');
  t.equal(watch.observe(call, 2 * hangMsMax + 1), '2 calls have not returned for over 10 s');
  t.equal(watch.observe(null, 3 * hangMsMax), null, 'it may return all the same');
});

t.test('a login is waited for longer: its verdict counts', async (t) => {
  const watch = new HangWatch();
  t.equal(watch.observe(call, 0), null);
  t.equal(watch.observe(login, hangMsMax), null);
  t.equal(watch.observe(login, loginHangMsMax), null);
  t.match(watch.observe(login, hangMsMax + loginHangMsMax), /login has not returned/);
});
