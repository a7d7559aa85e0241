import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { err, ok, type Result } from '../base/result.js';
import { readSmallFile, SmallFileError } from '../base/small-file.js';
import {
  findModule,
  moduleInDirectory,
  moduleOfFile,
  type P11KitDirectory,
  type P11KitFile,
  type P11KitSettings,
  parseP11KitFile,
  userConfigMode,
} from './p11-kit.js';
import type { FindModule } from './pkcs11-uri.js';

/** Where p11-kit keeps its configuration (pkcs11.conf(5), _Configuration files_). */
export interface P11KitPlaces {
  readonly systemConfig: string;
  /** The administrator's, whose values count before those of packages. */
  readonly systemModules: string;
  readonly packageModules: string;
  /** `null` where the user has none that counts. */
  readonly userDirectory: string | null;
  /** What relative module paths are relative to; p11-kit is built with one of them. */
  readonly moduleDirectories: readonly string[];
}

/** Bytes; p11-kit's files have a few lines. */
const fileBytesMax = 65_536;

/**
 * p11-kit's own places. Like it, leaves out the configuration of root (whoever may write to a home directory must not
 * decide what runs as root), and that of a user who has set `P11_KIT_NO_USER_CONFIG`.
 *
 * @param home of this user, `$HOME` before passwd(5); `null` where there is none.
 */
export function p11KitPlaces(
  environment: { readonly [name: string]: string | undefined },
  userId: number,
  home: string | null,
): P11KitPlaces {
  const configHome = environment['XDG_CONFIG_HOME'] || (home === null ? null : join(home, '.config'));
  const counts = userId !== 0 && environment['P11_KIT_NO_USER_CONFIG'] === undefined;
  const triplet = `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
  return {
    systemConfig: '/etc/pkcs11/pkcs11.conf',
    systemModules: '/etc/pkcs11/modules',
    packageModules: '/usr/share/p11-kit/modules',
    userDirectory: counts && configHome !== null ? join(configHome, 'pkcs11') : null,
    // Debian's, Fedora's, Arch's.
    moduleDirectories: [`/usr/lib/${triplet}/pkcs11`, '/usr/lib64/pkcs11', '/usr/lib/pkcs11'],
  };
}

/** Finds modules by a path, by the name of one of p11-kit's modules, or by a name in a directory. Loads none. */
export function moduleFinder(places: P11KitPlaces): FindModule {
  return ({ path, name }) => {
    if (path === null) return findConfigured(name, places);
    if (!isDirectory(path)) {
      // RFC 7512 §2.3: the path says it all.
      const warning = `module-name=${name} is not looked at, as module-path names a file`;
      return ok({ path, warning: name === null ? null : warning });
    }
    if (name === null)
      return err(`module-path=${path} is a directory; add module-name=NAME, or name the file`);
    const names = attempt(() => readdirSync(path), [], []);
    if (!names.ok) return err(`module-path=${path} ${names.error}`);
    const found = moduleInDirectory(name, path, names.value);
    return found.ok ? ok({ path: found.value, warning: null }) : found;
  };
}

function findConfigured(name: string, places: P11KitPlaces): ReturnType<FindModule> {
  const directories = configuredDirectories(places);
  if (!directories.ok) return directories;
  const paths = findModule(name, directories.value, places.moduleDirectories);
  if (!paths.ok) return paths;
  const path = paths.value.find((candidate) => existsSync(candidate));
  return path === undefined
    ? err(`the module "${name}" of p11-kit is not installed: there is no ${paths.value.join(', ')}`)
    : ok({ path, warning: null });
}

function configuredDirectories(places: P11KitPlaces): Result<readonly P11KitDirectory[], string> {
  const { systemConfig, systemModules, packageModules, userDirectory } = places;
  const system = readSettings(systemConfig, []);
  if (!system.ok) return err(`p11-kit's file ${systemConfig}: ${system.error}`);
  const userConfig = userDirectory === null ? null : join(userDirectory, 'pkcs11.conf');
  const user = userConfig === null ? ok(new Map<string, string>()) : readSettings(userConfig, userRefusals);
  if (!user.ok) return err(`p11-kit's file ${userConfig}: ${user.error}`);
  const mode = userConfigMode(system.value, user.value);
  if (!mode.ok) return err(`p11-kit's global configuration: ${mode.error}`);
  const wanted: (readonly [directory: string, refusals: readonly string[]])[] = [];
  if (userDirectory !== null && mode.value !== 'none')
    wanted.push([join(userDirectory, 'modules'), userRefusals]);
  if (userDirectory === null || mode.value !== 'only') wanted.push([systemModules, []], [packageModules, []]);
  const directories: P11KitDirectory[] = [];
  for (const [directory, refusals] of wanted) {
    const read = readDirectory(directory, refusals);
    if (!read.ok) return err(`p11-kit's directory ${directory}: ${read.error}`);
    directories.push(read.value);
  }
  return ok(directories);
}

/** A service may have been denied the home directory: then nothing is there. */
const userRefusals: readonly string[] = ['EACCES', 'EPERM'];

function readDirectory(directory: string, refusals: readonly string[]): Result<P11KitDirectory, string> {
  const names = attempt(() => readdirSync(directory), [], [...absent, ...refusals]);
  if (!names.ok) return names;
  const files = new Map<string, P11KitFile>();
  for (const name of names.value) {
    const module = moduleOfFile(name);
    const path = join(directory, name);
    if (module === null || isDirectory(path)) continue;
    files.set(module, { path, settings: readNamed(path, refusals) });
  }
  return ok(files);
}

function readSettings(path: string, refusals: readonly string[]): Result<P11KitSettings, string> {
  return readNamed(path, [...absent, ...refusals]);
}

/** Of a file that a directory names: where it is not, it is a link to nowhere. */
function readNamed(path: string, refusals: readonly string[]): Result<P11KitSettings, string> {
  const text = attempt(() => readSmallFile(path, fileBytesMax).bytes.toString('utf8'), '', refusals);
  return text.ok ? parseP11KitFile(text.value) : text;
}

const absent: readonly string[] = ['ENOENT', 'ENOTDIR'];

/** @param unless codes of errors with which it is as if it were empty. */
function attempt<T>(read: () => T, empty: T, unless: readonly string[]): Result<T, string> {
  try {
    return ok(read());
  } catch (thrown) {
    if (thrown instanceof SmallFileError) return err(`it is ${thrown.message}`);
    const { code = 'unknown error' } = thrown as NodeJS.ErrnoException;
    return unless.includes(code) ? ok(empty) : err(`cannot be read: ${code}`);
  }
}

/** What cannot be looked at is left to whoever opens it. */
function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
