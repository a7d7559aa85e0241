import { realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { moduleFinder, p11KitPlaces } from '../hsm/p11-kit-files.js';
import { type FindModule, type Pkcs11Uri, parsePkcs11Uri } from '../hsm/pkcs11-uri.js';
import type { Config } from '../ops/config.js';

export type HsmConfig = Config['hsm'][number];

export interface NamedToken {
  readonly uri: Pkcs11Uri;
  readonly hsm: HsmConfig;
}

export interface HsmUris {
  readonly tokens: readonly NamedToken[];
  readonly warnings: readonly string[];
  /** For the operator; each keeps a node from working. */
  readonly problems: readonly string[];
}

/** Where this host's modules are installed. */
const findInstalled: FindModule = (naming) =>
  moduleFinder(p11KitPlaces(process.env, process.getuid?.() ?? 0, homeDirectory()))(naming);

/** `null` without `$HOME` and without an entry in passwd(5). */
function homeDirectory(): string | null {
  try {
    return homedir() || null;
  } catch {
    return null;
  }
}

/** The tokens that `[[hsm]]` names, and what is wrong with the names, alone and together. Loads no module. */
export function readHsmUris(hsms: readonly HsmConfig[], findModule: FindModule = findInstalled): HsmUris {
  const tokens: NamedToken[] = [];
  const warnings: string[] = [];
  const problems: string[] = [];
  for (const hsm of hsms) {
    const parsed = parsePkcs11Uri(hsm.uri, findModule);
    if (!parsed.ok) {
      problems.push(`[[hsm]] uri: ${parsed.error}`);
      continue;
    }
    warnings.push(...parsed.value.warnings);
    tokens.push({ uri: parsed.value.uri, hsm });
  }
  tokens.forEach((one, index) => {
    for (const other of tokens.slice(index + 1)) {
      const problem = conflict(one, other);
      if (problem !== null) problems.push(problem);
    }
  });
  return { tokens, warnings, problems };
}

function conflict(one: NamedToken, other: NamedToken): string | null {
  if (modulePathOf(one) !== modulePathOf(other)) return null;
  if (one.hsm.initArgs !== other.hsm.initArgs) {
    // C_Initialize comes once for each module in a process.
    return `[[hsm]] init_args: two sections with the module ${one.uri.modulePath} give it different ones; let each have a copy of the module with a path of its own`;
  }
  const fields = ['label', 'serial', 'manufacturer', 'model'] as const;
  const mayBeTheSame = fields.every((field) => {
    const [left, right] = [one.uri.token[field], other.uri.token[field]];
    return left === null || right === null || left === right;
  });
  return mayBeTheSame
    ? `[[hsm]] uri: two sections may mean the same token of ${one.uri.modulePath}; tell them apart by token= or serial= in both`
    : null;
}

/** As the addon counts references to modules. */
function modulePathOf({ uri }: NamedToken): string {
  try {
    return realpathSync(uri.modulePath);
  } catch {
    return uri.modulePath;
  }
}
