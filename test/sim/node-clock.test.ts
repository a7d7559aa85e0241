import t from 'tap';
import { NodeClock } from './node-clock.js';

t.test('how long ago something was, by a clock that was fast, then slow, and jumped', async (t) => {
  const clock = new NodeClock(0, 5_000, 1.05);
  t.equal(clock.elapsedMs(1_000, 2_000), 1_050);
  clock.change(2_000, 0.95, 300);
  t.equal(clock.elapsedMs(2_000, 3_000), 950, 'after the jump');
  t.equal(clock.elapsedMs(1_000, 3_000), 1_050 + 300 + 950, 'over it');
});

t.test('while the machine is suspended the boot clock goes on and the other stands still', async (t) => {
  const clock = new NodeClock(0, 5_000, 1);
  const before = clock.monotonicMs(1_000);
  clock.suspend(1_000, 4_000);
  t.equal(clock.localMs(5_000), 10_000);
  t.equal(clock.monotonicMs(5_000), before, 'where it goes on');
});
