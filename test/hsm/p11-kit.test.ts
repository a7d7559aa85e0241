import t from 'tap';
import {
  findModule,
  moduleInDirectory,
  moduleOfFile,
  type P11KitDirectory,
  parseP11KitFile,
  userConfigMode,
} from '../../src/hsm/p11-kit.js';

const directory = (path: string, files: Readonly<Record<string, string>>): P11KitDirectory =>
  new Map(
    Object.entries(files).map(([module, text]) => [
      module,
      { path: `${path}/${module}.module`, settings: parseP11KitFile(text) },
    ]),
  );

t.test('a file has a name and a value on each line; blanks and comments go (pkcs11.conf(5))', async (t) => {
  const parsed = parseP11KitFile(
    '# one: two\n\n  module : /a b.so  \r\n\tenable-in:a, b\nx-odd: v # no comment: c\nmodule: /c.so\nempty:\n',
  );
  t.strictSame(parsed.ok && Object.fromEntries(parsed.value), {
    module: '/c.so',
    'enable-in': 'a, b',
    'x-odd': 'v # no comment: c',
    empty: '',
  });
  for (const [text, line] of [
    ['module: a\nmodule b', 2],
    ['[section]', 1],
    ['[a]: b', 1],
    [': a', 1],
  ] as const) {
    t.match(parseP11KitFile(text), { ok: false, error: new RegExp(`^line ${line} is not`) });
  }
});

t.test('only what C calls blank goes, and much of it costs little time', async (t) => {
  const parsed = parseP11KitFile(`module:\u00a0/a.so\u00a0 \n\v\fpriority\t:\t1\n${' '.repeat(60_000)}x: y`);
  t.strictSame(parsed.ok && [...parsed.value], [
    ['module', '\u00a0/a.so\u00a0'],
    ['priority', '1'],
    ['x', 'y'],
  ]);
  // p11-kit knows no line that goes on in the next, no quotes, no empty line with a mark in it.
  t.strictSame(parseP11KitFile('module: "a\\'), { ok: true, value: new Map([['module', '"a\\']]) });
  t.match(parseP11KitFile('\ufeff\nmodule: a'), { ok: false, error: /^line 1/ });
});

t.test('whatever a file holds, it is settings or one line about one of its lines', async (t) => {
  // Deterministic: a linear congruential generator over what matters to the syntax.
  const pieces = [
    'module',
    ':',
    ' ',
    '\n',
    '#',
    '[',
    ']',
    '\t',
    '\r',
    '/a.so',
    '\0',
    ',',
    '-----BEGIN x',
    'é',
    '\u2028',
  ];
  let seed = 1;
  const next = (bound: number): number => {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((seed / 2_147_483_648) * bound);
  };
  for (let round = 0; round < 3_000; round++) {
    const text = Array.from({ length: next(30) }, () => pieces[next(pieces.length)]).join('');
    const parsed = parseP11KitFile(text);
    if (!parsed.ok) {
      const line = Number(/^line (\d+) is not "name: value"$/.exec(parsed.error)?.[1]);
      if (!(line >= 1 && line <= text.split('\n').length)) t.fail(`${JSON.stringify(text)}: ${parsed.error}`);
      continue;
    }
    for (const [name, value] of parsed.value) {
      if (name === '' || /^[ \t]|[ \t]$|\n/.test(name + value)) t.fail(JSON.stringify([text, name, value]));
    }
    const found = findModule('m', [new Map([['m', { path: '/m', settings: parsed }]])], ['/d']);
    if (found.ok && !found.value.every((path) => path.startsWith('/') && !path.includes('\0')))
      t.fail(JSON.stringify([text, found.value]));
  }
});

t.test('a file is called NAME.module', async (t) => {
  for (const [file, module] of [
    ['softhsm2.module', 'softhsm2'],
    ['My_hsm-2.1.module', 'My_hsm-2.1'],
    ['softhsm2.module~', null],
    ['.hidden.module', null],
    ['softhsm2', null],
    ['.module', null],
    ['a b.module', null],
  ] as const) {
    t.equal(moduleOfFile(file), module, file);
  }
});

