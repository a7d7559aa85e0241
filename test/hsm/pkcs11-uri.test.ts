import t from 'tap';
import { formatPkcs11Uri, parsePkcs11Uri } from '../../src/hsm/pkcs11-uri.js';

const base = 'pkcs11:token=xks?module-path=/usr/lib/libp11.so&pin-source=file:/etc/xksd/pin';

t.test('a URI names a token, a module and where the PIN comes from (RFC 7512 §2.3)', async (t) => {
  const parsed = parsePkcs11Uri(base);
  t.strictSame(parsed, {
    ok: true,
    value: {
      uri: {
        token: { label: 'xks', serial: null, manufacturer: null, model: null },
        modulePath: '/usr/lib/libp11.so',
        pinSource: { kind: 'file', path: '/etc/xksd/pin' },
      },
      warnings: [],
    },
  });
});

t.test('values are percent-decoded, as UTF-8', async (t) => {
  const parsed = parsePkcs11Uri(
    'pkcs11:token=The%20Vault%3b%c3%a9;serial=00%2F1;model=M:1?module-path=/opt/a%20b.so&pin-source=file:/p%26n',
  );
  t.match(parsed, {
    ok: true,
    value: {
      uri: {
        token: { label: 'The Vault;é', serial: '00/1', model: 'M:1' },
        modulePath: '/opt/a b.so',
        pinSource: { kind: 'file', path: '/p&n' },
      },
    },
  });
});

const pinSources: readonly (readonly [string, object])[] = [
  ['pin-source=file:///etc/pin', { kind: 'file', path: '/etc/pin' }],
  ['pin-source=credential:hsm-pin', { kind: 'credential', name: 'hsm-pin' }],
  ['pin-value=12%2034', { kind: 'value', pin: '12 34' }],
];
for (const [attribute, pinSource] of pinSources) {
  t.test(`the PIN comes from ${attribute}`, async (t) => {
    const parsed = parsePkcs11Uri(`pkcs11:serial=1?module-path=/m.so&${attribute}`);
    t.match(parsed, { ok: true, value: { uri: { pinSource } } });
  });
}

t.test('a module goes by path, by name or by both: who looks for it is told', async (t) => {
  for (const [query, naming] of [
    ['module-path=/m.so', { path: '/m.so', name: null }],
    ['module-name=softhsm2', { path: null, name: 'softhsm2' }],
    ['module-name=a%20b&module-path=/opt', { path: '/opt', name: 'a b' }],
  ] as const) {
    const asked: object[] = [];
    const parsed = parsePkcs11Uri(`pkcs11:token=a?${query}&pin-source=file:/p`, (wanted) => {
      asked.push(wanted);
      return { ok: true, value: { path: '/found.so', warning: 'look at this' } };
    });
    t.strictSame(asked, [naming]);
    t.match(parsed, { ok: true, value: { uri: { modulePath: '/found.so' }, warnings: ['look at this'] } });
  }
  const lost = parsePkcs11Uri('pkcs11:token=a?module-name=m&pin-source=file:/p', () => ({
    ok: false,
    error: 'there is none',
  }));
  t.strictSame(lost, { ok: false, error: 'there is none' });
});

t.test('pin-value works with a warning that does not repeat it', async (t) => {
  const parsed = parsePkcs11Uri('pkcs11:token=a?module-path=/m.so&pin-value=s3cret');
  t.ok(parsed.ok && parsed.value.warnings.length === 1);
  t.notMatch(JSON.stringify(parsed.ok && parsed.value.warnings), 's3cret');
});

const refused: readonly (readonly [what: string, uri: string, message: RegExp])[] = [
  ['another scheme', 'pkcs12:token=a', /does not start with "pkcs11:"/],
  ['no token', 'pkcs11:?module-path=/m.so&pin-source=file:/p', /names no token/],
  ['a slot number', base.replace('token=xks', 'slot-id=3'), /slot-id is refused: slot numbers drift/],
  ['a key', base.replace('token=xks', 'token=xks;object=k'), /object is refused: the URI names a token/],
  ['no module', 'pkcs11:token=a?pin-source=file:/p', /needs module-path/],
  ['a relative module', base.replace('/usr/lib/', ''), /not an absolute path/],
  ['no PIN', 'pkcs11:token=a?module-path=/m.so', /says nothing of the PIN/],
  ['a command for the PIN', base.replace('file:/etc/xksd/pin', '|/bin/getpin'), /command.*refused/],
  ['a bare path for the PIN', base.replace('file:', ''), /wants file:\/PATH or credential:NAME/],
  ['a file on another host', base.replace('file:/etc', 'file://host/etc'), /absolute path on this host/],
  ['a relative PIN file', base.replace('file:/etc/xksd/pin', 'file:pin'), /absolute path/],
  [
    'a credential with a path',
    base.replace('file:/etc/xksd/pin', 'credential:../x'),
    /name of a systemd credential/,
  ],
  ['both kinds of PIN', `${base}&pin-value=1`, /both pin-source and pin-value/],
  ['an attribute twice', base.replace('token=xks', 'token=xks;token=b'), /token appears twice/],
  ['an unknown attribute', base.replace('token=xks', 'token=xks;tokn=b'), /unknown attribute "tokn"/],
  [
    'an attribute on the wrong side',
    base.replace('token=xks', 'token=xks;module-path=/m'),
    /module-path belongs after the "\?"/,
  ],
  ['an empty value', base.replace('token=xks', 'token='), /token is empty/],
  ['a bare space', base.replace('token=xks', 'token=my token'), /must be percent-encoded/],
  ['a broken escape', base.replace('token=xks', 'token=%4'), /must be percent-encoded/],
  ['an escape that is not UTF-8', base.replace('token=xks', 'token=%ff'), /not UTF-8/],
  ['a NUL', base.replace('token=xks', 'token=a%00b'), /NUL/],
  ['an endless URI', `pkcs11:token=${'a'.repeat(5_000)}`, /longer than/],
];
for (const [what, uri, message] of refused) {
  t.test(`refused with the reason: ${what}`, async (t) => {
    const parsed = parsePkcs11Uri(uri);
    t.match(parsed, { ok: false, error: message });
  });
}

