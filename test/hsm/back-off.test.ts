import t from 'tap';
import { backOffFirstMs, backOffMaxMs, backOffMs } from '../../src/hsm/back-off.js';

const randomOf = (byte: number) => ({ bytes: (length: number) => new Uint8Array(length).fill(byte) });

t.test('the wait doubles up to its bound', async (t) => {
  const waits = [1, 2, 3, 4, 5, 6, 7, 8, 1_000].map((failures) => backOffMs(failures, randomOf(0)));
  t.strictSame(waits, [500, 1_000, 1_500, 1_500, 1_500, 1_500, 1_500, 1_500, 1_500]);
  t.strictSame([backOffFirstMs, backOffMaxMs], [500, 1_500]);
});

t.test('up to a quarter is taken off at random', async (t) => {
  t.equal(backOffMs(2, randomOf(0xff)), 750);
  t.equal(backOffMs(2, randomOf(0x80)), 875);
});
