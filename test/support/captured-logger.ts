import type { LineLogger, LogFields, Logger } from '../../src/base/logger.js';

export interface LoggedLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly message: string;
  readonly fields: LogFields;
}

/** Keeps every line. */
export class CapturedLogger implements LineLogger {
  readonly lines: LoggedLine[];
  readonly infoEnabled = true;
  readonly #fields: LogFields;

  constructor(lines: LoggedLine[] = [], fields: LogFields = {}) {
    this.lines = lines;
    this.#fields = fields;
  }

  debug(message: string, fields: LogFields = {}): void {
    this.#keep('debug', message, fields);
  }
  info(message: string, fields: LogFields = {}): void {
    this.#keep('info', message, fields);
  }
  warn(message: string, fields: LogFields = {}): void {
    this.#keep('warn', message, fields);
  }
  error(message: string, fields: LogFields = {}): void {
    this.#keep('error', message, fields);
  }
  infoJson(message: string, fields: string): void {
    this.info(message, JSON.parse(`{${fields.slice(1)}}`) as LogFields);
  }
  child(fields: LogFields): Logger {
    return new CapturedLogger(this.lines, { ...this.#fields, ...fields });
  }

  /** The fields of the last line with this message. */
  last(message: string): LogFields | undefined {
    return this.lines.findLast((line) => line.message === message)?.fields;
  }

  /** Everything, as the log would hold it. */
  text(): string {
    return JSON.stringify(this.lines);
  }

  #keep(level: LoggedLine['level'], message: string, fields: LogFields): void {
    this.lines.push({ level, message, fields: { ...this.#fields, ...fields } });
  }
}
