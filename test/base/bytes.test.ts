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

t.test('RFC 4648 §4: what is Base64 is what survives a round trip, whatever its length', async (t) => {
  const random = new SeededRandom(2);
  const characters = 'AZaz09+/=-_ \n\u0000\u00c1\u0141';
  let accepted = 0;
  for (let round = 0; round < 20_000; round++) {
    // On both sides of what is short.
    let text = Buffer.from(
      random.bytes(random.integer(4) === 0 ? 140 + random.integer(9) : random.integer(20)),
    ).toString('base64');
    for (let edits = random.integer(3); edits > 0; edits--) {
      const at = random.integer(text.length + 1);
      text =
        text.slice(0, at) + random.text(random.integer(3), characters) + text.slice(at + random.integer(3));
    }
    const decoded = Buffer.from(text, 'base64');
    const expected = decoded.toString('base64') === text ? decoded : null;
    const given = decodeBase64(text);
    if (given === null ? expected !== null : expected?.compare(given) !== 0) t.fail(JSON.stringify(text));
    if (given !== null) accepted++;
  }
  t.ok(accepted > 4_000 && accepted < 16_000, `${accepted} accepted`);
});

t.test('RFC 4648 §3.5: every end of a text, one character changed', async (t) => {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=';
  for (const before of ['', 'Zm9v', 'Zm9v'.repeat(60)]) {
    for (const first of alphabet) {
      for (const second of alphabet) {
        for (const end of [`A${first}${second}=`, `A${first}=${second}`, `${first}${second}==`]) {
          const text = before + end;
          const decoded = Buffer.from(text, 'base64');
          const expected = decoded.toString('base64') === text ? decoded.toString('hex') : null;
          if ((decodeBase64(text)?.toString('hex') ?? null) !== expected) t.fail(text);
        }
      }
    }
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
