import type { Command } from 'commander';
import type { AdminResponse } from '../replica/admin-contract.js';
import { changeText, reportChange } from './change-text.js';
import type { CommandRunner } from './command-context.js';
import { CommandFailure, exitCodes } from './command-failure.js';
import { fields, table } from './output.js';
import { type StaleOption, staleOption } from './stale-option.js';

type Grant = AdminResponse<'pending.list'>['pending'][number];

const subjectOf = ({ keyStore, name }: Grant): string =>
  name === null ? `key store ${keyStore}` : `${name} in key store ${keyStore}`;

const grantText = (grant: Grant | null): string =>
  grant === null ? 'decided before' : `${grant.command} of ${subjectOf(grant)}`;

function parseIndex(text: string): number {
  if (/^[1-9][0-9]{0,14}$/.test(text)) return Number(text);
  throw new CommandFailure(
    'usage',
    `${text} is no index: \`xksctl cluster pending list\` shows those there are.`,
    exitCodes.usage,
  );
}

/** What a recovery from lost quorum left to decide. */
export function addPendingCommand(cluster: Command, run: CommandRunner): void {
  const command = cluster
    .command('pending')
    .description(
      'grants that a recovery found and nobody may ever have been told of: out of force until confirmed',
    );

  command
    .command('list')
    .description('what waits for a decision')
    .addOption(staleOption())
    .action((options: StaleOption) =>
      run(async ({ client, output }) => {
        const answer = await client().call('pending.list', options);
        output.data(answer, () =>
          answer.pending.length === 0
            ? 'Nothing waits for a decision.'
            : table(
                ['INDEX', 'COMMAND', 'KEY STORE', 'NAME'],
                answer.pending.map((grant) => [
                  String(grant.index),
                  grant.command,
                  grant.keyStore,
                  grant.name ?? '',
                ]),
              ),
        );
        return exitCodes.ok;
      }),
    );

  command
    .command('confirm')
    .description('put it in force: somebody was told that it was done, or wants it done')
    .argument('<index>')
    .action((index: string) =>
      run(async ({ client, output }) => {
        const answer = await client().call('pending.confirm', { index: parseIndex(index) });
        output.data(answer, () =>
          fields([
            ['confirmed', grantText(answer.grant)],
            ['change', changeText(answer.change)],
          ]),
        );
        return reportChange(output, answer.change, false);
      }),
    );

  command
    .command('drop')
    .description(
      'leave it out of force for good: a key or key store stays disabled, a credential is retired; exit 3 when a serving process has not confirmed it',
    )
    .argument('<index>')
    .action((index: string) =>
      run(async ({ client, output }) => {
        const answer = await client().call('pending.drop', { index: parseIndex(index) });
        output.data(answer, () =>
          fields([
            ['dropped', grantText(answer.grant)],
            ['change', changeText(answer.change)],
          ]),
        );
        return reportChange(output, answer.change, true);
      }),
    );
}
