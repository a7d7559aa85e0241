#!/usr/bin/env node
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { errorText } from '../base/guards.js';
import { loadConfig } from '../ops/config.js';
import { softwareVersion } from '../ops/version.js';
import { parseRequestId } from '../replica/admin-contract.js';
import { AdminClient } from './admin-client.js';
import { adminSocketVariable, defaultAdminSocket } from './admin-socket.js';
import { addClusterCommand } from './cluster-command.js';
import type { CommandContext } from './command-context.js';
import { CommandFailure, exitCodes, usageFailure } from './command-failure.js';
import { addCredentialCommand } from './credential-command.js';
import { addHsmCommand } from './hsm-command.js';
import { addKeyCommand } from './key-command.js';
import { addKeyStoreCommand } from './keystore-command.js';
import { addKmsConfigCommand } from './kms-config-command.js';
import { Output, type OutputFormat } from './output.js';
import { addStatusCommand } from './status-command.js';

interface GlobalOptions {
  readonly output: OutputFormat;
  readonly socket?: string;
  readonly config?: string;
  readonly requestId?: string;
}

/** What the command line says goes before the environment, and that before the default. */
function findAdminSocket({ socket, config }: GlobalOptions): string {
  if (socket !== undefined) return socket;
  if (config !== undefined) {
    const loaded = loadConfig(config);
    if (!loaded.ok) throw new CommandFailure('invalid', loaded.error.message, exitCodes.usage);
    return loaded.value.admin.socket;
  }
  const fromEnvironment = process.env[adminSocketVariable];
  return fromEnvironment === undefined || fromEnvironment === '' ? defaultAdminSocket : fromEnvironment;
}

function parseRequestIdOption(text: string): string {
  if (parseRequestId(text) !== null) return text;
  throw new InvalidArgumentError('It is the id that xksctl printed when the outcome was not known.');
}

/** Of options that may be empty: no prefix, no description. */
const mayBeEmpty: ReadonlySet<string> = new Set(['uriPathPrefix', 'description']);

/** An empty word is mostly a variable of a script that is not set. */
function refuseEmpty(command: Command): void {
  const options = Object.entries(command.optsWithGlobals()).filter(([name]) => !mayBeEmpty.has(name));
  const empty = options.find(([, value]) => value === '' || (Array.isArray(value) && value.includes('')));
  const option = command.options
    .concat(command.parent === null ? [] : rootOf(command).options)
    .find((each) => each.attributeName() === empty?.[0]);
  const place = command.args.indexOf('');
  const what = option?.long ?? command.registeredArguments[place]?.name();
  if (what !== undefined) throw new CommandFailure('usage', `${what} is empty.`, exitCodes.usage);
}

const rootOf = (command: Command): Command => (command.parent === null ? command : rootOf(command.parent));

function makeOutput(format: OutputFormat): Output {
  const noColour = process.env['NO_COLOR'];
  return new Output(format, {
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
    isColoured: process.stdout.isTTY === true && (noColour === undefined || noColour === ''),
  });
}

function makeProgram(): Command {
  const program = new Command('xksctl')
    .description('administers xksd, an AWS KMS external key store proxy')
    .version(softwareVersion())
    .addOption(
      new Option('-o, --output <format>', 'how to print data').choices(['text', 'json']).default('text'),
    )
    .option('--socket <path>', `the admin socket (or $${adminSocketVariable}; default ${defaultAdminSocket})`)
    .option('--config <file>', 'find the admin socket in this configuration of xksd')
    .option(
      '--request-id <id>',
      'repeat a change whose outcome is not known: it is made once at most',
      parseRequestIdOption,
    )
    .configureHelp({ showGlobalOptions: true })
    // Said as every other failure is, below.
    .configureOutput({ outputError: () => {} })
    .exitOverride();
  program.hook('preAction', (_, command) => refuseEmpty(command));
  const context = (): CommandContext => {
    const options = program.opts<GlobalOptions>();
    const output = makeOutput(options.output);
    const warn = (message: string): void => output.message(message);
    return {
      output,
      client: () => new AdminClient(findAdminSocket(options), options.requestId ?? null, warn),
      configPath: options.config ?? null,
    };
  };
  const run = async (command: (context: CommandContext) => Promise<number>): Promise<void> => {
    process.exitCode = await command(context());
  };
  addStatusCommand(program, run);
  addClusterCommand(program, run);
  addHsmCommand(program, run);
  addKeyStoreCommand(program, run);
  addCredentialCommand(program, run);
  addKeyCommand(program, run);
  addKmsConfigCommand(program, run);
  return program;
}

async function main(): Promise<void> {
  // A reader such as `head` that has read enough is no failure.
  process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
    if (code === 'EPIPE') return;
    process.stderr.write(
      `xksctl: the answer could not be written to standard output (${code}); what was asked was done before.\n`,
    );
    process.exit(exitCodes.failed);
  });
  // There is nobody to tell; what was done and its exit code stand.
  process.stderr.on('error', () => {});
  const program = makeProgram();
  try {
    await program.parseAsync(process.argv);
  } catch (thrown) {
    const failure = failureOf(thrown);
    if (failure !== null) makeOutput(program.opts<GlobalOptions>().output).failure(failure);
    // Help that was asked for is no failure; help in place of a missing command is.
    const isHelpAskedFor = thrown instanceof CommanderError && thrown.exitCode === 0;
    process.exitCode = failure?.exitCode ?? (isHelpAskedFor ? exitCodes.ok : exitCodes.usage);
  }
}

/** `null`: commander has printed all there is to say. */
function failureOf(thrown: unknown): CommandFailure | null {
  if (thrown instanceof CommandFailure) return thrown;
  if (thrown instanceof CommanderError) return usageFailure(thrown);
  return new CommandFailure('internal', `a bug of xksctl: ${errorText(thrown)}`);
}

await main();
