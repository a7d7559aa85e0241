import type { Command } from 'commander';
import type { AdminResponse } from '../replica/admin-contract.js';
import type { CommandRunner } from './command-context.js';
import { exitCodes } from './command-failure.js';
import { tokenTable } from './hsm-command.js';
import { durationText, fields, indent, type Output, table } from './output.js';

type Status = AdminResponse<'status'>;

const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? '' : 's'}`;

const readyText = (output: Output, ready: boolean | null): string =>
  ready === null ? 'unknown' : output.paint(ready ? 'green' : 'red', ready ? 'yes' : 'no');

function describe(output: Output, status: Status): string {
  const { replica, servingProcesses, serving, counts } = status;
  const nowMs = Date.now();
  const head = fields([
    ['node', status.node],
    ['cluster', status.clusterId ?? 'none yet'],
    ['version', status.version],
    [
      'replica',
      `pid ${replica.pid}, up ${durationText(nowMs - replica.startedAtMs)}, key state at index ${replica.appliedIndex}`,
    ],
    [
      'key state',
      [
        count(counts.keyStores, 'key store'),
        count(counts.credentials, 'credential'),
        count(counts.keys, 'key'),
      ].join(', '),
    ],
    [
      'prepared',
      status.preparedTokens.map(({ label, serial }) => `${label} (${serial})`).join(', ') || 'no token',
    ],
    [
      'serving',
      `${serving.filter(({ ready }) => ready === true).length} of ${servingProcesses.configured} processes ready`,
    ],
  ]);
  const processes = table(
    ['PROCESS', 'PID', 'READY', 'APPLIED', 'UP', 'VERSION'],
    serving.map(({ process, pid, ready, appliedIndex, startedAtMs, version }) => [
      process,
      String(pid),
      readyText(output, ready),
      String(appliedIndex),
      durationText(nowMs - startedAtMs),
      version,
    ]),
  );
  const parts = [head];
  if (serving.length > 0) parts.push(indent(processes));
  if (status.tokens.length > 0) parts.push(indent(tokenTable(output, status.tokens)));
  const problems = status.degraded.map((finding) => output.paint('yellow', `! ${finding}`));
  parts.push(problems.length === 0 ? output.paint('green', 'All is well.') : problems.join('\n'));
  return parts.join('\n\n');
}

export function addStatusCommand(program: Command, run: CommandRunner): void {
  program
    .command('status')
    .description('this node on one screen; exit 3 when something wants a look')
    .action(() =>
      run(async ({ client, output }) => {
        const status = await client().call('status', {});
        output.data(status, () => describe(output, status));
        return status.degraded.length === 0 ? exitCodes.ok : exitCodes.degraded;
      }),
    );
}
