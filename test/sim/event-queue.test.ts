import t from 'tap';
import { EventQueue } from './event-queue.js';
import { NodeClock } from './node-clock.js';
import { Random } from './random.js';

t.test('events come out by time, and of one moment as they were put in', async (t) => {
  const queue = new EventQueue();
  const random = new Random(1);
  const expected: (readonly [number, number])[] = [];
  for (let place = 0; place < 2_000; place += 1) {
    const atMs = random.below(50);
    expected.push([atMs, place]);
    queue.push(atMs, 'test', place, () => {});
    if (place % 3 === 0) {
      // Interleaved, and put back: what comes out is never after what stays.
      const event = queue.pop();
      if (event !== null) queue.push(event.atMs + 50, 'again', event.slot, () => {});
    }
  }
  let last = { atMs: -1, sequence: -1 };
  let count = 0;
  for (let event = queue.pop(); event !== null; event = queue.pop()) {
    const ordered = event.atMs > last.atMs || (event.atMs === last.atMs && event.sequence > last.sequence);
    if (!ordered) t.fail(`event of ${event.atMs} ms after one of ${last.atMs} ms`);
    last = event;
    count += 1;
  }
  t.equal(count, expected.length);
  t.equal(queue.pop(), null);
});

t.test('the same seed gives the same numbers, another others', async (t) => {
  const draw = (seed: number, stream: number): readonly number[] => {
    const random = new Random(seed, stream);
    return Array.from({ length: 8 }, () => random.below(1e9));
  };
  t.same(draw(2 ** 40 + 1, 1), draw(2 ** 40 + 1, 1));
  t.notSame(draw(2 ** 40 + 1, 1), draw(1, 1), 'the upper bits count');
  t.notSame(draw(1, 1), draw(1, 2));
  const numbers = Array.from({ length: 10_000 }, new Random(7).unit);
  const mean = numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
  t.ok(Math.abs(mean - 0.5) < 0.02, `mean ${mean}`);
});

t.test('a clock drifts and jumps, and what it showed is known in true time', async (t) => {
  const clock = new NodeClock(0, 1_000, 1.05);
  t.equal(clock.localMs(100), 1_105);
  clock.change(100, 0.95, 500);
  t.equal(clock.localMs(100), 1_605);
  t.equal(clock.localMs(200), 1_700);
  t.ok(Math.abs(clock.trueMs(1_052.5) - 50) < 1e-9);
  t.equal(clock.trueMs(1_300), 100, 'what it jumped over it never showed');
  t.ok(Math.abs(clock.trueMs(1_700) - 200) < 1e-9);
});
