import t from 'tap';
import { systemRandom } from '../../src/base/random.js';
import { mintAccessKeyId, mintSecretAccessKey } from '../../src/sigv4/credentials.js';

t.test('X-A2: what we mint is what KMS accepts', async (t) => {
  for (let round = 0; round < 200; round++) {
    t.match(mintAccessKeyId(systemRandom), /^[A-Z2-7]{26}$/);
    t.match(mintSecretAccessKey(systemRandom), /^[A-Za-z0-9/+]{48}$/);
  }
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
