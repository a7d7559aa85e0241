import t from 'tap';
import { holdsPlaintext } from '../../bench/driver/xks-messages.js';

t.test('a plaintext is found however its JSON is written, and no other is', async (t) => {
  for (const [body, plaintext, holds] of [
    ['{"plaintext":"AAE="}', 'AAE=', true],
    ['{"plaintext": "AAE\\u003d"}', 'AAE=', true],
    ['{"plaintext":"a\\/b="}', 'a/b=', true],
    ['{"plaintext":""}', '', true],
    ['{"plaintext":"AAE="}', '', false],
    ['{"plaintext":"BAAE="}', 'AAE=', false],
    ['{}', '', false],
    ['no JSON', 'AAE=', false],
  ] as const)
    t.equal(holdsPlaintext(Buffer.from(body), plaintext), holds, body);
});
