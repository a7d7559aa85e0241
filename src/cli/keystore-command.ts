import { type Command, InvalidArgumentError, Option } from 'commander';
import { type AdminResponse, isolationBoundMs } from '../replica/admin-contract.js';
import { reportChange } from './change-text.js';
import type { CommandRunner } from './command-context.js';
import { CommandFailure, exitCodes } from './command-failure.js';
import { credentialTable } from './credential-command.js';
import { fields, type Output, table, timeText } from './output.js';
import { parseRevision } from './revision-argument.js';
import { type StaleOption, staleOption } from './stale-option.js';

type KeyStore = AdminResponse<'keystore.create'>['keyStore'];

const statusText = (output: Output, status: KeyStore['status']): string =>
  output.paint(status === 'ENABLED' ? 'green' : 'red', status);

type OnIsolation = KeyStore['onIsolation'];

const isolationText = (onIsolation: OnIsolation): string =>
  onIsolation.rule === 'serve'
    ? 'a node cut off from the quorum serves on'
    : `a node cut off from the quorum stops after ${onIsolation.boundMs / 1_000} s`;

function parseBound(text: string): number {
  const ms = Number(text) * 1_000;
  const { min, max } = isolationBoundMs;
  if (/^[0-9]+(\.[0-9]{1,3})?$/.test(text) && Number.isInteger(ms) && ms >= min && ms <= max) return ms;
  throw new InvalidArgumentError(`Seconds, from ${min / 1_000} to ${max / 1_000}.`);
}

function describe(output: Output, store: KeyStore): string {
  return fields([
    ['key store', store.name],
    ['status', statusText(output, store.status)],
    ['URI path', store.uriPath],
    ['regions', store.regions.join(', ')],
    ['isolated', isolationText(store.onIsolation)],
    ['adopted', store.adopted ? 'yes: ciphertexts without metadata come from another proxy' : 'no'],
    ['credentials', String(store.credentials)],
    ['keys', String(store.keys)],
    ['created', timeText(store.createdAtMs)],
    ['revision', String(store.revision)],
  ]);
}

export function addKeyStoreCommand(program: Command, run: CommandRunner): void {
  const command = program
    .command('keystore')
    .description('key stores: a URI path, its credentials, its keys');

  command
    .command('create')
    .description('create a key store')
    .argument('<name>', '1 to 64 of A–Z, a–z, 0–9, dot, underscore, hyphen')
    .requiredOption(
      '--region <region>',
      'AWS Region of the KMS that calls it; may be repeated',
      (region: string, before: string[] = []) => [...before, region],
    )
    .option(
      '--uri-path-prefix <prefix>',
      'its URI path is /PREFIX/kms/xks/v1 (default: the name; empty for none)',
    )
    .option('--adopted', 'its ciphertexts come from another proxy')
    .action((name: string, options: { region: string[]; uriPathPrefix?: string; adopted?: true }) =>
      run(async ({ client, output }) => {
        const answer = await client().call('keystore.create', {
          name,
          regions: options.region,
          ...(options.uriPathPrefix === undefined ? {} : { uriPathPrefix: options.uriPathPrefix }),
          ...(options.adopted === undefined ? {} : { adopted: true }),
        });
        output.data(answer, () => describe(output, answer.keyStore));
        return reportChange(output, answer.change, false);
      }),
    );

  command
    .command('list')
    .description('list the key stores')
    .addOption(staleOption())
    .action((options: StaleOption) =>
      run(async ({ client, output }) => {
        const answer = await client().call('keystore.list', options);
        output.data(answer, () =>
          table(
            ['NAME', 'STATUS', 'URI PATH', 'REGIONS', 'CREDENTIALS', 'KEYS'],
            answer.keyStores.map((store) => [
              store.name,
              statusText(output, store.status),
              store.uriPath,
              store.regions.join(','),
              String(store.credentials),
              String(store.keys),
            ]),
          ),
        );
        return exitCodes.ok;
      }),
    );

  command
    .command('show')
    .description('show a key store and its credentials')
    .argument('<name>')
    .addOption(staleOption())
    .action((name: string, options: StaleOption) =>
      run(async ({ client, output }) => {
        const answer = await client().call('keystore.show', { name, ...options });
        output.data(
          answer,
          () => `${describe(output, answer.keyStore)}\n\n${credentialTable(answer.credentials)}`,
        );
        return exitCodes.ok;
      }),
    );

  command
    .command('enable')
    .description('let a disabled key store serve again')
    .argument('<name>')
    .option('--revision <number>', 'refuse when it changed after this revision (see show)', parseRevision)
    .action((name: string, options: { revision?: number }) =>
      run(async ({ client, output }) => {
        const answer = await client().call('keystore.enable', { name, ...options });
        output.data(answer, () => describe(output, answer.keyStore));
        return reportChange(output, answer.change, false);
      }),
    );

  command
    .command('disable')
    .description('refuse every use of a key store; exit 3 when a serving process has not confirmed it')
    .argument('<name>')
    .action((name: string) =>
      run(async ({ client, output }) => {
        const answer = await client().call('keystore.disable', { name });
        output.data(answer, () => describe(output, answer.keyStore));
        return reportChange(output, answer.change, true);
      }),
    );

  command
    .command('set')
    .description(
      'say what a node cut off from the quorum does: serve on, or stop so that no disabled key is used; exit 3 when a serving process has not confirmed stop',
    )
    .argument('<name>')
    .addOption(new Option('--on-isolation <rule>').choices(['serve', 'stop']).makeOptionMandatory())
    .option(
      '--bound <seconds>',
      `with stop: for how long it serves on (default ${isolationBoundMs.default / 1_000})`,
      parseBound,
    )
    .option('--revision <number>', 'refuse when it changed after this revision (see show)', parseRevision)
    .action((name: string, options: { onIsolation: 'serve' | 'stop'; bound?: number; revision?: number }) =>
      run(async ({ client, output }) => {
        const { onIsolation: rule, bound, revision } = options;
        if (rule === 'serve' && bound !== undefined) {
          throw new CommandFailure('usage', '--bound goes with --on-isolation stop', exitCodes.usage);
        }
        const onIsolation: OnIsolation =
          rule === 'serve' ? { rule } : { rule, boundMs: bound ?? isolationBoundMs.default };
        const request = { name, onIsolation, ...(revision === undefined ? {} : { revision }) };
        const answer = await client().call('keystore.set', request);
        output.data(answer, () => describe(output, answer.keyStore));
        return reportChange(
          output,
          answer.change,
          rule === 'stop',
          'Every serving process of this node goes by it.',
        );
      }),
    );
}
