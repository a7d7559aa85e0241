import t from 'tap';
import { autocannonFaults, autocannonResult } from '../../bench/autocannon-command.js';

const result = {
  requests: { total: 1_790, average: 179 },
  latency: { p50: 1, p99: 5, p99_9: 9, max: 12 },
  errors: 0,
  non2xx: 0,
};

t.test('a good result has no fault', async (t) => {
  t.strictSame(autocannonFaults(autocannonResult(result), 1_800), []);
});

t.test('every shortcoming is one, and so is what is missing', async (t) => {
  for (const [value, fault] of [
    [{ ...result, errors: 1 }, /1 errors/],
    [{ ...result, non2xx: 2 }, /2 answers other than 2xx/],
    [{ ...result, requests: { total: 1_500 } }, /1500 answers of 1800/],
    [{ ...result, latency: { p99: 250 } }, /p99 is 250 ms/],
    [{ ...result, latency: {} }, /p99 is NaN/],
    [{ ...result, requests: {} }, /NaN answers/],
  ] as const) {
    t.match(autocannonFaults(autocannonResult(value), 1_800), [fault]);
  }
});
