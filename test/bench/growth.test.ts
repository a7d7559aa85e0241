import t from 'tap';
import { growth, type Point, settled, slopePerSecond } from '../../bench/leak/growth.js';

const every = (seconds: number, count: number, value: (atSeconds: number) => number): Point[] =>
  Array.from({ length: count }, (_, index) => ({
    atSeconds: index * seconds,
    value: value(index * seconds),
  }));

t.test('a straight line has its slope', async (t) => {
  t.ok(Math.abs(slopePerSecond(every(30, 60, (at) => 100 + at / 10)) - 0.1) < 1e-9);
  t.equal(slopePerSecond(every(30, 60, () => 7)), 0);
  t.equal(slopePerSecond([{ atSeconds: 5, value: 1 }]), 0);
  t.equal(slopePerSecond([]), 0);
});

t.test('what comes before it has settled does not count', async (t) => {
  const points = every(30, 61, (at) => (at < 600 ? at : 600));
  t.equal(settled(points)[0]?.atSeconds, 600);
  t.equal(growth(points), 0);
  t.ok(Math.abs(growth(every(30, 61, (at) => at / 60)) - 20) < 1e-9, 'over the 1,200 s that are judged');
  t.equal(growth([]), 0);
});

t.test('a saw keeps its teeth and does not grow', async (t) => {
  const saw = every(10, 181, (at) => 80 + (at % 100) / 10);
  t.ok(Math.abs(growth(saw)) < 1);
  t.ok(growth(every(10, 181, (at) => 80 + (at % 100) / 10 + at / 100)) > 10);
});
