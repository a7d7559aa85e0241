import { dirname, resolve } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import type { z } from 'zod';
import { errorText, isJsonObject } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import { readSmallFile } from '../base/small-file.js';
import { configSchema, configShape } from './config-schema.js';
import { nearestName } from './nearest-name.js';
import { stateSocketPath } from './state-link.js';

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;

/**
 * The configuration of a node, as read from its TOML file: defaults filled in, paths absolute, secrets not yet read.
 * `config-schema.ts` describes each setting.
 */
export type Config = DeepReadonly<z.output<ReturnType<typeof configSchema>>>;
export type ClusterConfig = NonNullable<Config['cluster']>;
export type LogLevel = Config['log']['level'];
/** An IPv4 or IPv6 literal; port 0: any free one. */
export type ListenAddress = Config['xks']['listen'];

/** Why a configuration cannot be used. Never holds a PIN. */
export interface ConfigError {
  /** One line: the file and all that is wrong with it. */
  readonly message: string;
}

/** Some hundred times what all settings take. */
const fileBytesMax = 1024 * 1024;
/** Of what is wrong, in a message. */
const shownCharactersMax = 100;
/** Things wrong, in a message; those after them are counted. */
const problemsMax = 20;

/** sockaddr_un's sun_path, without its NUL. */
const socketPathBytesMax = 107;

/** Reads and checks a configuration file. Relative paths in it start from where it lies. */
export function loadConfig(path: string): Result<Config, ConfigError> {
  const file = resolve(path);
  const failed = (problems: readonly string[]) => {
    const left = problems.length - problemsMax;
    const told = left > 0 ? [...problems.slice(0, problemsMax), `and ${left} more`] : problems;
    return err({ message: `configuration ${file}: ${told.join('; ')}` });
  };

  let source: string;
  let mode: number;
  try {
    const read = readSmallFile(file, fileBytesMax);
    mode = read.mode;
    source = decoder.decode(read.bytes);
  } catch (thrown) {
    return failed([unreadable(thrown)]);
  }
  let document: unknown;
  try {
    document = parse(source, { unsafeKeyBehaviour: 'throw' });
  } catch (thrown) {
    return failed([syntaxProblem(thrown)]);
  }
  const parsed = configSchema(dirname(file)).safeParse(document);
  if (!parsed.success) {
    const { issues } = parsed.error;
    const meant = new Set(issues.flatMap(meantPaths));
    // What is there under a misspelt name is said to be misspelt, not also to be missing.
    const told = issues.filter(({ path }) => !meant.has(path.join('.')));
    return failed(told.flatMap((issue) => describeIssue(issue, document)));
  }

  const problems = crossCheck(parsed.data);
  const holdsSecret = parsed.data.hsm.some((hsm) => hsm.uri.includes('pin-value'));
  if (holdsSecret && (mode & 0o004) !== 0) {
    problems.push(
      `it holds a PIN (pin-value) and everyone on this host can read it: run \`chmod o-rwx ${file}\`, or move the PIN to a file or systemd credential (pin-source)`,
    );
  }
  return problems.length === 0 ? ok(parsed.data) : failed(problems);
}

/** For processes that log in nowhere. */
export const withoutPins = (config: Config): Config => ({
  ...config,
  hsm: config.hsm.map((hsm) => ({ ...hsm, uri: hsm.uri.replaceAll(/pin-value=[^&]*/g, 'pin-value=') })),
});

/** A byte order mark is no part of the text. */
const decoder = new TextDecoder('utf-8', { fatal: true });

function unreadable(thrown: unknown): string {
  switch ((thrown as NodeJS.ErrnoException).code) {
    case 'ENOENT':
      return 'no such file (give its path with --config)';
    case 'EACCES':
      return `not readable by this user (uid ${process.getuid?.()})`;
    // TOML is UTF-8.
    case 'ERR_ENCODING_INVALID_ENCODED_DATA':
      return 'it is not UTF-8';
    default:
      return errorText(thrown);
  }
}

function syntaxProblem(thrown: unknown): string {
  if (!(thrown instanceof TomlError)) return errorText(thrown);
  // The message goes on with the lines around the place, which may hold a PIN.
  const [reason = ''] = thrown.message.split('\n');
  return `line ${thrown.line}, column ${thrown.column}: ${reason.replace('Invalid TOML document: ', '')}`;
}

