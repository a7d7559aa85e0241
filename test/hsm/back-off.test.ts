import t from 'tap';
import { backOffFirstMs, backOffMaxMs, backOffMs } from '../../src/hsm/back-off.js';

const randomOf = (byte: number) => ({ bytes: (length: number) => new Uint8Array(length).fill(byte) });

t.test('the wait doubles up to its bound', async (t) => {
  const waits = [1, 2, 3, 4, 5, 6, 7, 8, 1_000].map((failures) => backOffMs(failures, randomOf(0)));
  t.strictSame(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  t.strictSame([backOffFirstMs, backOffMaxMs], [500, 30_000]);
});

t.test('up to a quarter is taken off at random', async (t) => {
  t.equal(backOffMs(3, randomOf(0xff)), 1_500);
  t.equal(backOffMs(3, randomOf(0x80)), 1_749);
});
