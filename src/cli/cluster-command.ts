import { type Command, InvalidArgumentError } from 'commander';
import type { Config } from '../ops/config.js';
import { hostPortForm, isHostPort } from '../ops/host-port.js';
import { isNodeName, nodeNameForm } from '../ops/node-name.js';
import { type AdminResponse, inviteSeconds } from '../replica/admin-contract.js';
import { initialiseFounder, initialiseJoiner } from '../replica/initialise-node.js';
import { changeText, reportChange } from './change-text.js';
import type { CommandRunner } from './command-context.js';
import { CommandFailure, exitCodes } from './command-failure.js';
import { durationText, fields, indent, type Output, table, timeText } from './output.js';
import { addPendingCommand } from './pending-command.js';
import { addRecoverCommand } from './recover-command.js';
import { requireConfig } from './required-config.js';
import { readSecretArgument } from './secret-argument.js';
import { addSettingsCommand } from './settings-command.js';

type ClusterStatus = AdminResponse<'cluster.status'>;
type Member = ClusterStatus['members'][number];

const orDash = (value: number | string | null): string => (value === null ? '–' : String(value));

function memberTable(output: Output, members: readonly Member[]): string {
  return table(
    ['NODE', 'STATUS', 'ADDRESS', 'APPLIED', 'SERVING', 'HEARD', 'VERSION'],
    members.map((member) => [
      member.isSelf ? `${member.name} (this)` : member.name,
      member.isLeader ? output.paint('bold', 'leader') : member.status,
      member.address,
      orDash(member.appliedIndex),
      member.readyServingProcesses === null ? '–' : `${member.readyServingProcesses} ready`,
      member.isSelf ? '' : member.heardMsAgo === null ? 'never' : `${durationText(member.heardMsAgo)} ago`,
      orDash(member.version),
    ]),
  );
}

function describeStatus(output: Output, status: ClusterStatus): string {
  const freshness =
    status.freshnessAgeMs === null
      ? 'no quorum has confirmed it since this replica started'
      : `confirmed by a quorum ${durationText(status.freshnessAgeMs)} ago`;
  const parts = [
    fields([
      ['cluster', status.clusterId],
      ['leader', status.leader ?? 'none known here'],
      ['term', String(status.term)],
      [
        'committed',
        `index ${status.commitIndex}, applied here ${status.appliedIndex}, snapshot ${status.snapshotIndex}`,
      ],
      ['key state', freshness],
      ['format', String(status.activeFormat)],
    ]),
    indent(
      status.members.length === 0
        ? 'No member is known here yet; what this node waits for is below.'
        : memberTable(output, status.members),
    ),
  ];
  if (status.formerMembers.length > 0) {
    const rows = status.formerMembers.map(({ name, memberId, removedAtMs, reason, destroyed }) => [
      name,
      memberId,
      timeText(removedAtMs),
      reason,
      destroyed ? 'destroyed' : 'not known to be gone',
    ]);
    parts.push(indent(table(['FORMER MEMBER', 'MEMBER ID', 'SINCE', 'REASON', 'DISK'], rows)));
  }
  const problems = status.degraded.map((finding) => output.paint('yellow', `! ${finding}`));
  parts.push(problems.length === 0 ? output.paint('green', 'All is well.') : problems.join('\n'));
  return parts.join('\n\n');
}

/** What `init` and `join` have made. */
function showIdentity(
  output: Output,
  { node }: Config,
  { clusterId, memberId }: { readonly clusterId: string; readonly memberId: string },
): void {
  const { name, dataDir } = node;
  output.data({ node: name, clusterId, memberId, dataDir }, () =>
    fields([
      ['node', name],
      ['cluster', clusterId],
      ['member', memberId],
      ['data directory', dataDir],
    ]),
  );
}

function addInit(command: Command, run: CommandRunner): void {
  command
    .command('init')
    .description('make the data directory of a new cluster, before xksd first starts; needs --config')
    .action(() =>
      run(async (context) => {
        const { output } = context;
        const config = requireConfig(context, 'xksctl cluster init');
        const identity = await initialiseFounder(config);
        if (!identity.ok) throw new CommandFailure('failed', identity.error);
        showIdentity(output, config, identity.value);
        output.message('Next: start xksd, then `xksctl hsm prepare`.');
        return exitCodes.ok;
      }),
    );
}

function addJoin(command: Command, run: CommandRunner): void {
  command
    .command('join')
    .description(
      'make the data directory of a node that `cluster add` invited, before xksd first starts there; needs --config',
    )
    .argument(
      '[token]',
      'as `cluster add` printed it; better from standard input, where no process list shows it',
    )
    .action((token: string | undefined) =>
      run(async (context) => {
        const { output } = context;
        const config = requireConfig(context, 'xksctl cluster join');
        const identity = await initialiseJoiner(config, await readSecretArgument(token, 'the join token'));
        if (!identity.ok) throw new CommandFailure('failed', identity.error);
        showIdentity(output, config, identity.value);
        output.message('Next: start xksd here, then `xksctl cluster promote` once it has caught up.');
        return exitCodes.ok;
      }),
    );
}

function parseExpires(text: string): number {
  const seconds = Number(text);
  const { min, max } = inviteSeconds;
  if (/^[0-9]+$/.test(text) && seconds >= min && seconds <= max) return seconds;
  throw new InvalidArgumentError(`Whole seconds, from ${min} to ${max}.`);
}

