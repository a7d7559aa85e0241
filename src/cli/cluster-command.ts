import type { Command } from 'commander';
import { loadConfig } from '../ops/config.js';
import { initialiseNode } from '../replica/initialise-node.js';
import type { CommandRunner } from './command-context.js';
import { CommandFailure, exitCodes } from './command-failure.js';
import { fields } from './output.js';

export function addClusterCommand(program: Command, run: CommandRunner): void {
  const command = program.command('cluster').description('the cluster this node belongs to');

  command
    .command('init')
    .description('make the data directory of a new cluster, before xksd first starts; needs --config')
    .action(() =>
      run(async ({ configPath, output }) => {
        if (configPath === null) {
          throw new CommandFailure(
            'usage',
            'say which node: `xksctl cluster init --config /etc/xksd/xksd.toml`.',
            exitCodes.usage,
          );
        }
        const config = loadConfig(configPath);
        if (!config.ok) throw new CommandFailure('invalid', config.error.message);
        const identity = await initialiseNode(config.value);
        if (!identity.ok) throw new CommandFailure('failed', identity.error);
        const { clusterId, memberId } = identity.value;
        const { name, dataDir } = config.value.node;
        output.data({ node: name, clusterId, memberId, dataDir }, () =>
          fields([
            ['node', name],
            ['cluster', clusterId],
            ['member', memberId],
            ['data directory', dataDir],
          ]),
        );
        output.message('Next: start xksd, then `xksctl hsm prepare`.');
        return exitCodes.ok;
      }),
    );
}
