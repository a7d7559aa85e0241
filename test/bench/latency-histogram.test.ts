import t from 'tap';
import { LatencyHistogram } from '../../bench/driver/latency-histogram.js';

const filled = (values: Iterable<number>): LatencyHistogram => {
  const histogram = new LatencyHistogram();
  for (const value of values) histogram.record(value);
  return histogram;
};

t.test('small values are read back exactly', async (t) => {
  const histogram = filled(Array.from({ length: 100 }, (_, index) => index + 1));
  t.equal(histogram.count, 100);
  for (const [fraction, micros] of [
    [0, 1],
    [0.5, 50],
    [0.9, 90],
    [0.99, 99],
    [0.991, 100],
    [1, 100],
  ] as const) {
    t.equal(histogram.percentile(fraction), micros, `p${fraction * 100}`);
  }
});

t.test('large values are read back at most 0.8 % too high, never too low', async (t) => {
  for (let value = 200; value < 2 ** 27; value = Math.ceil(value * 1.037)) {
    const histogram = filled([value, 2 ** 27 - 1]);
    const read = histogram.percentile(0.5);
    t.ok(read >= value && read <= value * 1.008, `${value} was read as ${read}`);
  }
});

t.test('the maximum is exact, and what is beyond two minutes counts as two minutes', async (t) => {
  t.equal(filled([123_457]).percentile(1), 123_457);
  t.equal(filled([1e12]).percentile(1), 2 ** 27 - 1);
});

t.test('histograms add up, and survive the way between processes', async (t) => {
  const one = filled([1, 500, 70_000]);
  const sum = filled([3, 500, 900_000]);
  sum.add(LatencyHistogram.of(one.sparse(), one.maxMicros));
  const all = filled([1, 500, 70_000, 3, 500, 900_000]);
  t.strictSame([sum.count, sum.maxMicros, sum.sparse()], [all.count, all.maxMicros, all.sparse()]);
});

t.test('of nothing there is no percentile', async (t) => {
  t.ok(Number.isNaN(new LatencyHistogram().percentile(0.5)));
});
