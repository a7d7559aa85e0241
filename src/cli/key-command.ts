import { type Command, InvalidArgumentError, Option } from 'commander';
import { decodeHex } from '../base/bytes.js';
import type { AdminResponse } from '../replica/admin-contract.js';
import { ivLevels } from '../replica/admin-contract.js';
import { reportChange } from './change-text.js';
import type { CommandContext, CommandRunner } from './command-context.js';
import { CommandFailure, type ExitCode, exitCodes } from './command-failure.js';
import { fields, type Output, table, timeText } from './output.js';
import { parseRevision } from './revision-argument.js';
import { type StaleOption, staleOption } from './stale-option.js';

type Key = AdminResponse<'key.show'>['key'];

const statusText = (output: Output, status: Key['status']): string =>
  output.paint(status === 'ENABLED' ? 'green' : 'red', status);

function describe(output: Output, key: Key): string {
  const versions = key.versions.map(({ version, objectId, status, verified, checkValue }) => [
    version === key.currentVersion ? `${version} (current)` : String(version),
    // No version of a disabled key is of use, whatever its own status.
    statusText(output, key.status === 'ENABLED' ? status : key.status),
    objectId,
    verified ? 'yes' : 'no',
    checkValue ?? '',
  ]);
  const ivs = table(
    ['VERSION', 'RANDOM IVS', 'OF', '', 'NOT COUNTED YET', 'THEN'],
    key.versions.map(({ version, ivBudget }) => ivRow(output, version, ivBudget)),
  );
  const head = fields([
    ['external key id', key.externalKeyId],
    ['key store', key.keyStore],
    ['status', statusText(output, key.status)],
    ['usage', key.usage.join(', ')],
    ['description', key.description],
    ['created', timeText(key.createdAtMs)],
    ['revision', String(key.revision)],
  ]);
  return `${head}\n\n${table(['VERSION', 'STATUS', 'OBJECT (CKA_ID)', 'WITNESS', 'CHECK VALUE'], versions)}

${ivs}
${ivNote}`;
}

type IvBudget = Key['versions'][number]['ivBudget'];

/** Reserved blocks count as used: said beside it, or the figure would be taken for encryptions. */
const ivNote =
  'Random IVs are counted in blocks that processes reserve ahead, so at most so many encryptions were made.';

function ivRow(output: Output, version: number, { reserved, unreserved, max, rule }: IvBudget): string[] {
  const fraction = (reserved + unreserved) / max;
  const color = fraction >= ivLevels.critical ? 'red' : fraction >= ivLevels.warning ? 'yellow' : 'green';
  return [
    String(version),
    `${reserved}`,
    `${max}`,
    output.paint(color, `${(Math.floor(fraction * 10_000) / 100).toFixed(2)} %`),
    unreserved === 0 ? '' : `${unreserved} on this node`,
    rule === 'continue' ? 'encrypts on' : 'only decrypts',
  ];
}

const tokensTable = (output: Output, tokens: NonNullable<AdminResponse<'key.show'>['tokens']>): string =>
  table(
    ['VERSION', 'TOKEN', 'HOLDS IT', ''],
    tokens.map(({ version, token, holds, reason }) => [
      String(version),
      token,
      output.paint(holds === 'yes' ? 'green' : holds === 'unknown' ? 'yellow' : 'red', holds),
      holds === 'another' ? 'an object with its CKA_ID is another key' : (reason ?? ''),
    ]),
  );

function finish(output: Output, answer: AdminResponse<'key.add'>, isDenial: boolean): ExitCode {
  output.data(answer, () => describe(output, answer.key));
  for (const warning of answer.warnings) output.message(`warning: ${warning}`);
  return reportChange(output, answer.change, isDenial);
}

function parseObjectId(text: string): string {
  const hex = text.replaceAll(':', '').toLowerCase();
  if (hex === '' || decodeHex(hex) === null) {
    throw new InvalidArgumentError(
      'A CKA_ID is hexadecimal, two digits a byte, as `pkcs11-tool -O` prints it.',
    );
  }
  return hex;
}

const named = (externalKeyId: string | undefined, description: string | undefined) => ({
  ...(externalKeyId === undefined ? {} : { externalKeyId }),
  ...(description === undefined ? {} : { description }),
});

