import t from 'tap';
import { mintRequestId, parseRequestId } from '../../src/keystate/request-id.js';

const random = Uint8Array.from({ length: 10 }, (_, place) => place);

t.test('a request id says when it was minted, and ids are in order of time', async (t) => {
  const id = mintRequestId(1_760_000_000_000, random);
  t.equal(id, '0199c82cc000-00010203040506070809');
  t.strictSame(parseRequestId(id), { mintedAtMs: 1_760_000_000_000 });
  t.strictSame(parseRequestId(mintRequestId(0, random)), { mintedAtMs: 0 });
  const last = mintRequestId(2 ** 48 - 1, random);
  t.strictSame(parseRequestId(last), { mintedAtMs: 2 ** 48 - 1 });
  const times = [0, 1, 15, 16, 4_095, 1_760_000_000_000, 1_760_000_000_001, 2 ** 48 - 1];
  const ids = times.map((atMs) => mintRequestId(atMs, random));
  t.strictSame(ids.toSorted(), ids);
});

t.test('nothing else is a request id', async (t) => {
  const id = mintRequestId(1_760_000_000_000, random);
  for (const other of [
    '',
    'r-1',
    '6f1c0c8f0e5c4a5bb0a5a3c1f1a9d6e2',
    id.toUpperCase(),
    `${id}0`,
    id.slice(1),
    id.replace('-', ''),
    ` ${id}`,
    `${id}\n`,
  ]) {
    t.equal(parseRequestId(other), null, JSON.stringify(other));
  }
  t.throws(() => mintRequestId(-1, random), /no time/);
  t.throws(() => mintRequestId(2 ** 48, random), /no time/);
  t.throws(() => mintRequestId(1.5, random), /no time/);
  t.throws(() => mintRequestId(1, new Uint8Array(9)), /9 random bytes/);
});
