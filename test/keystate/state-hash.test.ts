import { createHash } from 'node:crypto';
import t from 'tap';
import { ObjectHash } from '../../src/keystate/object-hash.js';
import { StateHash } from '../../src/keystate/state-hash.js';
import { SeededRandom } from '../support/seeded-random.js';

const modulus = 2n ** 128n;

/** The same sum in big integers: the first 16 bytes of SHA-256, little-endian. */
function term(object: Uint8Array): bigint {
  const digest = createHash('sha256').update(object).digest().subarray(0, 16);
  return BigInt(`0x${Buffer.from(digest).reverse().toString('hex')}`);
}

t.test('the hash is the sum over a set, whatever came and went in which order', async (t) => {
  const random = new SeededRandom(7);
  const hash = new StateHash();
  const objects: Uint8Array[] = [];
  let sum = 0n;
  for (let count = 0; count < 3_000; count += 1) {
    const leaving =
      random.integer(3) === 0 ? objects.splice(random.integer(objects.length), 1)[0] : undefined;
    if (leaving === undefined) {
      const object = random.bytes(1 + random.integer(40));
      objects.push(object);
      hash.add(object);
      sum = (sum + term(object)) % modulus;
    } else {
      hash.remove(leaving);
      sum = (sum - term(leaving) + modulus) % modulus;
    }
    if (hash.hex() !== sum.toString(16).padStart(32, '0')) t.fail(`after ${count}`);
  }
  const other = new StateHash();
  for (const object of objects.toReversed()) other.add(object);
  t.equal(other.hex(), hash.hex());
  for (const object of objects) other.remove(object);
  t.equal(other.hex(), '0'.repeat(32));
  other.remove(Uint8Array.of(1));
  other.add(Uint8Array.of(1));
  t.equal(other.hex(), '0'.repeat(32), 'it borrows from beyond and gives back');
});

t.test('the active format counts as one object', async (t) => {
  const hash = new ObjectHash();
  const first = hash.hex();
  hash.setFormat(2);
  t.not(hash.hex(), first);
  hash.setFormat(3);
  const other = new ObjectHash();
  other.setFormat(3);
  t.equal(hash.hex(), other.hex(), 'whichever came before');
});

t.test('an object counts with its kind', async (t) => {
  const [one, other] = [new ObjectHash(), new ObjectHash()];
  const requestId = '0199c82cc000-00010203040506070809';
  one.add('requestFloor', { requestId });
  other.replace('requestFloor', null, { requestId });
  t.equal(one.hex(), other.hex());
  other.replace('requestFloor', { requestId }, { requestId: `${requestId}0` });
  t.not(one.hex(), other.hex());
  other.remove('requestFloor', { requestId: `${requestId}0` });
  t.equal(other.hex(), '0'.repeat(32));
});
