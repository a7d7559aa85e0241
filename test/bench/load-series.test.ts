import t from 'tap';
import { LoadSeries } from '../../bench/driver/load-series.js';

t.test('answers and failures count in the second in which they were due', async (t) => {
  const series = new LoadSeries(3);
  for (const elapsedMs of [0, 999]) series.answered(elapsedMs, 100 + elapsedMs);
  series.answered(2_999, 7);
  series.answered(3_001, 9);
  series.failed(1_500);
  t.strictSame(series.points(), [
    {
      atSeconds: 0,
      answeredPerSecond: 2,
      failedPerSecond: 0,
      p50Micros: 100,
      p99Micros: 1_099,
      maxMicros: 1_099,
    },
    {
      atSeconds: 1,
      answeredPerSecond: 0,
      failedPerSecond: 1,
      p50Micros: null,
      p99Micros: null,
      maxMicros: null,
    },
    { atSeconds: 2, answeredPerSecond: 2, failedPerSecond: 0, p50Micros: 7, p99Micros: 9, maxMicros: 9 },
  ]);
});

t.test('a long run has stretches of more than a second, and their rates are still per second', async (t) => {
  const series = new LoadSeries(600);
  for (let second = 0; second < 600; second++) series.answered(second * 1_000, 5);
  const points = series.points();
  t.equal(points.length, 120);
  t.equal(points.at(-1)?.atSeconds, 595);
  t.ok(points.every(({ answeredPerSecond }) => answeredPerSecond === 1));
});
