import type { Command } from 'commander';
import { type AdminRequest, type AdminResponse, settingNames } from '../replica/admin-contract.js';
import { changeText, reportChange } from './change-text.js';
import type { CommandRunner } from './command-context.js';
import { CommandFailure, exitCodes } from './command-failure.js';
import { fields, table } from './output.js';
import { type StaleOption, staleOption } from './stale-option.js';

type Settings = AdminResponse<'settings.show'>['settings'];
type SettingName = keyof Settings;

/** `electionTicks` is `election-ticks` on the command line. */
const optionOf = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

const names: ReadonlyMap<string, SettingName> = new Map(settingNames.map((name) => [optionOf(name), name]));

const effects: { readonly [name in SettingName]: string } = {
  tickMs: 'what the ticks below are counted in',
  heartbeatTicks: 'between two heartbeats of the leader',
  electionTicks: 'without one before a node campaigns, up to twice as many at random',
  freshnessIntervalMs: 'between two confirmations by a quorum',
  serveStaleMaxMs: 'age of the last one up to which a node started without a quorum serves',
};

/** @throws CommandFailure for what is no setting with its value, or one twice. */
export function parseAssignments(texts: readonly string[]): AdminRequest<'settings.set'>['settings'] {
  const wanted: { -readonly [name in SettingName]?: number } = {};
  for (const text of texts) {
    const [, option = '', value = ''] = /^([a-z-]+)=([0-9]{1,15})$/.exec(text) ?? [];
    const name = names.get(option);
    if (name === undefined || wanted[name] !== undefined) {
      throw new CommandFailure(
        'usage',
        `${text}: NAME=NUMBER, each once; the names are ${[...names.keys()].join(', ')}.`,
        exitCodes.usage,
      );
    }
    wanted[name] = Number(value);
  }
  return wanted;
}

/** What must be the same on all nodes, and so is in key state. */
export function addSettingsCommand(cluster: Command, run: CommandRunner): void {
  const command = cluster
    .command('settings')
    .description('what safety depends on, the same on all nodes: ticks, elections, freshness');

  command
    .command('show', { isDefault: true })
    .description('the settings in force')
    .addOption(staleOption())
    // As the default command it gets the words that are none.
    .allowExcessArguments()
    .action((options: StaleOption, { args: [unknown] }: Command) =>
      run(async ({ client, output }) => {
        if (unknown !== undefined) {
          throw new CommandFailure(
            'usage',
            `unknown command '${unknown}': it is \`cluster settings show\` or \`cluster settings set\``,
            exitCodes.usage,
          );
        }
        const answer = await client().call('settings.show', options);
        const { settings, defaults } = answer;
        output.data(answer, () =>
          table(
            ['SETTING', 'VALUE', 'DEFAULT', ''],
            settingNames.map((name) => [
              optionOf(name),
              String(settings[name]),
              String(defaults[name]),
              effects[name],
            ]),
          ),
        );
        return exitCodes.ok;
      }),
    );

  command
    .command('set')
    .description('change some; in force on each node as soon as it has applied the change')
    .argument('<name=value...>', 'as `cluster settings` names them')
    .action((assignments: string[]) =>
      run(async ({ client, output }) => {
        const answer = await client().call('settings.set', { settings: parseAssignments(assignments) });
        output.data(answer, () =>
          fields([
            ...settingNames.map((name): [string, string] => [optionOf(name), String(answer.settings[name])]),
            ['change', changeText(answer.change)],
          ]),
        );
        return reportChange(output, answer.change, false);
      }),
    );
}