t.test('the user may decide on his own configuration, unless the system has', async (t) => {
  for (const [system, user, mode] of [
    ['', '', 'merge'],
    ['user-config: none', '', 'none'],
    ['user-config: none', 'user-config: only', 'none'],
    ['user-config: only', '', 'only'],
    ['user-config: merge', 'user-config: none', 'none'],
    ['', 'user-config: override', 'only'],
  ] as const) {
    const [ofSystem, ofUser] = [parseP11KitFile(system), parseP11KitFile(user)];
    if (!ofSystem.ok || !ofUser.ok) throw new Error('unreadable');
    t.strictSame(
      userConfigMode(ofSystem.value, ofUser.value),
      { ok: true, value: mode },
      `${system}|${user}`,
    );
  }
  t.match(userConfigMode(new Map([['user-config', 'maybe']]), new Map()), { ok: false, error: /"maybe"/ });
});

const system = directory('/etc', {
  luna: 'module: /usr/safenet/libCryptoki2.so\npriority: 3',
  SoftHSM2: 'module: softhsm.so',
  off: 'module:',
  pathless: 'critical: yes',
  theirs: 'module: a.so\nenable-in: ssh, p11-kit-proxy',
  ours: 'module: /o.so\nenable-in: ssh xksd\ndisable-in: xksd',
  not: 'module: a.so\ndisable-in: firefox,xksd',
  far: 'remote: |ssh far p11-kit remote /m.so',
  broken: 'module /m.so',
});
const places = ['/usr/lib/x/pkcs11', '/usr/lib64/pkcs11'];

t.test('a module is found by its name, and a relative path in the directories of modules', async (t) => {
  for (const [name, paths] of [
    ['luna', ['/usr/safenet/libCryptoki2.so']],
    // RFC 7512 §2.3: whatever the case.
    ['softhsm2', ['/usr/lib/x/pkcs11/softhsm.so', '/usr/lib64/pkcs11/softhsm.so']],
    // p11-kit goes by enable-in where there are both.
    ['ours', ['/o.so']],
  ] as const) {
    t.strictSame(findModule(name, [system], places), { ok: true, value: paths });
  }
});

t.test('what may not be used is said in a sentence', async (t) => {
  for (const [name, error] of [
    ['nshield', /knows no module "nshield": it knows SoftHSM2, broken, far, luna/],
    ['off', /"off" is switched off: "module:" is missing or blank in \/etc\/off\.module/],
    ['pathless', /"pathless" is switched off/],
    ['theirs', /for other programs: enable-in in \/etc\/theirs\.module does not name xksd/],
    ['not', /not for xksd: disable-in in \/etc\/not\.module names it/],
    ['far', /"far" is remote/],
    ['broken', /\/etc\/broken\.module: line 1 is not/],
  ] as const) {
    t.match(findModule(name, [system], places), { ok: false, error });
  }
  t.match(findModule('luna', [], places), { ok: false, error: /it knows none/ });
});

t.test('the first directory counts, setting by setting', async (t) => {
  const user = directory('/home', { luna: 'module:', SoftHSM2: 'disable-in: xksd', mine: 'module: /m.so' });
  t.match(findModule('luna', [user, system], places), {
    ok: false,
    error: /blank in \/home\/luna\.module and \/etc\/luna\.module/,
  });
  t.match(findModule('SoftHSM2', [user, system], places), { ok: false, error: /disable-in/ });
  t.strictSame(findModule('mine', [user, system], places), { ok: true, value: ['/m.so'] });
  t.strictSame(findModule('luna', [directory('/home', { luna: 'x-a: b' }), system], places), {
    ok: true,
    value: ['/usr/safenet/libCryptoki2.so'],
  });
});

t.test('a name that differs by case alone must be exact', async (t) => {
  const twins = directory('/etc', { Luna: 'module: /1.so', luna: 'module: /2.so' });
  t.strictSame(findModule('luna', [twins], places), { ok: true, value: ['/2.so'] });
  t.match(findModule('LUNA', [twins], places), { ok: false, error: /any of p11-kit's modules Luna, luna/ });
});

t.test('in a directory a module goes by its file, without lib and .so', async (t) => {
  const files = ['libsofthsm2.so', 'opensc-pkcs11.so', 'libsofthsm2.so.1', 'readme', 'a.so', 'liba.so'];
  t.strictSame(moduleInDirectory('SoftHSM2', '/d', files), { ok: true, value: '/d/libsofthsm2.so' });
  t.strictSame(moduleInDirectory('opensc-pkcs11', '/d', files), { ok: true, value: '/d/opensc-pkcs11.so' });
  t.match(moduleInDirectory('softhsm', '/d', files), {
    ok: false,
    error: /no softhsm\.so or libsofthsm\.so/,
  });
  t.match(moduleInDirectory('a', '/d', files), { ok: false, error: /any of a\.so, liba\.so/ });
});
