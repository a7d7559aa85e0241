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

/** The verdict on a repeated name, by a parser that remembers all names of an object. Only for what is JSON. */
function repeatsName(text: string): boolean {
  let repeats = false;
  let at = 0;
  const skip = (): void => {
    while (/[ \t\r\n]/.test(text[at] ?? '')) at++;
  };
  const string = (): string => {
    const start = at++;
    while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
    at++;
    return JSON.parse(text.slice(start, at)) as string;
  };
  const value = (): void => {
    skip();
    if (text[at] === '"') string();
    else if (text[at] === '{' || text[at] === '[') {
      const close = text[at] === '{' ? '}' : ']';
      const names = new Set<string>();
      at++;
      for (skip(); text[at] !== close; skip()) {
        if (text[at] === ',') at++;
        skip();
        if (close === '}') {
          const name = string();
          repeats ||= names.has(name);
          names.add(name);
          skip();
          at++;
        }
        value();
      }
      at++;
    } else while (/[-+.\w]/.test(text[at] ?? '')) at++;
  };
  value();
  return repeats;
}

t.test(
  'X-X1: of what is JSON, 20,000 seeded objects: refused exactly where a name is repeated',
  async (t) => {
    const random = new SeededRandom(9);
    const names = [
      '"a"',
      '"b"',
      '"\\u0061"',
      '"a:"',
      '"\\"a"',
      '"__proto__"',
      '"1"',
      '"01"',
      '""',
      '"toString"',
    ];
    const space = (): string => random.text(random.integer(2), ' \n');
    const pick = (from: readonly string[]): string => from[random.integer(from.length)] ?? '';
    const value = (depth: number): string => {
      const kind = random.integer(depth > 3 ? 2 : 4);
      if (kind === 0) return pick(['1', 'null', 'true', '-1.5e3']);
      if (kind === 1) return pick([...names, '"{"', '"]:"', '"\\\\"']);
      const count = random.integer(4);
      const members = Array.from({ length: count }, () =>
        kind === 2
          ? `${space()}${pick(names)}${space()}:${space()}${value(depth + 1)}`
          : `${space()}${value(depth + 1)}`,
      ).join(`${space()},`);
      return kind === 2 ? `{${members}${space()}}` : `[${members}${space()}]`;
    };
    let refused = 0;
    for (let round = 0; round < 20_000; round++) {
      const text = `{"x":${value(0)},"y":${value(0)}}`;
      const expected = repeatsName(text);
      const result = parse(text);
      if (result.ok === expected) t.fail(text);
      if (result.ok && JSON.stringify(result.value) !== JSON.stringify(JSON.parse(text))) t.fail(text);
      if (!result.ok && result.error !== 'The body holds a field twice.') t.fail(`${result.error} ${text}`);
      if (expected) refused++;
    }
    t.ok(refused > 2_000 && refused < 18_000, `${refused} repeat a name`);
  },
);
