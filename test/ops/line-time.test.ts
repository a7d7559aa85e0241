import t from 'tap';
import { LineTime } from '../../src/ops/line-time.js';

t.test('the time of a line is what Date makes of it, second after second and back', async (t) => {
  const time = new LineTime();
  const start = Date.UTC(2026, 11, 31, 23, 59, 58);
  for (const ms of [0, 7, 42, 100, 999, 1_000, 1_001, 1_999, 2_000, 60_000, 5, -1, -1_000, -1_001]) {
    t.equal(time.text(start + ms), new Date(start + ms).toISOString());
  }
});
