import { pino, stdTimeFunctions } from 'pino';
import type { LineLogger, LogFields, Logger } from '../base/logger.js';
import { loadNativeBinding } from '../base/native.js';
import type { LogLevel } from './config.js';
import { LineTime } from './line-time.js';
import { LogSink, logBufferBytesMax } from './log-sink.js';
import { redact } from './redaction.js';
import { type ChildRole, processName } from './supervision.js';

export interface ProcessLogger extends LineLogger {
  /** Writes what is buffered, for at most half a second. Call it last, before the process ends. */
  flush(): void;
  /** Lines that the reader of the log was too slow for, since the start. */
  droppedLines(): number;
}

interface LoggerOptions {
  readonly level: LogLevel;
  readonly role: ChildRole | 'supervisor';
  /** 1-based place among the serving processes, 0 for the others. */
  readonly slot: number;
  /** 1 (standard output) when not given. */
  readonly fd?: number;
  /** Bytes buffered while the reader stands still; `logBufferBytesMax` when not given. */
  readonly bufferBytesMax?: number;
}

/** JSON lines on standard output: `level`, `time` (ISO 8601, UTC), `process` (`processName`), `pid`, the fields, `message`. */
export function createLogger(options: LoggerOptions): ProcessLogger {
  const base = { process: processName(options.role, options.slot), pid: process.pid };
  const sink = new LogSink(loadNativeBinding(), {
    fd: options.fd ?? 1,
    bufferBytesMax: options.bufferBytesMax ?? logBufferBytesMax,
    gapLine: (droppedLines) => {
      const time = new Date().toISOString();
      const message = 'log lines were dropped: the reader of the log is too slow';
      return `${JSON.stringify({ level: 'warn', time, ...base, droppedLines, message })}\n`;
    },
  });
  const logger = pino(
    {
      level: options.level,
      base,
      messageKey: 'message',
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }), log: fieldsOfLine },
    },
    sink,
  );
  const infoEnabled = logger.isLevelEnabled('info');
  const time = new LineTime();
  const own = `"process":${JSON.stringify(base.process)},"pid":${base.pid}`;
  return {
    ...adapt(logger),
    infoEnabled,
    infoJson: (message, fields) => {
      if (!infoEnabled) return;
      const now = time.text(Date.now());
      sink.write(`{"level":"info","time":"${now}",${own}${fields},"message":${JSON.stringify(message)}}\n`);
    },
    flush: () => sink.flush(),
    droppedLines: () => sink.dropped,
  };
}

/** @param errno what forbidding them ended with; 0 for well. */
export function warnOfCoreDumps(logger: Logger, errno: number): void {
  if (errno !== 0)
    logger.warn('core dumps cannot be forbidden: a crash may write plaintexts to disk', { errno });
}

/** What a line says of its own: a field of the same name would make a JSON object with two of them. */
const ownNames = ['level', 'time', 'process', 'pid', 'message'];

function fieldsOfLine(fields: LogFields): Record<string, unknown> {
  const line = redact(fields);
  for (const name of ownNames) {
    if (!Object.hasOwn(line, name)) continue;
    line[`field_${name}`] = line[name];
    delete line[name];
  }
  return line;
}

function adapt(logger: pino.Logger): Logger {
  return {
    debug: (message, fields) => logger.debug(fields ?? {}, message),
    info: (message, fields) => logger.info(fields ?? {}, message),
    warn: (message, fields) => logger.warn(fields ?? {}, message),
    error: (message, fields) => logger.error(fields ?? {}, message),
    child: (fields: LogFields) => adapt(logger.child(fieldsOfLine(fields))),
  };
}
