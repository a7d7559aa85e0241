import t from 'tap';
import { RecentLatency } from '../../../src/hsm/fleet/latency.js';

t.test('the 95th percentile of the last 128 answers', async (t) => {
  const latency = new RecentLatency();
  for (let ms = 1; ms < 32; ms++) latency.took(ms);
  t.equal(latency.p95Ms, null, 'too few to tell');
  latency.took(32);
  t.equal(latency.p95Ms, 31);
  for (let ms = 33; ms <= 128; ms++) latency.took(ms);
  t.equal(latency.p95Ms, 122);
  for (let index = 0; index < 128; index++) latency.took(5);
  t.equal(latency.p95Ms, 5, 'what was long ago is forgotten');
});
