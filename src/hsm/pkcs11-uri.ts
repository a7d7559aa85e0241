import { isAbsolute } from 'node:path';
import { err, ok, type Result } from '../base/result.js';

/** Where the PIN comes from. */
export type PinSource =
  | { readonly kind: 'file'; readonly path: string }
  /** `$CREDENTIALS_DIRECTORY/NAME` (systemd.exec(5), LoadCredential=). */
  | { readonly kind: 'credential'; readonly name: string }
  | { readonly kind: 'value'; readonly pin: string };

/** Which token of a module; what is `null` may be anything. At least one of `label` and `serial` is given. */
export interface TokenSelector {
  /** CK_TOKEN_INFO.label, trimmed. */
  readonly label: string | null;
  /** CK_TOKEN_INFO.serialNumber, trimmed. */
  readonly serial: string | null;
  readonly manufacturer: string | null;
  readonly model: string | null;
}

/** A `pkcs11:` URI (RFC 7512) that names one token of one module. */
export interface Pkcs11Uri {
  readonly token: TokenSelector;
  /** Absolute. */
  readonly modulePath: string;
  readonly pinSource: PinSource;
}

export interface ParsedPkcs11Uri {
  readonly uri: Pkcs11Uri;
  /** For the operator; never hold the PIN. */
  readonly warnings: readonly string[];
}

const uriCharactersMax = 4_096;

const pathAttributes: Readonly<Record<string, keyof TokenSelector>> = {
  token: 'label',
  serial: 'serial',
  manufacturer: 'manufacturer',
  model: 'model',
};

/** Attributes of RFC 7512 §2.3 that we know and refuse, and why. */
const refusedAttributes: Readonly<Record<string, string>> = {
  'slot-id': 'slot numbers drift over restarts; name the token by token=LABEL or serial=SERIAL',
  object: 'the URI names a token; keys are named to "xksctl key add"',
  type: 'the URI names a token; keys are named to "xksctl key add"',
  id: 'the URI names a token; keys are named to "xksctl key add"',
  'slot-description': 'name the token by token=LABEL or serial=SERIAL',
  'slot-manufacturer': 'name the token by token=LABEL or serial=SERIAL',
  'library-description': 'name the module by module-path=/PATH or module-name=NAME',
  'library-manufacturer': 'name the module by module-path=/PATH or module-name=NAME',
  'library-version': 'name the module by module-path=/PATH or module-name=NAME',
};

const queryAttributes: ReadonlySet<string> = new Set([
  'module-path',
  'module-name',
  'pin-source',
  'pin-value',
]);

/** How a URI names its module: by one of the two, or by both. */
export type ModuleNaming =
  | { readonly path: string; readonly name: string | null }
  | { readonly path: null; readonly name: string };

/** Finds the file of a module; the error is a sentence for the operator. An absolute path. */
export type FindModule = (
  naming: ModuleNaming,
) => Result<{ readonly path: string; readonly warning: string | null }, string>;

/** For URIs that name a file. */
const namedFile: FindModule = ({ path, name }) =>
  path === null ? err(`nobody is there to look for the module "${name}"`) : ok({ path, warning: null });

/**
 * Parses a URI. The error is one sentence for the operator and never repeats the PIN.
 *
 * @param findModule looks where modules are installed: a URI with `module-name` needs it.
 */
export function parsePkcs11Uri(
  text: string,
  findModule: FindModule = namedFile,
): Result<ParsedPkcs11Uri, string> {
  if (text.length > uriCharactersMax) return err(`the URI is longer than ${uriCharactersMax} characters`);
  if (!text.startsWith('pkcs11:')) return err('the URI does not start with "pkcs11:" (RFC 7512)');
  const rest = text.slice('pkcs11:'.length);
  const questionMark = rest.indexOf('?');
  const path = questionMark < 0 ? rest : rest.slice(0, questionMark);
  const query = questionMark < 0 ? '' : rest.slice(questionMark + 1);

  const pathValues = parseAttributes(path, ';', (name) => Object.hasOwn(pathAttributes, name), 'path');
  if (!pathValues.ok) return pathValues;
  const queryValues = parseAttributes(query, '&', (name) => queryAttributes.has(name), 'query');
  if (!queryValues.ok) return queryValues;

  const token: TokenSelector = {
    label: pathValues.value.get('token') ?? null,
    serial: pathValues.value.get('serial') ?? null,
    manufacturer: pathValues.value.get('manufacturer') ?? null,
    model: pathValues.value.get('model') ?? null,
  };
  if (token.label === null && token.serial === null) {
    return err('the URI names no token: it needs token=LABEL or serial=SERIAL');
  }
  const pinSource = parsePin(queryValues.value);
  if (!pinSource.ok) return pinSource;
  const naming = parseModule(queryValues.value);
  if (!naming.ok) return naming;
  const module = findModule(naming.value);
  if (!module.ok) return module;
  const warnings = module.value.warning === null ? [] : [module.value.warning];
  if (pinSource.value.kind === 'value') {
    warnings.push(
      'pin-value puts the PIN into the configuration; pin-source=file:/PATH or pin-source=credential:NAME keeps it out',
    );
  }
  return ok({ uri: { token, modulePath: module.value.path, pinSource: pinSource.value }, warnings });
}

