import { resolve } from 'node:path';
import { Command } from 'commander';

export interface DemoOptions {
  /** Prove it and exit. */
  readonly once: boolean;
  readonly directory: string;
  readonly module: string | null;
  readonly initArgs: string;
  readonly token: { readonly label: string; readonly pinFile: string } | null;
}

/** Reads the demo's arguments; ends the process with status 2 where they make no sense. */
export function parseDemoOptions(argv: readonly string[], defaultDirectory: string): DemoOptions {
  const command = new Command('demo')
    .description(
      'Brings up xksd on loopback with a throwaway token, proves an encrypt and a decrypt, and stays up until Ctrl-C.',
    )
    .option('--once', 'prove the same and exit', false)
    .option('--directory <path>', 'where everything is kept; emptied at each start', defaultDirectory)
    .option('--module <path>', 'another PKCS#11 module than SoftHSM2')
    .option('--init-args <text>', "the module's initialisation arguments (NSS wants some)", '')
    .option('--token <label>', 'a token of your own, already initialised (needs --module and --pin-file)')
    .option('--pin-file <path>', "file with that token's user PIN")
    .exitOverride((failure) => process.exit(failure.exitCode === 0 ? 0 : 2));
  const options = command.parse([...argv], { from: 'user' }).opts<{
    once: boolean;
    directory: string;
    module?: string;
    initArgs: string;
    token?: string;
    pinFile?: string;
  }>();
  if ((options.token === undefined) !== (options.pinFile === undefined)) {
    command.error('error: --token and --pin-file go together');
  }
  const token =
    options.token === undefined || options.pinFile === undefined
      ? null
      : { label: options.token, pinFile: resolve(options.pinFile) };
  if (token !== null && options.module === undefined)
    command.error("error: --token needs --module, the token's module");
  return {
    once: options.once,
    directory: resolve(options.directory),
    module: options.module === undefined ? null : resolve(options.module),
    initArgs: options.initArgs,
    token,
  };
}
