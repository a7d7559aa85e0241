import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { readHsmUris } from '../../src/serving/hsm-uris.js';

const hsm = (uri: string, initArgs = '') => ({
  uri,
  initArgs,
  profile: 'auto' as const,
  workers: 1,
  sessionsMax: 1,
});
const uriOf = (selector: string, module = '/opt/vendor.so'): string =>
  `pkcs11:${selector}?module-path=${module}&pin-source=file:/etc/xksd/pin`;

const problemsOf = (...hsms: ReturnType<typeof hsm>[]): readonly string[] => readHsmUris(hsms).problems;

t.test('several tokens: of one module or of several, as long as they are told apart', async (t) => {
  for (const [one, other] of [
    [uriOf('token=a'), uriOf('token=b')],
    [uriOf('serial=1'), uriOf('serial=2')],
    [uriOf('token=a;serial=1'), uriOf('token=a;serial=2')],
    [uriOf('token=a'), uriOf('token=a', '/opt/other.so')],
  ] as const) {
    t.strictSame(problemsOf(hsm(one), hsm(other)), []);
    t.equal(readHsmUris([hsm(one), hsm(other)]).tokens.length, 2);
  }
});

t.test('sections that may mean one token are refused', async (t) => {
  for (const [one, other] of [
    [uriOf('token=a'), uriOf('token=a')],
    [uriOf('token=a'), uriOf('serial=1')],
    [uriOf('token=a'), uriOf('token=a;serial=1')],
  ] as const) {
    t.match(problemsOf(hsm(one), hsm(other)), [/may mean the same token of \/opt\/vendor\.so/]);
  }
});

t.test('one module is known by its real path, and initialised in one way', async (t) => {
  const directory = t.testdir();
  const [real, link] = [join(directory, 'real.so'), join(directory, 'link.so')];
  writeFileSync(real, '');
  symlinkSync(real, link);
  t.match(problemsOf(hsm(uriOf('token=a', real)), hsm(uriOf('token=a', link))), [/may mean the same token/]);
  t.match(problemsOf(hsm(uriOf('token=a', real), 'x'), hsm(uriOf('token=b', link), 'y')), [
    /init_args: two sections with the module/,
  ]);
});

t.test('a module that p11-kit knows goes by its name, and is told from no other', async (t) => {
  const byName = 'pkcs11:token=a?module-name=softhsm2&pin-source=file:/etc/xksd/pin';
  const { tokens, problems } = readHsmUris([hsm(byName)]);
  t.strictSame(problems, []);
  const path = tokens[0]?.uri.modulePath ?? '';
  t.match(path, /\/libsofthsm2\.so$/);
  t.match(problemsOf(hsm(byName), hsm(uriOf('token=a', path))), [/may mean the same token/]);
  t.match(problemsOf(hsm(byName.replace('softhsm2', 'luna'))), [/p11-kit knows no module "luna": it knows/]);
});

t.test('every bad URI is told, and no PIN', async (t) => {
  const problems = problemsOf(hsm('pkcs11:token=a?pin-value=hunter2'), hsm('pkcs12:'));
  t.equal(problems.length, 2);
  t.notMatch(problems.join(), 'hunter2');
});