export function addKeyCommand(program: Command, run: CommandRunner): void {
  const command = program.command('key').description('keys: an external key id and the HSM object behind it');

  command
    .command('generate')
    .description('make an AES-256 key on the token, sensitive and not extractable')
    .argument('<keystore>')
    .argument(
      '[external-key-id]',
      '1 to 128 of A–Z, a–z, 0–9, dot, underscore, hyphen (default: a random UUID)',
    )
    .option('--description <text>')
    .option(
      '--single-token <serial-or-label>',
      'where the node has several tokens: the only one that shall hold the key',
    )
    .action(
      (
        keyStore: string,
        externalKeyId: string | undefined,
        options: { description?: string; singleToken?: string },
      ) =>
        run(async ({ client, output }) => {
          const { description, singleToken } = options;
          const request = {
            keyStore,
            ...named(externalKeyId, description),
            ...(singleToken === undefined ? {} : { singleToken }),
          };
          return finish(output, await client().call('key.generate', request), false);
        }),
    );

  command
    .command('add')
    .description('take an AES-256 key that is on the tokens already')
    .argument('<keystore>')
    .argument('[external-key-id]', 'as for generate')
    .option('--object-id <hex>', 'the object by its CKA_ID', parseObjectId)
    .option('--object-label <label>', 'the object by its CKA_LABEL; exactly one may have it')
    .option('--description <text>')
    .action(
      (
        keyStore: string,
        externalKeyId: string | undefined,
        options: { objectId?: string; objectLabel?: string; description?: string },
      ) =>
        run(async ({ client, output }) => {
          const { objectId, objectLabel, description } = options;
          if ((objectId === undefined) === (objectLabel === undefined)) {
            throw new CommandFailure(
              'usage',
              'name the object by either --object-id or --object-label; `xksctl hsm list` shows both.',
              exitCodes.usage,
            );
          }
          const request = {
            keyStore,
            ...named(externalKeyId, description),
            ...(objectId === undefined ? {} : { objectId }),
            ...(objectLabel === undefined ? {} : { objectLabel }),
          };
          return finish(output, await client().call('key.add', request), false);
        }),
    );

  command
    .command('list')
    .description('list the keys of a key store')
    .argument('<keystore>')
    .addOption(staleOption())
    .action((keyStore: string, options: StaleOption) =>
      run(async (context) => {
        const { output } = context;
        const { keys, reading } = await listKeys(context, keyStore, options);
        output.data({ keys, reading }, () =>
          table(
            ['EXTERNAL KEY ID', 'STATUS', 'VERSION', 'USAGE', 'CREATED', 'DESCRIPTION'],
            keys.map((key) => [
              key.externalKeyId,
              statusText(output, key.status),
              String(key.currentVersion),
              key.usage.join(','),
              timeText(key.createdAtMs),
              key.description,
            ]),
          ),
        );
        return exitCodes.ok;
      }),
    );

  command
    .command('show')
    .description('show a key and its versions; exit 3 when a token that was asked does not hold one')
    .argument('<keystore>')
    .argument('<external-key-id>')
    .option('--tokens', 'ask each token of this node whether it holds the key')
    .addOption(staleOption())
    .action((keyStore: string, externalKeyId: string, options: StaleOption & { tokens?: true }) =>
      run(async ({ client, output }) => {
        const answer = await client().call('key.show', { keyStore, externalKeyId, ...options });
        const { key, tokens } = answer;
        output.data(answer, () =>
          [describe(output, key), ...(tokens === null ? [] : [tokensTable(output, tokens)])].join('\n\n'),
        );
        const isEverywhere = tokens?.every(({ holds }) => holds === 'yes') ?? true;
        return isEverywhere ? exitCodes.ok : exitCodes.degraded;
      }),
    );

  command
    .command('set')
    .description('say what becomes of Encrypt when a key has used up its random IVs (2^32 for each version)')
    .argument('<keystore>')
    .argument('<external-key-id>')
    .addOption(
      new Option('--iv-budget <rule>', 'of its current version: refuse (the default), or continue, at a risk')
        .choices(['refuse', 'continue'])
        .makeOptionMandatory(),
    )
    .action((keyStore: string, externalKeyId: string, options: { ivBudget: IvBudget['rule'] }) =>
      run(async ({ client, output }) => {
        const request = { keyStore, externalKeyId, ...options };
        return finish(output, await client().call('key.set', request), false);
      }),
    );

  command
    .command('enable')
    .description('let a disabled key be used again')
    .argument('<keystore>')
    .argument('<external-key-id>')
    .option('--revision <number>', 'refuse when it changed after this revision (see show)', parseRevision)
    .action((keyStore: string, externalKeyId: string, options: { revision?: number }) =>
      run(async ({ client, output }) => {
        const request = { keyStore, externalKeyId, ...options };
        return finish(output, await client().call('key.enable', request), false);
      }),
    );

  command
    .command('disable')
    .description('refuse every use of a key; exit 3 when a serving process has not confirmed it')
    .argument('<keystore>')
    .argument('<external-key-id>')
    .action((keyStore: string, externalKeyId: string) =>
      run(async ({ client, output }) =>
        finish(output, await client().call('key.disable', { keyStore, externalKeyId }), true),
      ),
    );
}

/** Each page is read by itself: what stands behind the first stands behind all. */
async function listKeys(
  { client }: CommandContext,
  keyStore: string,
  options: StaleOption,
): Promise<Pick<AdminResponse<'key.list'>, 'keys' | 'reading'>> {
  const connection = client();
  const { keys, reading, next }: AdminResponse<'key.list'> = await connection.call('key.list', {
    keyStore,
    ...options,
  });
  for (let after = next; after !== null; ) {
    const page = await connection.call('key.list', { keyStore, after, ...options });
    keys.push(...page.keys);
    after = page.next;
  }
  return { keys, reading };
}
