import t from 'tap';
import { callTimes, capacityOf } from './token-capacity.js';

const metrics = `# TYPE xks_pkcs11_call_duration_seconds histogram
xks_pkcs11_call_duration_seconds_bucket{le="0.001",hsm="a",function="C_Encrypt"} 7
xks_pkcs11_call_duration_seconds_sum{hsm="a",function="C_Encrypt"} 1.5
xks_pkcs11_call_duration_seconds_count{hsm="a",function="C_Encrypt"} 1000
xks_pkcs11_call_duration_seconds_sum{hsm="b",function="C_DecryptInit"} 0.5
xks_pkcs11_call_duration_seconds_count{hsm="b",function="C_DecryptInit"} 1000
xks_pkcs11_call_duration_seconds_sum{hsm="a",function="C_GenerateRandom"} 9
xks_pkcs11_call_duration_seconds_count{hsm="a",function="C_GenerateRandom"} 9
`;

t.test('the calls of Encrypts and Decrypts, over all tokens', async (t) => {
  t.strictSame(callTimes(metrics), { calls: 2_000, seconds: 2 });
});

t.test('what so many sessions can do, each call of which takes so long', async (t) => {
  const none = { calls: 500, seconds: 3 };
  const sessions = { sessions: 2, callsEach: 3 };
  t.equal(Math.round(capacityOf(none, { calls: 1_500, seconds: 4 }, sessions)), 667);
  t.ok(Number.isNaN(capacityOf(none, none, sessions)));
});
