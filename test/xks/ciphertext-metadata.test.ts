import t from 'tap';
import { decodeCiphertextMetadata, encodeCiphertextMetadata } from '../../src/xks/ciphertext-metadata.js';

t.test('X-E2a: 0x01 ‖ uint32be(key version)', async (t) => {
  t.same([...encodeCiphertextMetadata(1)], [1, 0, 0, 0, 1]);
  t.same([...encodeCiphertextMetadata(0x01020304)], [1, 1, 2, 3, 4]);
  for (const version of [1, 2, 255, 256, 65_536, 0xffff_ffff]) {
    t.equal(decodeCiphertextMetadata(encodeCiphertextMetadata(version)), version);
  }
  for (const version of [0, -1, 1.5, 2 ** 32, Number.NaN]) t.throws(() => encodeCiphertextMetadata(version));
});

t.test('X-E2a: without metadata it is version 1', async (t) => {
  t.equal(decodeCiphertextMetadata(null), 1);
});

t.test('X-E2a: a format or version that we never write is unknown', async (t) => {
  for (const bytes of [
    [],
    [1],
    [1, 0, 0, 1],
    [1, 0, 0, 0, 1, 0],
    [0, 0, 0, 0, 1],
    [2, 0, 0, 0, 1],
    [1, 0, 0, 0, 0],
  ]) {
    t.equal(decodeCiphertextMetadata(Uint8Array.from(bytes)), null, JSON.stringify(bytes));
  }
  const inside = Uint8Array.from([9, 9, 1, 0, 0, 0, 7, 9]).subarray(2, 7);
  t.equal(decodeCiphertextMetadata(inside), 7, 'a view into a longer buffer');
});
