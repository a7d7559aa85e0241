import t from 'tap';
import { frameAad } from '../../src/xks/gcm-aad.js';

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

t.test('X-E3: len16be(aad) ‖ aad ‖ len8(metadata) ‖ metadata', async (t) => {
  t.same(frameAad(bytes(7, 8), bytes(9)), bytes(0, 2, 7, 8, 1, 9));
  t.same(frameAad(bytes(), null), bytes(0, 0, 0));
  t.same(frameAad(bytes(7), null), bytes(0, 1, 7, 0));
  t.same(frameAad(bytes(), bytes(7)), bytes(0, 0, 1, 7));
  const long = new Uint8Array(0x1234).fill(5);
  t.same(frameAad(long, bytes(1, 2)), Buffer.concat([bytes(0x12, 0x34), long, bytes(2, 1, 2)]));
});

t.test('X-E3: what was metadata cannot be passed off as aad', async (t) => {
  t.notSame(frameAad(bytes(), bytes(1, 0, 0, 0, 1)), frameAad(bytes(1, 0, 0, 0, 1), null));
  t.notSame(frameAad(bytes(1), bytes(2)), frameAad(bytes(1, 2), null));
});

t.test('X-E3: lengths that do not fit are a bug', async (t) => {
  t.doesNotThrow(() => frameAad(new Uint8Array(0xffff), new Uint8Array(20)));
  t.throws(() => frameAad(new Uint8Array(0x1_0000), null));
  t.throws(() => frameAad(bytes(), new Uint8Array(256)));
});
