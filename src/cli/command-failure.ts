/** What a shell sees of a command (operations.md). */
export const exitCodes = { ok: 0, failed: 1, usage: 2, degraded: 3 } as const;
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
