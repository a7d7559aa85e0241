import t from 'tap';
import { parseJsonObject } from '../../src/xks/json.js';
import { SeededRandom } from '../support/seeded-random.js';

const parse = (text: string) => parseJsonObject(Buffer.from(text));

t.test('X-E1: one JSON object is taken as it is', async (t) => {
  for (const text of [
    '{}',
    ' \t\r\n{ "a" : 1 } \n',
    '{"a":{"a":{"a":[{"a":1},{"a":2}]}},"b":"a","c":["x","x"]}',
    '{"a":"\\"a\\":","b":"{[","c":"\\\\"}',
    '{"":1,"__proto__":{"x":1},"constructor":"y"}',
    '{"\\u0061":1,"A":2,"\\\\u0061":3}',
    '{"emoji":"😀","escaped":"\\ud83d\\ude00"}',
  ]) {
    t.same(parse(text), { ok: true, value: JSON.parse(text) }, text);
  }
});

t.test('X-X1: anything else is refused without quoting it', async (t) => {
  const secret = 'c2VjcmV0';
  for (const text of [
    '',
    ' ',
    'null',
    '[]',
    `"${secret}"`,
    '1',
    '{',
    '}',
    `{"plaintext":"${secret}"`,
    `{"plaintext":"${secret}}`,
    `{"plaintext":"${secret}"}}`,
    `{"plaintext":"${secret}"} x`,
    `{"plaintext":"${secret}"}{}`,
    `{"plaintext":"${secret}",}`,
    `{'plaintext':"${secret}"}`,
    `{plaintext:"${secret}"}`,
    `{"plaintext":"${secret}" /* */}`,
    `{"plaintext":"${secret}\n"}`,
    `{"plaintext":"${secret}\\x"}`,
    '{"a":01}',
    '{"a":NaN}',
    '{"a":1}\u0000',
    '\ufeff{"a":1}',
    '{"a":\u00a01}',
  ]) {
    const result = parse(text);
    t.equal(result.ok, false, JSON.stringify(text));
    t.notMatch(JSON.stringify(result), secret);
  }
});

t.test('X-X1: a body that is not UTF-8 is refused', async (t) => {
  for (const bytes of [[0xff], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82]]) {
    const body = Buffer.concat([Buffer.from('{"a":"'), Buffer.from(bytes), Buffer.from('"}')]);
    t.same(parseJsonObject(body), { ok: false, error: 'The body is not UTF-8.' }, body.toString('hex'));
  }
  const utf16 = Buffer.from('{"a":1}', 'utf16le');
  t.equal(parseJsonObject(utf16).ok, false);
});

t.test('X-X1: a field that is there twice is refused at any depth, however it is spelled', async (t) => {
  for (const text of [
    '{"a":1,"a":1}',
    '{"a":1,"b":{"x":[1,{"c":"}"}]},"a" \n :2}',
    '{"m":{"a":1,"a":2}}',
    '{"m":[{"a":1,"a":2}]}',
    '{"plaintext":"QQ==","pl\\u0061intext":"Qg=="}',
    '{"\\"":1,"\\u0022":2}',
    '{"__proto__":1,"__proto__":2}',
  ]) {
    t.same(parse(text), { ok: false, error: 'The body holds a field twice.' }, text);
  }
});

t.test('X-X1: nesting is bounded', async (t) => {
  const nested = (depth: number): string => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
  t.ok(parse(nested(16)).ok);
  t.same(parse(nested(17)), { ok: false, error: 'The body is nested too deeply.' });
  t.equal(parse(`{"a":${'['.repeat(65_000)}`).ok, false);
  t.equal(parse('{"a":'.repeat(13_000)).ok, false);
  t.ok(parse(`{"a":"${'[{'.repeat(30_000)}"}`).ok, 'brackets within strings do not count');
});

t.test('X-X1: agrees with JSON.parse on 3,000 seeded mutations', async (t) => {
  const random = new SeededRandom(7);
  const seed =
    '{"requestMetadata":{"kmsOperation":"Encrypt","x":[1,true,null,"\\u0041\\\\"]},"plaintext":"QUJD","n":-1.5e3}';
  const characters = '{}[]":,\\ \n0aeu-+.n\u00e9\u0001';
  let accepted = 0;
  for (let round = 0; round < 3_000; round++) {
    let text = seed;
    for (let edits = 1 + random.integer(2); edits > 0; edits--) {
      const at = random.integer(text.length);
      text =
        text.slice(0, at) + random.text(random.integer(3), characters) + text.slice(at + random.integer(3));
    }
    const result = parse(text);
    let expected: unknown;
    try {
      expected = JSON.parse(text);
    } catch {
      if (result.ok) t.fail(`accepted ${text}`);
      continue;
    }
    if (result.ok) {
      accepted++;
      if (JSON.stringify(result.value) !== JSON.stringify(expected)) t.fail(`changed ${text}`);
    } else if (result.error === 'The body is not JSON.') {
      t.fail(`refused ${text}`);
    }
  }
  t.ok(accepted > 100, `${accepted} still JSON`);
});
