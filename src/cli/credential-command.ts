import type { Command } from 'commander';
import type { AdminResponse } from '../replica/admin-contract.js';
import { reportChange } from './change-text.js';
import type { CommandRunner } from './command-context.js';
import { CommandFailure, exitCodes } from './command-failure.js';
import { KmsConfigFile } from './kms-config-file.js';
import { durationText, fields, table, timeText } from './output.js';
import { type StaleOption, staleOption } from './stale-option.js';

type Credential = AdminResponse<'credential.retire'>['credential'];

const lastUsedText = ({ lastUsedMs, watchedSinceMs }: Credential): string =>
  lastUsedMs === null
    ? `no use seen since ${timeText(watchedSinceMs)}`
    : `${timeText(lastUsedMs)} (${durationText(Date.now() - lastUsedMs)} ago)`;

export const credentialTable = (credentials: readonly Credential[]): string =>
  table(
    ['ACCESS KEY ID', 'KEY STORE', 'CREATED', 'LAST USED'],
    credentials.map((credential) => [
      credential.accessKeyId,
      credential.keyStore,
      timeText(credential.createdAtMs),
      lastUsedText(credential),
    ]),
  );

export function addCredentialCommand(program: Command, run: CommandRunner): void {
  const command = program.command('credential').description('SigV4 credentials that KMS signs with');

  command
    .command('create')
    .description('create a credential; its secret is shown once')
    .argument('<keystore>')
    .option(
      '--kms-config <file>',
      'write the file that the AWS console takes (0600, never overwritten), don’t print the secret',
    )
    .action((keyStore: string, options: { kmsConfig?: string }) =>
      run(async ({ client, output }) => {
        const file = options.kmsConfig === undefined ? null : KmsConfigFile.create(options.kmsConfig);
        let answer: AdminResponse<'credential.create'>;
        try {
          answer = await client().call('credential.create', { keyStore });
        } catch (thrown) {
          file?.discard();
          throw thrown;
        }
        const { secretAccessKey, ...shown } = answer;
        const { accessKeyId } = answer.credential;
        const described: readonly (readonly [string, string])[] = [
          ['access key id', accessKeyId],
          ['key store', keyStore],
          ['URI path', answer.uriPath],
        ];
        if (file === null) {
          output.data(answer, () => fields([...described, ['secret access key', secretAccessKey]]));
          output.message('The secret access key is not shown again. KMS needs it; nobody else does.');
        } else {
          const failure = file.write({ uriPath: answer.uriPath, accessKeyId, secretAccessKey });
          if (failure !== null) {
            file.discard();
            throw new CommandFailure(
              'failed',
              `the credential ${accessKeyId} was created, but ${failure}. Its secret cannot be shown again: retire it ` +
                `with \`xksctl credential retire ${accessKeyId} --force\` and create another.`,
            );
          }
          output.data({ ...shown, kmsConfigFile: file.path }, () =>
            fields([...described, ['written to', file.path]]),
          );
        }
        return reportChange(output, answer.change, false);
      }),
    );

  command
    .command('list')
    .description('list credentials, with their last use')
    .argument('[keystore]')
    .addOption(staleOption())
    .action((keyStore: string | undefined, options: StaleOption) =>
      run(async ({ client, output }) => {
        const request = { ...(keyStore === undefined ? {} : { keyStore }), ...options };
        const answer = await client().call('credential.list', request);
        output.data(answer, () => credentialTable(answer.credentials));
        return exitCodes.ok;
      }),
    );

  command
    .command('retire')
    .description('refuse a credential from now on; exit 3 when a serving process has not confirmed it')
    .argument('<access-key-id>')
    .option('--force', 'even if it is the last one of its key store, or was used within 15 minutes')
    .action((accessKeyId: string, options: { force?: true }) =>
      run(async ({ client, output }) => {
        const answer = await client().call('credential.retire', { accessKeyId, ...options });
        output.data(answer, () =>
          fields([
            ['retired', accessKeyId],
            ['key store', answer.credential.keyStore],
            ['last used', lastUsedText(answer.credential)],
          ]),
        );
        return reportChange(output, answer.change, true);
      }),
    );
}
