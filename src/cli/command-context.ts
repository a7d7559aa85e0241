import type { AdminClient } from './admin-client.js';
import type { ExitCode } from './command-failure.js';
import type { Output } from './output.js';

/** What a command of `xksctl` works with; made once the global options are known. */
export interface CommandContext {
  readonly output: Output;
  /** Finds the admin socket. Nothing is connected before the first call. */
  client(): AdminClient;
  /** `--config`; `null` when not given. */
  readonly configPath: string | null;
}

/** Runs `run` and lets its exit code be the process's. */
export type CommandRunner = (run: (context: CommandContext) => Promise<ExitCode>) => Promise<void>;
