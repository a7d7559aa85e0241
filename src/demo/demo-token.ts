import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { err, ok, type Result } from '../base/result.js';
import type { TokenAccess } from './partial-keys.js';
import { makeSoftHsmToken } from './softhsm-token.js';

export interface DemoTokenOptions {
  readonly directory: string;
  /** A module other than SoftHSM2's, `null` for that. */
  readonly module: string | null;
  readonly initArgs: string;
  /** The operator's own token; `null`: a throwaway SoftHSM2 token. */
  readonly token: { readonly label: string; readonly pinFile: string } | null;
}

/** The token that the demo uses, and what a node or another tool needs to find it. */
export interface DemoToken {
  readonly access: TokenAccess;
  readonly uri: string;
  /** `SOFTHSM2_CONF` for a throwaway token. */
  readonly environment: Readonly<Record<string, string>>;
  /** Whether the token outlives the demo: then only objects that the demo made are deleted from it. */
  readonly ownedByOperator: boolean;
}

const throwaway = { label: 'xksd-demo', pin: '648219', soPin: '1904827365' };

const encodeAttribute = (text: string): string => encodeURIComponent(text).replaceAll('%2F', '/');

/**
 * Opens the operator's token or makes a throwaway one. Never initialises a token that it did not create: a throwaway
 * token lies in a SoftHSM2 directory of the demo's own.
 */
export async function provideDemoToken(options: DemoTokenOptions): Promise<Result<DemoToken, string>> {
  if (options.token !== null) {
    if (options.module === null) return err('--token needs --module PATH: whose token is it?');
    const { label, pinFile } = options.token;
    let pin: string;
    try {
      pin = readFileSync(pinFile, 'utf8').replace(/\r?\n$/, '');
    } catch {
      return err(`--pin-file ${pinFile} cannot be read`);
    }
    return ok({
      access: { modulePath: options.module, initArgs: options.initArgs, tokenLabel: label, pin },
      uri: tokenUri(label, options.module, pinFile),
      environment: {},
      ownedByOperator: true,
    });
  }
  const { label, pin, soPin } = throwaway;
  const made = await makeSoftHsmToken({ directory: join(options.directory, 'softhsm'), label, pin, soPin });
  const pinFile = join(options.directory, 'pin');
  writeFileSync(pinFile, `${pin}\n`, { mode: 0o600 });
  const modulePath = options.module ?? made.modulePath;
  return ok({
    access: { modulePath, initArgs: options.initArgs, tokenLabel: label, pin },
    uri: tokenUri(label, modulePath, pinFile),
    environment: made.env,
    ownedByOperator: false,
  });
}

function tokenUri(label: string, modulePath: string, pinFile: string): string {
  return `pkcs11:token=${encodeAttribute(label)}?module-path=${encodeAttribute(modulePath)}&pin-source=file:${encodeAttribute(pinFile)}`;
}
