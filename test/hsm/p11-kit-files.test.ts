import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { findSoftHsmModule } from '../../src/demo/softhsm-token.js';
import { moduleFinder, type P11KitPlaces, p11KitPlaces } from '../../src/hsm/p11-kit-files.js';

/** Names and paths as `p11-kit list-modules` gives them. */
function listed(
  environment: NodeJS.ProcessEnv = {},
  asUser: number | null = null,
): ReadonlyMap<string, string> {
  const command = ['p11-kit', 'list-modules'];
  if (asUser !== null) {
    command.unshift('setpriv', `--reuid=${asUser}`, `--regid=${asUser}`, '--clear-groups');
  }
  const [program = '', ...args] = command;
  const text = execFileSync(program, args, {
    encoding: 'utf8',
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return new Map(
    text.split('\n').flatMap((line) => {
      const [, name, path] = /^(\S+): (.+)$/.exec(line) ?? [];
      return name === undefined || path === undefined ? [] : [[name, path] as const];
    }),
  );
}

function found(places: P11KitPlaces, name: string): string {
  const result = moduleFinder(places)({ path: null, name });
  return result.ok ? result.value.path : `none: ${result.error}`;
}

/** p11-kit lists a relative path as it is written. */
const isSame = (path: string, listedPath: string): boolean =>
  listedPath.startsWith('/') ? path === listedPath : basename(path) === listedPath;

/** A directory that other users may read, too. */
function readableDirectory(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'xksd-p11-kit-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  chmodSync(directory, 0o755);
  return directory;
}

function softHsmConfiguration(directory: string): NodeJS.ProcessEnv {
  const [tokens, file] = [join(directory, 'tokens'), join(directory, 'softhsm2.conf')];
  mkdirSync(tokens);
  chmodSync(tokens, 0o777);
  writeFileSync(file, `directories.tokendir = ${tokens}\n`);
  return { SOFTHSM2_CONF: file };
}

t.test('what Debian packages install is found where p11-kit finds it', async (t) => {
  const environment = softHsmConfiguration(readableDirectory(t));
  const places = p11KitPlaces(process.env, process.getuid?.() ?? 0, homedir());
  const modules = listed(environment);
  t.ok(modules.has('softhsm2'), 'the file of the package softhsm2');
  t.ok(
    [...modules.values()].some((path) => !path.startsWith('/')),
    'some path is relative',
  );
  for (const [name, path] of modules) {
    const own = found(places, name);
    t.ok(isSame(own, path) && own.startsWith('/'), `${name}: ${path}, and we say ${own}`);
  }
  t.match(found(places, 'nshield'), /knows no module "nshield": it knows .*softhsm2/);
});

t.test('the user’s own configuration counts as it does for p11-kit, but for root', async (t) => {
  const home = readableDirectory(t);
  const environment = { ...softHsmConfiguration(home), HOME: home, XDG_CONFIG_HOME: '' };
  const modules = join(home, '.config/pkcs11/modules');
  mkdirSync(modules, { recursive: true });
  const own = join(home, 'own.so');
  // A link would be the same library, which p11-kit lists once.
  copyFileSync(findSoftHsmModule() ?? '', own);
  writeFileSync(join(modules, 'own.module'), `module: ${own}\nenable-in: p11-kit, xksd\n`);
  writeFileSync(join(modules, 'opensc-pkcs11.module'), 'module:\n');
  writeFileSync(join(modules, 'p11-kit-trust.module'), 'disable-in: p11-kit xksd\n');
  const isRoot = process.getuid?.() === 0;
  const nobody = 65_534;

  const placesOf = (userId: number): P11KitPlaces => p11KitPlaces(environment, userId, home);
  const agree = (places: P11KitPlaces, known: ReadonlyMap<string, string>): void => {
    for (const name of ['own', 'softhsm2', 'opensc-pkcs11', 'p11-kit-trust']) {
      const path = known.get(name);
      const ours = found(places, name);
      t.ok(path === undefined ? ours.startsWith('none: ') : isSame(ours, path), `${name}: ${path}, ${ours}`);
    }
  };
  const asUser = listed(environment, isRoot ? nobody : null);
  t.ok(asUser.has('own') && !asUser.has('opensc-pkcs11'), 'p11-kit reads the configuration of a user');
  agree(placesOf(nobody), asUser);
  if (isRoot) agree(placesOf(0), listed(environment));

  const only = join(home, '.config/pkcs11/pkcs11.conf');
  writeFileSync(only, 'user-config: only\n');
  agree(placesOf(nobody), listed(environment, isRoot ? nobody : null));
  writeFileSync(only, 'user-config: none\n');
  agree(placesOf(nobody), listed(environment, isRoot ? nobody : null));

  const elsewhere = p11KitPlaces({ XDG_CONFIG_HOME: '/nonexistent' }, nobody, home);
  t.equal(elsewhere.userDirectory, '/nonexistent/pkcs11');

  writeFileSync(only, '');
  const without = { ...environment, P11_KIT_NO_USER_CONFIG: '1' };
  agree(p11KitPlaces(without, nobody, home), listed(without, isRoot ? nobody : null));
  t.equal(p11KitPlaces({}, nobody, null).userDirectory, null, 'of a user without a home');
});

t.test(
  'the administrator’s file goes before that of the package, which may be damaged otherwise',
  async (t) => {
    const directory = t.testdir({
      etc: { 'hsm.module': 'module: gone.so' },
      usr: { 'hsm.module': `module: /other.so`, 'broken.module': 'nonsense', notes: 'nonsense' },
      'pkcs11.conf': '',
    });
    const places: P11KitPlaces = {
      systemConfig: join(directory, 'pkcs11.conf'),
      systemModules: join(directory, 'etc'),
      packageModules: join(directory, 'usr'),
      userDirectory: null,
      moduleDirectories: ['/nonexistent/a', '/nonexistent/b'],
    };
    t.match(found(places, 'hsm'), /not installed: there is no \/nonexistent\/a\/gone\.so, \/nonexistent\/b/);
    t.match(found(places, 'broken'), /usr\/broken\.module: line 1/);
    writeFileSync(places.systemConfig, 'user-config: sometimes');
    t.match(found(places, 'hsm'), /user-config is "sometimes"/);
    writeFileSync(join(places.systemModules, 'hsm.module'), 'x'.repeat(70_000));
    writeFileSync(places.systemConfig, '');
    t.match(found(places, 'hsm'), /longer than/);
    execFileSync('mkfifo', [join(places.systemModules, 'fifo.module')]);
    symlinkSync('/nonexistent', join(places.systemModules, 'link.module'));
    symlinkSync('/dev/zero', join(places.systemModules, 'endless.module'));
    writeFileSync(join(places.systemModules, 'hsm.module'), 'module: /bin/true');
    t.equal(found(places, 'hsm'), '/bin/true', 'none of them is in the way of another');
    t.match(found(places, 'fifo'), /etc\/fifo\.module: it is not a regular file/);
    t.match(found(places, 'endless'), /etc\/endless\.module: it is not a regular file/);
    t.match(found(places, 'link'), /etc\/link\.module: cannot be read: ENOENT/);
  },
);

t.test(
  'RFC 7512 §2.3: a path that is a file goes before the name, in a directory the name is looked for',
  async (t) => {
    const file = findSoftHsmModule() ?? '';
    const find = moduleFinder(p11KitPlaces({}, 0, '/root'));
    t.strictSame(find({ path: file, name: null }), { ok: true, value: { path: file, warning: null } });
    t.match(find({ path: file, name: 'opensc-pkcs11' }), {
      ok: true,
      value: { path: file, warning: /module-name=opensc-pkcs11 is not looked at/ },
    });
    t.match(find({ path: dirname(file), name: 'softhsm2' }), {
      ok: true,
      value: { path: file, warning: null },
    });
    t.match(find({ path: dirname(file), name: null }), {
      ok: false,
      error: /is a directory; add module-name/,
    });
    t.match(find({ path: dirname(file), name: 'x' }), { ok: false, error: /no x\.so or libx\.so/ });
  },
);
