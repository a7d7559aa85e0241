import { join } from 'node:path';
import { err, ok, type Result } from '../base/result.js';

/**
 * p11-kit's registry of PKCS#11 modules, pkcs11.conf(5): a configuration file `NAME.module` for each, in directories of
 * which the first one's values count. Pure; `p11-kit-files.ts` reads them.
 */

/** The settings of one file, by name. */
export type P11KitSettings = ReadonlyMap<string, string>;

/** A file as it was found. Damage counts only where the file is asked for: others must not suffer for it. */
export interface P11KitFile {
  readonly path: string;
  readonly settings: Result<P11KitSettings, string>;
}

/** The files of one directory, by the name of the module. */
export type P11KitDirectory = ReadonlyMap<string, P11KitFile>;

/** What p11-kit would call this program in `enable-in` and `disable-in`. */
const programName = 'xksd';
/** How many of the modules there are an error names. */
const modulesNamedMax = 20;

/** Without what C's isspace(3) calls blank around it: to p11-kit a no-break space is part of a value. */
function stripped(text: string): string {
  const isBlank = (place: number): boolean => ' \t\v\f\r'.includes(text.charAt(place));
  let [start, end] = [0, text.length];
  while (start < end && isBlank(start)) start++;
  while (start < end && isBlank(end - 1)) end--;
  return text.slice(start, end);
}

/** The lines of a file, `name: value` each. The error says which line is none. */
export function parseP11KitFile(text: string): Result<P11KitSettings, string> {
  const settings = new Map<string, string>();
  for (const [index, raw] of text.split('\n').entries()) {
    const line = stripped(raw);
    // A `#` after a value belongs to it.
    if (line === '' || line.startsWith('#')) continue;
    const colon = line.indexOf(':');
    if (colon <= 0 || line.startsWith('[')) return err(`line ${index + 1} is not "name: value"`);
    settings.set(stripped(line.slice(0, colon)), stripped(line.slice(colon + 1)));
  }
  return ok(settings);
}

/** The module that a file of this name configures; `null` for a file that is none of p11-kit's. */
export function moduleOfFile(fileName: string): string | null {
  return /^([A-Za-z0-9][A-Za-z0-9_.,-]*)\.module$/.exec(fileName)?.[1] ?? null;
}

/** Whether the user's own configuration counts: beside the system's, alone, or not at all. */
export type UserConfigMode = 'none' | 'merge' | 'only';

/** @param userSettings of the user's `pkcs11.conf`: it may decide against itself, unless the system has before. */
export function userConfigMode(
  system: P11KitSettings,
  userSettings: P11KitSettings,
): Result<UserConfigMode, string> {
  const ofSystem = modeIn(system, 'merge');
  return ofSystem.ok && ofSystem.value !== 'none' ? modeIn(userSettings, ofSystem.value) : ofSystem;
}

function modeIn(settings: P11KitSettings, unset: UserConfigMode): Result<UserConfigMode, string> {
  const mode = settings.get('user-config');
  if (mode === undefined) return ok(unset);
  // "override" is the older word for "only".
  if (mode === 'override') return ok('only');
  return mode === 'none' || mode === 'merge' || mode === 'only'
    ? ok(mode)
    : err(`user-config is "${mode}", not none, merge or only`);
}

/**
 * Where the module may lie: one absolute path, or one in each of p11-kit's module directories.
 *
 * @param name as in `module-name` (RFC 7512 §2.3: case does not count, but an exact match goes first).
 * @param directories the one whose values count first.
 * @param moduleDirectories what a relative `module:` is relative to.
 * @returns at least one path, or a sentence for the operator.
 */
export function findModule(
  name: string,
  directories: readonly P11KitDirectory[],
  moduleDirectories: readonly string[],
): Result<readonly string[], string> {
  const known = [...new Set(directories.flatMap((directory) => [...directory.keys()]))].sort();
  const alike = known.filter((other) => other.toLowerCase() === name.toLowerCase());
  const [found] = known.includes(name) ? [name] : alike;
  if (found === undefined) {
    const named = known.slice(0, modulesNamedMax).join(', ');
    const there =
      known.length === 0
        ? 'it knows none'
        : `it knows ${named}${known.length > modulesNamedMax ? ' and more' : ''}`;
    return err(`p11-kit knows no module "${name}": ${there}; \`p11-kit list-modules\` shows them`);
  }
  if (alike.length > 1 && found !== name) {
    return err(`"${name}" may be any of p11-kit's modules ${alike.join(', ')}; write it as one of them`);
  }
  const files = directories.flatMap((directory) => directory.get(found) ?? []);
  const settings = new Map<string, string>();
  for (const file of files) {
    if (!file.settings.ok) return err(`p11-kit's file ${file.path}: ${file.settings.error}`);
    for (const [setting, value] of file.settings.value) {
      if (!settings.has(setting)) settings.set(setting, value);
    }
  }
  const where = files.map(({ path }) => path).join(' and ');
  return pathsOf(settings, found, where, moduleDirectories);
}

function pathsOf(
  settings: P11KitSettings,
  name: string,
  where: string,
  moduleDirectories: readonly string[],
): Result<readonly string[], string> {
  const enabled = settings.get('enable-in');
  const disabled = settings.get('disable-in');
  // Where there are both, p11-kit goes by the first alone.
  if (enabled !== undefined && !namesOf(enabled).includes(programName)) {
    return err(
      `the module "${name}" is for other programs: enable-in in ${where} does not name ${programName}`,
    );
  }
  if (enabled === undefined && disabled !== undefined && namesOf(disabled).includes(programName)) {
    return err(`the module "${name}" is not for ${programName}: disable-in in ${where} names it`);
  }
  if (settings.has('remote')) {
    return err(
      `the module "${name}" is remote (${where}), and xksd loads modules itself; name a module-path such as that of p11-kit-client.so`,
    );
  }
  const path = settings.get('module') ?? '';
  if (path === '')
    return err(`the module "${name}" is switched off: "module:" is missing or blank in ${where}`);
  if (path.includes('\0')) return err(`the path of the module "${name}" has a NUL in it (${where})`);
  return ok(path.startsWith('/') ? [path] : moduleDirectories.map((directory) => join(directory, path)));
}

/** A list with commas and blanks between the names. */
const namesOf = (list: string): readonly string[] => list.split(/[\s,]+/);

/**
 * Which file of a directory is the module of this name: without `lib` before it or `.so` behind it, whatever its case
 * (RFC 7512 §2.3).
 */
export function moduleInDirectory(
  name: string,
  directory: string,
  fileNames: readonly string[],
): Result<string, string> {
  const bare = (text: string): string => text.toLowerCase().replace(/^lib|\.so$/g, '');
  const matching = fileNames.filter((file) => file.endsWith('.so') && bare(file) === bare(name));
  const [file] = matching;
  if (file === undefined) return err(`there is no ${name}.so or lib${name}.so in ${directory}`);
  return matching.length === 1
    ? ok(join(directory, file))
    : err(`"${name}" may be any of ${matching.join(', ')} in ${directory}; name the file by module-path`);
}
