import t from 'tap';
import { base64Length, decodeBase64, encodeBase64, writeBase64 } from '../../src/base/bytes.js';
import { SeededRandom } from '../support/seeded-random.js';

t.test('RFC 4648 §10: test vectors', async (t) => {
  for (const [text, encoded] of [
    ['', ''],
    ['f', 'Zg=='],
    ['fo', 'Zm8='],
    ['foo', 'Zm9v'],
    ['foob', 'Zm9vYg=='],
    ['fooba', 'Zm9vYmE='],
    ['foobar', 'Zm9vYmFy'],
  ] as const) {
    t.equal(encodeBase64(Buffer.from(text)), encoded);
    t.same(decodeBase64(encoded), Buffer.from(text));
    const written = Buffer.alloc(encoded.length + 2, '.');
    t.equal(writeBase64(written, 1, Buffer.from(text)), 1 + encoded.length);
    t.equal(base64Length(text.length), encoded.length);
    t.equal(written.toString(), `.${encoded}.`);
  }
});

t.test('RFC 4648 §3.5, §4: only what an encoder writes is Base64', async (t) => {
  for (const text of [
    'Zg',
    'Zg=',
    'Zg===',
    'Zh==',
    'Zm9=',
    'Zm9v=',
    '=',
    '====',
    'Zg==Zg==',
    'Zm9v\n',
    ' Zm9v',
    'Z-_v',
    'Zm\u00e99',
  ]) {
    t.equal(decodeBase64(text), null, JSON.stringify(text));
  }
});

t.test('seeded round trips through both encoders', async (t) => {
  const random = new SeededRandom(1);
  for (let round = 0; round < 300; round++) {
    const bytes = random.bytes(random.integer(200));
    const encoded = encodeBase64(bytes);
    const written = Buffer.alloc(encoded.length);
    writeBase64(written, 0, bytes);
    if (written.toString() !== encoded || decodeBase64(encoded)?.compare(bytes) !== 0) t.fail(encoded);
  }
  t.end();
});
