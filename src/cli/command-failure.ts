import type { CommanderError } from 'commander';

/** What a shell sees of a command (operations.md; those of changes, replication.md). */
export const exitCodes = {
  ok: 0,
  failed: 1,
  /** A person must put something right first: the command line, or what `xksd` is to run with. */
  usage: 2,
  degraded: 3,
  /** A change may or may not have been made: safe to repeat under its request id. */
  outcomeUnknown: 11,
  /** No quorum: no log took a change, and none will; or nobody confirmed what was to be shown. */
  notTaken: 12,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** An expected failure of a command: its message is for the operator, as it is. */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  /** Stable: scripts match on it. */
  readonly code: string;
  readonly exitCode: ExitCode;

  constructor(code: string, message: string, exitCode: ExitCode = exitCodes.failed) {
    super(message);
    this.code = code;
    this.exitCode = exitCode;
  }
}

/** What commander found wrong with the command line; `null` for help and version, which it has printed. */
export function usageFailure({ code, message }: CommanderError): CommandFailure | null {
  if (code === 'commander.version' || code.startsWith('commander.help')) return null;
  const text = message.replace(/^error: /, '').replaceAll('\n', ' ');
  return new CommandFailure('usage', text, exitCodes.usage);
}
