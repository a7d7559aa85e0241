import type { CommandFailure } from './command-failure.js';

export type OutputFormat = 'json' | 'text';

export type Colour = 'red' | 'green' | 'yellow' | 'bold';

const escapes: { readonly [C in Colour]: string } = {
  red: '\u001b[31m',
  green: '\u001b[32m',
  yellow: '\u001b[33m',
  bold: '\u001b[1m',
};

export interface OutputStreams {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Whether `out` is a terminal that may be coloured (`NO_COLOR`, https://no-color.org). */
  readonly isColoured: boolean;
}

/** Where commands write: data to standard output in the format asked for, messages to standard error. */
export class Output {
  readonly format: OutputFormat;
  readonly #streams: OutputStreams;

  constructor(format: OutputFormat, streams: OutputStreams) {
    this.format = format;
    this.#streams = streams;
  }

  /** The answer of a command, once. `text` is only made when it is wanted. */
  data(value: object, text: () => string): void {
    this.#streams.out(this.format === 'json' ? `${JSON.stringify(value, null, 2)}\n` : `${text()}\n`);
  }

  /** For people, beside the data. */
  message(text: string): void {
    this.#streams.err(`${text}\n`);
  }

  failure(failure: CommandFailure): void {
    const { code, message } = failure;
    this.#streams.err(
      this.format === 'json' ? `${JSON.stringify({ error: { code, message } })}\n` : `xksctl: ${message}\n`,
    );
  }

  paint(colour: Colour, text: string): string {
    return this.#streams.isColoured ? `${escapes[colour]}${text}\u001b[0m` : text;
  }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are what it looks for
const escapeSequence = /\u001b\[[0-9]+m/g;

const widthOf = (cell: string): number => cell.replace(escapeSequence, '').length;

/** Columns as wide as their widest cell, two spaces between them. */
export function table(headers: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headers, ...rows];
  const widths = headers.map((_, column) => Math.max(...lines.map((line) => widthOf(line[column] ?? ''))));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - widthOf(cell)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** `name  value` lines, aligned. */
export function fields(pairs: readonly (readonly [string, string])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${name.padEnd(width)}  ${value}`.trimEnd()).join('\n');
}

export const indent = (text: string): string => text.replace(/^(?=.)/gm, '  ');

/** A wall-clock time, to the second, UTC. */
export const timeText = (ms: number): string =>
  new Date(ms)
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, 'Z');

/** How long ago or for how long, in its two largest units. */
export function durationText(ms: number): string {
  let seconds = Math.max(0, Math.floor(ms / 1_000));
  const parts: string[] = [];
  for (const [unit, length] of [
    ['d', 86_400],
    ['h', 3_600],
    ['min', 60],
    ['s', 1],
  ] as const) {
    const count = Math.floor(seconds / length);
    seconds -= count * length;
    if (count > 0) parts.push(`${count} ${unit}`);
  }
  return parts.slice(0, 2).join(' ') || '0 s';
}