function parseNodeName(text: string): string {
  if (isNodeName(text)) return text;
  throw new InvalidArgumentError(`It has to be ${nodeNameForm}.`);
}

function parseAddress(text: string): string {
  if (isHostPort(text)) return text;
  throw new InvalidArgumentError(`It is ${hostPortForm}.`);
}

function addMemberCommands(command: Command, run: CommandRunner): void {
  command
    .command('add')
    .description('invite a node: prints the token that `cluster join` needs there, once')
    .argument('<name>', '[node] name of the new node, and the name in its cluster certificate', parseNodeName)
    .requiredOption(
      '--address <host:port>',
      'where the other nodes reach it ([cluster] advertise there)',
      parseAddress,
    )
    .option('--expires <seconds>', 'how long the token is good (default: a day)', parseExpires)
    .action((name: string, options: { address: string; expires?: number }) =>
      run(async ({ client, output }) => {
        const answer = await client().call('cluster.add', {
          name,
          address: options.address,
          ...(options.expires === undefined ? {} : { expiresSeconds: options.expires }),
        });
        output.data(answer, () =>
          fields([
            ['node', name],
            ['member', answer.member.memberId],
            ['good until', timeText(answer.expiresAtMs)],
            ['join token', answer.joinToken],
          ]),
        );
        output.message(
          `The token is shown only here. On ${name}: xksctl cluster join --config /etc/xksd/xksd.toml, and give it there.`,
        );
        return reportChange(output, answer.change, false);
      }),
    );

  command
    .command('promote')
    .description('make a learner that has caught up a voter')
    .argument('<name>')
    .option('--force', 'although it lags behind or does not answer')
    .action((name: string, options: { force?: true }) =>
      run(async ({ client, output }) => {
        const answer = await client().call('cluster.promote', { name, ...options });
        output.data(answer, () => memberTable(output, [answer.member]));
        return reportChange(output, answer.change, false);
      }),
    );

  command
    .command('remove')
    .description(
      'remove a node for good: it stops serving as soon as it hears of it; exit 3 while a voter has not applied that',
    )
    .argument('<name>')
    .option('--force', 'although the voters left that can be reached are no quorum')
    .action((name: string, options: { force?: true }) =>
      run(async ({ client, output }) => {
        const answer = await client().call('cluster.remove', { name, ...options });
        output.data(answer, () =>
          fields([
            ['removed', answer.name],
            ['member', answer.memberId],
            ['change', changeText(answer.change)],
          ]),
        );
        const { unapplied, status } = answer;
        if (status === 'invited') {
          output.message(
            `${name} had not joined: its invitation is withdrawn, and its token is of no use any more.`,
          );
          return reportChange(output, answer.change, false);
        }
        output.message(
          unapplied.length === 0
            ? `Stop xksd on ${name} and wipe its data directory; then \`xksctl cluster forget ${name} --destroyed\`.`
            : `Leave ${name} running until ${unapplied.join(', ')} ${unapplied.length === 1 ? 'has' : 'have'} applied this (\`xksctl cluster status\`): they may still need its vote.`,
        );
        const code = reportChange(output, answer.change, false);
        return unapplied.length === 0 ? code : exitCodes.degraded;
      }),
    );

  command
    .command('forget')
    .description('leave a former member out of reports: its data directory was destroyed')
    .argument('<name>', 'name or member id')
    .requiredOption('--destroyed', 'yes, it was: nobody will start that node again as it was')
    .action((name: string) =>
      run(async ({ client, output }) => {
        const answer = await client().call('cluster.forget', { name, destroyed: true });
        output.data(answer, () =>
          fields([
            ['forgotten', answer.name],
            ['change', changeText(answer.change)],
          ]),
        );
        return reportChange(output, answer.change, false);
      }),
    );
}

export function addClusterCommand(program: Command, run: CommandRunner): void {
  const command = program.command('cluster').description('the nodes that share key state');
  addInit(command, run);
  addJoin(command, run);

  command
    .command('status')
    .description('members, leader, lag; exit 3 when something wants a look')
    .action(() =>
      run(async ({ client, output }) => {
        const status = await client().call('cluster.status', {});
        output.data(status, () => describeStatus(output, status));
        return status.degraded.length === 0 ? exitCodes.ok : exitCodes.degraded;
      }),
    );

  addMemberCommands(command, run);
  addRecoverCommand(command, run);
  addPendingCommand(command, run);
  addSettingsCommand(command, run);

  command
    .command('transfer')
    .description('have another voter lead, e.g. before maintenance of this node')
    .argument('<name>')
    .action((name: string) =>
      run(async ({ client, output }) => {
        const answer = await client().call('cluster.transfer', { to: name });
        output.data(answer, () =>
          fields([
            ['leader', answer.leader],
            ['term', String(answer.term)],
          ]),
        );
        return exitCodes.ok;
      }),
    );

  command
    .command('upgrade')
    .description('switch on what this release adds, once every node runs it; there is no way back')
    .requiredOption('--finalize', 'yes: nodes of an earlier release cannot take part any more')
    .action(() =>
      run(async ({ client, output }) => {
        const answer = await client().call('cluster.upgrade', { finalize: true });
        output.data(answer, () => fields([['active format', String(answer.activeFormat)]]));
        for (const member of answer.joinedMeanwhile) {
          output.message(
            `warning: ${member}, and joined meanwhile: if its release is an earlier one it stops, and is to be installed anew`,
          );
        }
        return answer.change === null ? exitCodes.ok : reportChange(output, answer.change, false);
      }),
    );
}
