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

/** A logger that also takes lines whose fields are JSON already: what is written with every request is worth it. */
export interface LineLogger extends Logger {
  /** Whether `infoJson` writes anything: whoever asks first need not make the fields. */
  readonly infoEnabled: boolean;
  /**
   * As `info`. `fields` is `,"name":value` for each field, the values redacted by whoever made them (`redactedJson` of
   * `ops/redaction.ts`), no name among them that a line has of its own.
   */
  infoJson(message: string, fields: string): void;
}

export const silentLogger: LineLogger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLogger,
  infoEnabled: false,
  infoJson: () => {},
};
