import t from 'tap';
import { decodeJson, encodeJson, sharedListField } from '../../src/keystate/json-fields.js';
import { allocateShortBytes } from '../../src/keystate/short-bytes.js';

t.test('equal lists are read as one, up to a number of different ones', async (t) => {
  const field = sharedListField(4);
  const read = (list: readonly string[]): readonly string[] => {
    const decoded = decodeJson(field, encodeJson(field, list));
    if (!decoded.ok) throw new Error(decoded.error);
    t.strictSame(decoded.value, list);
    return decoded.value;
  };
  const first = read(['ENCRYPT', 'DECRYPT']);
  t.equal(read(['ENCRYPT', 'DECRYPT']), first);
  t.equal(field.fromJson(['ENCRYPT', 'DECRYPT']), first, 'on the long way too');
  t.not(read(['ENCRYPT,DECRYPT']), first);
  t.not(read(['DECRYPT', 'ENCRYPT']), first);
  for (let number = 0; number < 100; number += 1) read([String(number)]);
  t.not(read(['99']), read(['99']), 'not without end');
  t.equal(read(['ENCRYPT', 'DECRYPT']), first);
});

t.test('short byte strings share memory and no byte', async (t) => {
  const lengths = Array.from({ length: 2_000 }, (_, place) => (place * 7) % 300);
  const all = lengths.map((length) => allocateShortBytes(length));
  for (const [place, bytes] of all.entries()) {
    t.equal(bytes.byteLength, lengths[place]);
    if (bytes.some((byte) => byte !== 0)) t.fail(`number ${place} is another's too`);
    bytes.fill(1 + (place % 255));
  }
  const isWhole = (bytes: Uint8Array, place: number): boolean => bytes.every((b) => b === 1 + (place % 255));
  t.ok(all.every(isWhole));
  const memory = new Set(all.filter(({ byteLength }) => byteLength <= 256).map(({ buffer }) => buffer));
  t.ok(memory.size < 30, `${memory.size} pieces of memory`);
});
