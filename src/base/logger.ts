/** Values that may appear in a log line. Never plaintext, PINs or secret access keys (X-L2). */
export type LogFields = Readonly<Record<string, unknown>>;

/**
 * Structured logging as every layer sees it; `ops/logging.ts` implements it over pino. A message is a constant
 * sentence, what varies goes into `fields`.
 */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds `fields` to each of its lines. */
  child(fields: LogFields): Logger;
}

export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLogger,
};
