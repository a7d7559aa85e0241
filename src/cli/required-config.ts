import { type Config, loadConfig } from '../ops/config.js';
import type { CommandContext } from './command-context.js';
import { CommandFailure, exitCodes } from './command-failure.js';

/** `--config`, which commands on the data directory itself need. */
export function requireConfig({ configPath }: CommandContext, usage: string): Config {
  if (configPath === null) {
    throw new CommandFailure(
      'usage',
      `say which node: \`${usage} --config /etc/xksd/xksd.toml\`.`,
      exitCodes.usage,
    );
  }
  const config = loadConfig(configPath);
  if (!config.ok) throw new CommandFailure('invalid', config.error.message, exitCodes.usage);
  return config.value;
}
