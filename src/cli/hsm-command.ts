import type { Command } from 'commander';
import type { AdminResponse } from '../replica/admin-contract.js';
import { changeText, reportChange } from './change-text.js';
import type { CommandRunner } from './command-context.js';
import { exitCodes } from './command-failure.js';
import { fields, indent, type Output, table } from './output.js';
import { type StaleOption, staleOption } from './stale-option.js';

type Token = AdminResponse<'status'>['tokens'][number];
type Prepared = AdminResponse<'hsm.prepare'>['tokens'][number];
type Probe = AdminResponse<'hsm.probe'>['probes'][number];
type Listing = AdminResponse<'hsm.list'>['tokens'][number];
type HsmObject = NonNullable<Listing['objects']>[number];

const stateColours = { ACTIVE: 'green', DEGRADED: 'yellow', UNAVAILABLE: 'red' } as const;

/** One line a token. */
export const tokenTable = (output: Output, tokens: readonly Token[]): string =>
  table(
    ['TOKEN', 'SERIAL', 'STATE', 'SESSIONS', 'MODEL'],
    tokens.map(({ uri, label, serial, state, sessions, manufacturer, model }) => [
      label ?? uri,
      serial ?? '?',
      output.paint(stateColours[state], state),
      String(sessions),
      [manufacturer, model].filter((part) => part !== null).join(' '),
    ]),
  );

const objectTable = (objects: readonly HsmObject[]): string =>
  table(
    ['OBJECT (CKA_ID)', 'LABEL', 'TYPE', 'USAGE', 'ATTRIBUTES', 'USED BY'],
    objects.map(({ objectId, label, keyType, keyBits, usage, sensitive, extractable, usedBy }) => [
      objectId,
      label,
      keyBits === null ? keyType : `${keyType} ${keyBits}`,
      usage.join(','),
      [
        ...(sensitive === true ? ['sensitive'] : sensitive === false ? ['NOT SENSITIVE'] : []),
        ...(extractable === true ? ['EXTRACTABLE'] : extractable === false ? ['not extractable'] : []),
      ].join(', '),
      usedBy ?? '',
    ]),
  );

function objectsText({ objects, unlisted }: Listing): string {
  if (objects === null) return `its objects cannot be listed: ${unlisted ?? 'no reason was given'}`;
  return objects.length === 0 ? 'no key objects' : objectTable(objects);
}

const preparedText = (prepared: Prepared): string =>
  fields([
    ['token', prepared.label],
    ['serial', prepared.serial],
    ['test key', prepared.testKeyObjectId],
    ['wrapping key', prepared.wrappingKeyObjectId],
    ['made now', prepared.created.join(', ') || 'nothing'],
    ['key state', prepared.change === null ? 'unchanged: prepared already' : changeText(prepared.change)],
  ]);

/** The cases of a token once: of the first process, and of those that came to another verdict. */
function probesText(output: Output, probes: readonly Probe[]): string {
  const shown = new Map<string, string>();
  return probes
    .map(({ process, token, stated, pinned, found, verdict, reason, cases }) => {
      const isWell = verdict === 'agrees' || verdict === 'accepted';
      const head = fields([
        ['token', token.label ?? token.uri],
        ['serial', token.serial ?? '?'],
        ['process', process],
        ['stated', stated],
        ['pinned', pinned ?? 'nothing'],
        ['found', found ?? 'nothing'],
        ['verdict', output.paint(isWell ? 'green' : 'red', verdict)],
        ...(reason === null ? [] : [['reason', reason] as const]),
      ]);
      if (cases.length === 0 || shown.get(token.uri) === verdict) return head;
      shown.set(token.uri, verdict);
      return [
        head,
        indent(
          table(
            ['CASE', 'WHAT CAME BACK'],
            cases.map(({ what, answer }) => [what, answer]),
          ),
        ),
      ].join('\n\n');
    })
    .join('\n\n');
}