/** Limits against each other, and what the kernel takes. */
function crossCheck(config: Config): string[] {
  const problems: string[] = [];
  if (config.hsm.length === 0) problems.push('no [[hsm]]: name the token that holds the keys');
  for (const [setting, path] of [
    ['[admin] socket', config.admin.socket],
    ['the state socket in [node] runtime_dir', stateSocketPath(config)],
  ] as const) {
    const bytes = Buffer.byteLength(path);
    if (bytes > socketPathBytesMax) {
      problems.push(
        `${setting} is ${bytes} bytes long (${path}); a unix socket's path has at most ${socketPathBytesMax}`,
      );
    }
  }
  const listeners = [
    ['[xks] listen', config.xks.listen],
    ['[health] listen', config.health.listen],
    ['[metrics] listen', config.metrics.listen],
    ...(config.cluster === null ? [] : [['[cluster] listen', config.cluster.listen] as const]),
  ] as const;
  listeners.forEach(([setting, listen], index) => {
    for (const [otherSetting, other] of listeners.slice(index + 1)) {
      if (collide(listen, other))
        problems.push(`${setting} and ${otherSetting} both take port ${listen.port}`);
    }
  });
  return problems;
}

function collide(one: ListenAddress, other: ListenAddress): boolean {
  const isWildcard = ({ address }: ListenAddress): boolean => address === '0.0.0.0' || address === '::';
  if (one.port !== other.port || one.port === 0) return false;
  return one.address === other.address || isWildcard(one) || isWildcard(other);
}

const sectionsOfAFile: Readonly<Record<string, object>> = configShape('/');

/** Names that may stand where `path` leads: sections, or the keys of one. */
const knownNames = ([section]: readonly PropertyKey[]): readonly string[] =>
  Object.keys(section === undefined ? sectionsOfAFile : (sectionsOfAFile[String(section)] ?? {}));

/** Where the unknown keys of an issue were meant to be, as far as their names tell. */
function meantPaths(issue: z.core.$ZodIssue): string[] {
  if (issue.code !== 'unrecognized_keys') return [];
  return issue.keys.flatMap((key) => {
    const nearest = nearestName(key, knownNames(issue.path));
    return nearest === null ? [] : [[...issue.path, nearest].join('.')];
  });
}

function describeIssue(issue: z.core.$ZodIssue, document: unknown): string[] {
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => describeUnknownKey(key, issue.path, document));
  const value = issue.path.reduce<unknown>(
    (outer, key) =>
      Array.isArray(outer) ? outer[Number(key)] : isJsonObject(outer) ? outer[String(key)] : undefined,
    document,
  );
  const setting = describePath(issue.path, document);
  if (value === undefined) {
    return issue.code === 'invalid_type'
      ? [`${setting} is missing`]
      : [`${setting} is missing, and its default does not do: it ${issue.message}`];
  }
  // A malformed URI may hold a PIN.
  const given = issue.path.includes('hsm') || typeof value === 'object' ? '' : `, not ${shown(value)}`;
  return [`${setting}${issue.path.length === 1 ? ':' : ''} ${issue.message}${given}`];
}

/** Quoted, so that it stays one line, whatever is in it. */
function shown(value: unknown): string {
  // TOML knows inf and nan; JSON doesn't.
  const whole = typeof value === 'number' ? String(value) : JSON.stringify(value);
  return whole.length > shownCharactersMax ? `${whole.slice(0, shownCharactersMax)}…` : whole;
}

/** Settings of former releases whose nearest name now means something else. */
const formerKeys = new Map([
  [
    '[[hsm]] sessions',
    'sessions are opened as the token needs them now; leave it out, or bound those of the whole node by "sessions_max"',
  ],
]);

function describeUnknownKey(key: string, path: readonly PropertyKey[], document: unknown): string {
  const known = knownNames(path);
  const unknown =
    path.length === 0
      ? `unknown key or section ${shown(key)}`
      : `unknown key ${shown(key)} in ${describePath(path, document)}`;
  const former = formerKeys.get(`${describePath(path)} ${key}`);
  if (former !== undefined) return `${unknown}: ${former}`;
  const elsewhere = Object.entries(sectionsOfAFile).find(([, keys]) => Object.hasOwn(keys, key));
  if (elsewhere !== undefined) return `${unknown}: did you mean ${describePath([elsewhere[0], key])}?`;
  const nearest = nearestName(key, known);
  if (nearest !== null) return `${unknown}: did you mean "${nearest}"?`;
  return `${unknown}; known are ${known.join(', ')}`;
}

/** `[xks] listen`, `[[hsm]] uri`; of several sections, `[[hsm]] 2 uri`. `document`: what the path leads through. */
function describePath(path: readonly PropertyKey[], document: unknown = null): string {
  const [section, ...rest] = path;
  const header = section === 'hsm' ? '[[hsm]]' : `[${String(section)}]`;
  const sections = section === 'hsm' && isJsonObject(document) ? document['hsm'] : null;
  const isOneOfSeveral = Array.isArray(sections) && sections.length > 1;
  const keys = rest.flatMap((key) =>
    typeof key !== 'number' ? [String(key)] : isOneOfSeveral ? [String(key + 1)] : [],
  );
  return [header, ...keys].join(' ');
}
