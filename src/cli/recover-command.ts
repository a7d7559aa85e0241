import type { Command } from 'commander';
import { systemClock } from '../base/clock.js';
import { loadNativeBinding } from '../base/native.js';
import { systemRandom } from '../base/random.js';
import { type NodeRecovery, recoverNode, reportSurvivor, systemFiles } from '../replica/recover-node.js';
import type { CommandContext, CommandRunner } from './command-context.js';
import { CommandFailure, type ExitCode, exitCodes } from './command-failure.js';
import { fields, indent, table } from './output.js';
import { requireConfig } from './required-config.js';

/** Commands in the text; JSON has all. */
const commandsShownMax = 100;

const fates = {
  kept: 'kept',
  pending: 'out of force until confirmed',
  'no-effect': 'had no effect',
} as const satisfies Record<NodeRecovery['unconfirmed'][number]['becomes'], string>;

const namesText = (names: Readonly<Record<string, string>>): string => Object.values(names).join(' ');

function unconfirmedText({ unconfirmed, commitIndex, lastLog }: NodeRecovery): string {
  if (unconfirmed.length === 0) return 'Every command in this log is known to have been committed.';
  const terms = [...new Set(unconfirmed.map(({ term }) => term))].join(', ');
  const shown = unconfirmed.slice(0, commandsShownMax);
  const rows = shown.map(({ index, term, command, names, becomes }) => [
    String(index),
    String(term),
    command,
    namesText(names),
    fates[becomes],
  ]);
  const more = unconfirmed.length - shown.length;
  return [
    `Index ${commitIndex + 1} to ${lastLog.index} (term ${terms}) is not known to have been committed; it is kept:`,
    indent(table(['INDEX', 'TERM', 'COMMAND', 'OF', 'BECOMES'], rows)),
    ...(more > 0 ? [indent(`and ${more} more (-o json)`)] : []),
  ].join('\n');
}

function describeRecovery(node: string, recovery: NodeRecovery): string {
  const { done, formerClusterId, newClusterId, lastLog, commitIndex, leftBehind } = recovery;
  const names = leftBehind.map(({ name }) => name).join(', ');
  return [
    fields([
      ['node', node],
      [
        'cluster',
        done ? `${newClusterId}, before ${formerClusterId}` : `${formerClusterId}, to get another id`,
      ],
      ['this log', `ends at index ${lastLog.index} of term ${lastLog.term}, committed up to ${commitIndex}`],
      ['left behind', names === '' ? 'nobody' : names],
    ]),
    unconfirmedText(recovery),
    `What may be lost: changes after index ${commitIndex} that other nodes acknowledged and this log does not hold.`,
  ].join('\n\n');
}

/** What has to be said before and after. */
function advice({ done, notCompared, leftBehind, unconfirmed, formerLog }: NodeRecovery): string[] {
  const others = leftBehind.map(({ name }) => name).join(', ');
  const lines: string[] = [];
  if (notCompared.length > 0) {
    lines.push(
      `Not compared: ${notCompared.join(', ')}. If the disk of one of them can still be read, compare it first: its log may be greater (--report there, --survivor here).`,
    );
  }
  if (!done) {
    lines.push(
      `Nothing was changed. ${others === '' ? 'The other nodes' : others} must be off for good before this goes on: as long as a majority of them runs, it is a cluster of its own, which does not hear of what is disabled here. Repeat it with --yes then.`,
    );
    return lines;
  }
  lines.push(
    `The log as it was is kept, out of force, in ${formerLog.join(' and ')}: remove it when all is well.`,
  );
  lines.push('Next: start xksd here, and look at `xksctl cluster status`.');
  if (unconfirmed.some(({ becomes }) => becomes === 'pending')) {
    lines.push('Decide what is out of force: `xksctl cluster pending list`, then `confirm` or `drop`.');
  }
  if (others !== '') {
    lines.push(
      `On ${others}: empty the data directory, then \`xksctl cluster add\` here and \`xksctl cluster join\` there. Once it is empty, \`xksctl cluster forget NODE --destroyed\`.`,
    );
  }
  return lines;
}

function access(): { readonly files: typeof systemFiles; readonly tryLockFile: (fd: number) => number } {
  const native = loadNativeBinding();
  return { files: systemFiles, tryLockFile: (fd) => native.tryLockFile(fd) };
}

async function report(context: CommandContext, path: string): Promise<ExitCode> {
  const { output } = context;
  const config = requireConfig(context, `xksctl cluster recover --report ${path}`);
  const made = await reportSurvivor({ config, ...access() }, path);
  if (!made.ok) throw new CommandFailure('failed', made.error);
  const { lastLog, nodeName, clusterId, commitIndex } = made.value;
  output.data(made.value, () =>
    fields([
      ['node', nodeName],
      ['cluster', clusterId],
      ['log', `ends at index ${lastLog.index} of term ${lastLog.term}, committed up to ${commitIndex}`],
      ['report', path],
    ]),
  );
  return exitCodes.ok;
}

async function recover(
  context: CommandContext,
  survivors: readonly string[],
  confirmed: boolean,
): Promise<ExitCode> {
  const { output } = context;
  const config = requireConfig(context, 'xksctl cluster recover');
  const recovery = await recoverNode({
    config,
    ...access(),
    clock: systemClock,
    random: systemRandom,
    by: `cluster recover, uid=${process.getuid?.() ?? 'unknown'}`,
    survivors,
    confirmed,
  });
  if (!recovery.ok) throw new CommandFailure('failed', recovery.error);
  const { newClusterId, ...found } = recovery.value;
  // A dry run's id is not the one that it will be.
  output.data(found.done ? recovery.value : found, () => describeRecovery(config.node.name, recovery.value));
  for (const line of [...found.warnings, ...advice(recovery.value)]) output.message(line);
  return found.done ? exitCodes.ok : exitCodes.degraded;
}

export function addRecoverCommand(cluster: Command, run: CommandRunner): void {
  cluster
    .command('recover')
    .description(
      'when a majority is lost for good: go on from this node alone, as a new cluster; xksd must be stopped. Without --yes it only says what it would do and exits 3. Needs --config',
    )
    .option(
      '--survivor <path>',
      'report (--report) or data directory of another node that can still be read; may be repeated',
      (path: string, before: string[] = []) => [...before, path],
    )
    .option('--report <file>', 'only write to this file how far the log of this node goes')
    .option('--yes', 'do it: the other nodes are off for good')
    .action((options: { survivor?: string[]; report?: string; yes?: true }) =>
      run((context) =>
        options.report === undefined
          ? recover(context, options.survivor ?? [], options.yes === true)
          : report(context, options.report),
      ),
    );
}