t.test('X-L2: no error repeats a PIN with a separator or a bad character in it', async (t) => {
  for (const pin of ['hun gry', 'hun&gry', 'hun%gry', 'hungry%00', 'hungry&pin-value=hungry']) {
    const parsed = parsePkcs11Uri(`pkcs11:token=a?module-path=/m.so&pin-value=${pin}`);
    t.equal(parsed.ok, false);
    t.notMatch(JSON.stringify(parsed), /hun|gry/);
  }
});

t.test('the URI is written back without the PIN, and reads as the same token', async (t) => {
  const uri = 'pkcs11:token=a%20%3B%3Db;serial=1?module-path=/m%20x.so&pin-value=s3cret';
  const parsed = parsePkcs11Uri(uri);
  if (!parsed.ok) throw new Error(parsed.error);
  const written = formatPkcs11Uri(parsed.value.uri);
  t.equal(written, 'pkcs11:token=a%20%3B%3Db;serial=1?module-path=/m%20x.so');
  const again = parsePkcs11Uri(`${written}&pin-source=file:/p`);
  t.strictSame(again.ok && again.value.uri.token, parsed.value.uri.token);
});

t.test('the rest of a PIN with separators in it is not taken for a name and shown', async (t) => {
  for (const pin of ['abc&hunter2=x', 'abc&x-hunter2=', 'abc&hunter2', 'a&b=c&hunter2=']) {
    const parsed = parsePkcs11Uri(`pkcs11:token=xks?module-path=/m.so&pin-value=${pin}`);
    t.match(parsed, { ok: false, error: '"&" in a' }, pin);
    t.notMatch(parsed, { error: /hunter2/ }, pin);
  }
  t.match(parsePkcs11Uri('pkcs11:token=xks?module-path=/m.so&pin-surce=file:/p'), {
    ok: false,
    error: 'the URI has an unknown attribute "pin-surce"',
  });
});

t.test('names that every object has are no attributes', async (t) => {
  for (const name of ['constructor', 'toString', 'valueOf']) {
    const unknown = { ok: false, error: `the URI has an unknown attribute "${name}"` };
    t.strictSame(parsePkcs11Uri(`pkcs11:${name}=1;token=xks`), unknown);
    t.strictSame(parsePkcs11Uri(`pkcs11:token=xks?${name}=1`), unknown);
  }
});

t.test(
  'whatever a URI holds, the error is one line without the PIN, and what is taken prints as itself',
  async (t) => {
    const pieces = [
      'pkcs11:',
      'token',
      '=',
      'xks',
      ';',
      '?',
      'module-path',
      '/m.so',
      '&',
      'pin-source',
      'file:/p',
      '%',
    ];
    pieces.push(
      '%00',
      '%C3%A9',
      '%FF',
      'é',
      '\n',
      '\0',
      '|',
      'slot-id',
      '__proto__',
      'constructor',
      '%2F',
      '%26',
    );
    // Deterministic: a linear congruential generator.
    let seed = 1;
    const next = (bound: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor((seed / 2_147_483_648) * bound);
    };
    const base = 'pkcs11:token=xks;serial=1?module-path=/m.so&pin-value=';
    for (let round = 0; round < 20_000; round++) {
      const pin = `A${pieces[next(pieces.length)]}hunter2${pieces[next(pieces.length)]}B=`;
      const cut = next(base.length);
      const damaged =
        next(3) === 0 ? base : `${base.slice(0, cut)}${pieces[next(pieces.length)]}${base.slice(cut)}`;
      // Where the name of the PIN is itself damaged nobody can tell what it is.
      if (!damaged.endsWith('&pin-value=')) continue;
      const parsed = parsePkcs11Uri(damaged + pin);
      if (!parsed.ok) {
        if (/\n|hunter2/.test(parsed.error)) t.fail(`${JSON.stringify(damaged + pin)}: ${parsed.error}`);
        continue;
      }
      const printed = formatPkcs11Uri(parsed.value.uri);
      const again = parsePkcs11Uri(`${printed}&pin-source=file:/p`);
      t.notMatch(printed, 'hunter2');
      if (!again.ok) t.fail(`${printed}: ${again.error}`);
      else t.strictSame({ ...again.value.uri, pinSource: null }, { ...parsed.value.uri, pinSource: null });
    }
  },
);