function parseModule(query: ReadonlyMap<string, string>): Result<ModuleNaming, string> {
  const path = query.get('module-path');
  const name = query.get('module-name') ?? null;
  if (path !== undefined) {
    return isAbsolute(path) ? ok({ path, name }) : err(`module-path=${path} is not an absolute path`);
  }
  return name === null
    ? err('the URI names no module: it needs module-path=/PATH or module-name=NAME after the "?"')
    : ok({ path: null, name });
}

function parsePin(query: ReadonlyMap<string, string>): Result<PinSource, string> {
  const pin = query.get('pin-value');
  const source = query.get('pin-source');
  // RFC 7512 §2.4: both together must be refused.
  if (pin !== undefined && source !== undefined)
    return err('the URI has both pin-source and pin-value; one is enough');
  if (pin !== undefined) return ok({ kind: 'value', pin });
  if (source === undefined) return err('the URI says nothing of the PIN: it needs pin-source=file:/PATH');
  if (source.startsWith('|'))
    return err('pin-source with a command ("|…") is refused; use pin-source=file:/PATH');
  if (source.startsWith('credential:')) {
    const name = source.slice('credential:'.length);
    // systemd.exec(5): a credential's name is a file name.
    return /^[A-Za-z0-9_.:-]{1,255}$/.test(name) && name !== '.' && name !== '..'
      ? ok({ kind: 'credential', name })
      : err('pin-source=credential: wants the name of a systemd credential, such as credential:hsm-pin');
  }
  if (!source.startsWith('file:')) {
    return err('pin-source wants file:/PATH or credential:NAME');
  }
  const path = source.slice('file:'.length).replace(/^\/\/(?=\/)/, '');
  return isAbsolute(path) && !path.startsWith('//')
    ? ok({ kind: 'file', path })
    : err('pin-source=file: wants an absolute path on this host');
}

function parseAttributes(
  text: string,
  separator: string,
  known: (name: string) => boolean,
  part: 'path' | 'query',
): Result<ReadonlyMap<string, string>, string> {
  const values = new Map<string, string>();
  if (text === '') return ok(values);
  for (const attribute of text.split(separator)) {
    const equals = attribute.indexOf('=');
    // Nothing of the attribute is repeated: it may be a PIN with a separator in it.
    if (equals <= 0)
      return err(
        `the URI's ${part} has a part that is not NAME=VALUE; "${separator}" in a value is written ${encodeCharacter(separator)}`,
      );
    const name = attribute.slice(0, equals);
    const why = Object.hasOwn(refusedAttributes, name) ? refusedAttributes[name] : undefined;
    if (why !== undefined) return err(`${name} is refused: ${why}`);
    if (!known(name)) {
      const elsewhere = part === 'path' ? queryAttributes.has(name) : Object.hasOwn(pathAttributes, name);
      if (elsewhere) return err(`${name} belongs ${part === 'path' ? 'after' : 'before'} the "?"`);
      // What stands behind a PIN may be the rest of it.
      if (values.has('pin-value')) {
        return err(
          `the URI has an unknown attribute after pin-value; "&" in a PIN is written ${encodeCharacter('&')}`,
        );
      }
      const nameShown = /^[a-z0-9-]{1,64}$/i.test(name) ? `"${name}"` : 'whose name has odd characters';
      return err(`the URI has an unknown attribute ${nameShown}`);
    }
    // RFC 7512 §2.3: an attribute must not appear twice in the path. In the query it could only contradict itself.
    if (values.has(name)) return err(`${name} appears twice`);
    const value = percentDecode(attribute.slice(equals + 1), part);
    if (!value.ok) return err(`${name} ${value.error}`);
    if (value.value === '') return err(`${name} is empty`);
    values.set(name, value.value);
  }
  return ok(values);
}

/** RFC 7512 §2.3: `pk11-pchar` and `pk11-qchar`, the characters that need no percent-encoding. */
const plainCharacters = {
  path: /^(?:[A-Za-z0-9._~:[\]@!$'()*+,=&-]|%[0-9A-Fa-f]{2})*$/,
  query: /^(?:[A-Za-z0-9._~:[\]@!$'()*+,=/?|-]|%[0-9A-Fa-f]{2})*$/,
} as const;

function percentDecode(text: string, part: 'path' | 'query'): Result<string, string> {
  if (!plainCharacters[part].test(text)) {
    return err('has a character that must be percent-encoded (a space is %20, "/" in a label %2F, "%" %25)');
  }
  let decoded: string;
  try {
    decoded = decodeURIComponent(text);
  } catch {
    return err('is not UTF-8');
  }
  return decoded.includes('\0') ? err('has a NUL in it') : ok(decoded);
}

/** The URI without the PIN and where it comes from: for status, logs and metrics. */
export function formatPkcs11Uri(uri: Pkcs11Uri): string {
  const path = Object.entries(pathAttributes)
    .map(([name, field]) => [name, uri.token[field]] as const)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}=${encodeURIComponent(value ?? '')}`)
    .join(';');
  const modulePath = uri.modulePath.split('/').map(encodeURIComponent).join('/');
  return `pkcs11:${path}?module-path=${modulePath}`;
}

function encodeCharacter(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
}
