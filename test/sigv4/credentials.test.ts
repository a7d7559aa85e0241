import t from 'tap';
import { systemRandom } from '../../src/base/random.js';
import {
  isAccessKeyId,
  isSecretAccessKey,
  mintAccessKeyId,
  mintSecretAccessKey,
} from '../../src/sigv4/credentials.js';

t.test('X-A2: what we mint is what KMS accepts', async (t) => {
  for (let round = 0; round < 200; round++) {
    t.match(mintAccessKeyId(systemRandom), /^[A-Z2-7]{26}$/);
    t.match(mintSecretAccessKey(systemRandom), /^[A-Za-z0-9/+]{48}$/);
  }
  t.ok(isAccessKeyId(mintAccessKeyId(systemRandom)));
  t.ok(isSecretAccessKey(mintSecretAccessKey(systemRandom)));
});

t.test('X-A2: ids and secrets take all of their randomness from the source', async (t) => {
  const counting = (lengths: number[]) => ({
    bytes: (length: number) => {
      lengths.push(length);
      return Uint8Array.from({ length }, (_, at) => at * 37);
    },
  });
  const lengths: number[] = [];
  t.equal(mintAccessKeyId(counting(lengths)), 'AFKPUZ6DINSX4BGLQV27EJOTY5');
  mintSecretAccessKey(counting(lengths));
  t.same(lengths, [26, 36], '26 letters of 5 bits; 288 bits of secret');
});

t.test('X-A2: lengths and characters', async (t) => {
  for (const length of [20, 26, 30]) t.ok(isAccessKeyId('A'.repeat(length)));
  for (const length of [0, 19, 31]) t.notOk(isAccessKeyId('A'.repeat(length)));
  for (const character of ['a', '0', '1', '8', '9', '/', '-', '\n', 'Ä']) {
    t.notOk(isAccessKeyId('A'.repeat(25) + character), JSON.stringify(character));
  }
  for (const length of [43, 44, 64]) t.ok(isSecretAccessKey('a'.repeat(length)));
  for (const length of [0, 42, 65]) t.notOk(isSecretAccessKey('a'.repeat(length)));
  for (const character of ['/', '+', '=', 'Z', '9']) t.ok(isSecretAccessKey('a'.repeat(43) + character));
  for (const character of [' ', '-', '_', '\n', 'ä']) t.notOk(isSecretAccessKey('a'.repeat(43) + character));
});
