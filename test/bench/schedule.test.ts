import t from 'tap';
import { evenSchedule, isEncrypt } from '../../bench/driver/schedule.js';

t.test('requests are due at even times, the first at once', async (t) => {
  const schedule = evenSchedule(4, 2);
  t.equal(schedule.total, 8);
  t.strictSame([0, 1, 7].map(schedule.dueMs), [0, 250, 1_750]);
  t.strictSame([-1, 0, 249, 250, 1_999, 5_000].map(schedule.dueBy), [0, 1, 1, 2, 8, 8]);
});

t.test('whoever comes at the time of a request finds it due, at any rate', async (t) => {
  for (const rate of [1, 3, 7, 1_800, 6_401.7]) {
    const schedule = evenSchedule(rate, 3);
    for (let sequence = 0; sequence < schedule.total; sequence++) {
      if (schedule.dueBy(schedule.dueMs(sequence)) !== sequence + 1) t.fail(`${rate}/s, request ${sequence}`);
    }
  }
});

t.test('a mix is spread evenly', async (t) => {
  const kinds = (share: number, count: number): string =>
    Array.from({ length: count }, (_, n) => (isEncrypt(n, share) ? 'E' : 'D')).join('');
  t.equal(kinds(0.5, 8), 'DEDEDEDE');
  t.equal(kinds(0.25, 8), 'DDDEDDDE');
  t.equal(kinds(1, 4), 'EEEE');
  t.equal(kinds(0, 4), 'DDDD');
  t.equal(kinds(0.3, 1_000).replaceAll('D', '').length, 300);
});