export function addHsmCommand(program: Command, run: CommandRunner): void {
  const command = program.command('hsm').description('the tokens this node uses');

  command
    .command('prepare')
    .description(
      'make or find the test key and the wrapping key of each token, and wrap the cluster secret; may be repeated; exit 3 when one could not be prepared',
    )
    .action(() =>
      run(async ({ client, output }) => {
        const answer = await client().call('hsm.prepare', {});
        output.data(answer, () => answer.tokens.map(preparedText).join('\n\n'));
        for (const why of answer.failed) output.message(`not prepared: ${why}`);
        const exits = answer.tokens.map(({ change }) =>
          change === null ? exitCodes.ok : reportChange(output, change, false),
        );
        const degraded = answer.failed.length === 0 ? [] : [exitCodes.degraded];
        return [...degraded, ...exits].find((exit) => exit !== exitCodes.ok) ?? exitCodes.ok;
      }),
    );

  command
    .command('list')
    .description('list the tokens, and the key objects on them; exit 3 unless all are ACTIVE')
    .addOption(staleOption())
    .action((options: StaleOption) =>
      run(async ({ client, output }) => {
        const answer = await client().call('hsm.list', options);
        output.data(answer, () =>
          answer.tokens
            .map((listing) => {
              const { reason } = listing.token;
              const why = reason === null ? [] : [output.paint('yellow', `! ${reason}`)];
              return [tokenTable(output, [listing.token]), ...why, indent(objectsText(listing))].join('\n\n');
            })
            .join('\n\n'),
        );
        return answer.tokens.every(({ token }) => token.state === 'ACTIVE')
          ? exitCodes.ok
          : exitCodes.degraded;
      }),
    );

  command
    .command('test')
    .description(
      'encrypt and decrypt with the test key of each token, in each process; exit 3 unless all pass',
    )
    .action(() =>
      run(async ({ client, output }) => {
        const answer = await client().call('hsm.test', {});
        output.data(answer, () =>
          table(
            ['PROCESS', 'TOKEN', 'SERIAL', 'TEST', 'TOOK', 'STATE', 'REASON'],
            answer.tests.map(({ process, token, outcome, tookMs }) => [
              process,
              token.label ?? token.uri,
              token.serial ?? '?',
              output.paint(outcome === 'passed' ? 'green' : 'red', outcome),
              `${tookMs.toFixed(1)} ms`,
              output.paint(stateColours[token.state], token.state),
              token.reason ?? '',
            ]),
          ),
        );
        for (const why of answer.failed) output.message(`not tested: ${why}`);
        const allPassed =
          answer.failed.length === 0 && answer.tests.every(({ outcome }) => outcome === 'passed');
        return allPassed ? exitCodes.ok : exitCodes.degraded;
      }),
    );

  command
    .command('probe')
    .description(
      'see with the test key of each token, in each process, how it wants to be asked and what it refuses with; exit 3 unless all are as pinned',
    )
    .option('--accept <token>', 'pin what is found of the token with this serial or label, and use it again')
    .action(({ accept }: { accept?: string }) =>
      run(async ({ client, output }) => {
        const answer = await client().call('hsm.probe', { accept: accept ?? null });
        output.data(answer, () => probesText(output, answer.probes));
        for (const why of answer.failed) output.message(`not probed: ${why}`);
        const allAgree =
          answer.failed.length === 0 &&
          answer.probes.every(({ verdict }) => verdict === 'agrees' || verdict === 'accepted');
        return allAgree ? exitCodes.ok : exitCodes.degraded;
      }),
    );

  command
    .command('login')
    .description(
      'log in again, and open anew what is ill; a PIN that was refused is tried once more: one attempt counts on the HSM; exit 3 when a token stays unavailable',
    )
    .action(() =>
      run(async ({ client, output }) => {
        const answer = await client().call('hsm.login', {});
        output.data(answer, () =>
          table(
            ['PROCESS', 'TOKEN', 'STATE', 'REASON'],
            answer.processes.map(({ process, token }) => [
              process,
              token.label ?? token.uri,
              output.paint(stateColours[token.state], token.state),
              token.reason ?? '',
            ]),
          ),
        );
        if (answer.notAsked.length > 0) {
          output.message(
            `not asked: ${answer.notAsked.join(', ')}, as each attempt counts on the HSM; repeat it once the reason is gone`,
          );
        }
        const isLoggedIn = answer.processes.every(({ token }) => token.state !== 'UNAVAILABLE');
        return isLoggedIn ? exitCodes.ok : exitCodes.degraded;
      }),
    );
}
