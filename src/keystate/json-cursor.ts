import { isAscii } from 'node:buffer';
import { allocateShortBytes } from './short-bytes.js';

const quote = 0x22;
const backslash = 0x5c;
const space = 0x20;
const zero = 0x30;
const nine = 0x39;
/** Of the largest number that JSON and JavaScript agree on. */
const digitsMax = 16;

const noDigit = 0xff;
/** By character code: only what is written, so no capitals. */
const nibbles = Uint8Array.from({ length: 256 }, (_, code) => {
  const nibble = '0123456789abcdef'.indexOf(String.fromCharCode(code));
  return nibble < 0 ? noDigit : nibble;
});

/**
 * Reads JSON in the one spelling that `json-fields.ts` writes, where no text needs an escape or is beyond ASCII: nearly
 * always. What it does not take is left to `JSON.parse` and a comparison, which cost several times as much. After a
 * failure the place is of no more use.
 */
export class JsonCursor {
  readonly #bytes: Buffer;
  /** The same, character by byte. */
  readonly #text: string;
  #at = 0;

  private constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#text = bytes.toString('latin1');
  }

  /** `null` when it is not ASCII. */
  static over(bytes: Uint8Array): JsonCursor | null {
    return isAscii(bytes)
      ? new JsonCursor(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
      : null;
  }

  get atEnd(): boolean {
    return this.#at === this.#text.length;
  }

  /** Whether `text` comes next; if so it is behind us. */
  skip(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  /** A string that needs no escape, of so many characters at most. */
  string(charactersMax: number): string | undefined {
    const end = this.#stringEnd(this.#at);
    if (end < 0 || end - this.#at - 1 > charactersMax) return undefined;
    // Not a part of the text, which would stay in memory as a whole for as long as the part does.
    const value = this.#bytes.toString('latin1', this.#at + 1, end);
    this.#at = end + 1;
    return value;
  }

  /** The string that comes after `text`, if that comes next. Nothing is behind us then. */
  peekAfter(text: string): string | undefined {
    if (!this.#text.startsWith(text, this.#at)) return undefined;
    const start = this.#at + text.length;
    const end = this.#stringEnd(start);
    return end < 0 ? undefined : this.#text.slice(start + 1, end);
  }

  /** A whole number within 0 … 2^53 − 1. */
  count(): number | undefined {
    const start = this.#at;
    let value = 0;
    let code = this.#text.charCodeAt(this.#at);
    while (code >= zero && code <= nine) {
      value = value * 10 + (code - zero);
      this.#at += 1;
      code = this.#text.charCodeAt(this.#at);
    }
    const digits = this.#at - start;
    const leadsWithZero = digits > 1 && this.#text.charCodeAt(start) === zero;
    return digits === 0 || digits > digitsMax || leadsWithZero || !Number.isSafeInteger(value)
      ? undefined
      : value;
  }

  /** Bytes in hexadecimal, so many at most. */
  hex(bytesMax: number): Uint8Array | undefined {
    const end = this.#stringEnd(this.#at);
    const length = (end - this.#at - 1) / 2;
    if (end < 0 || !Number.isInteger(length) || length > bytesMax) return undefined;
    const value = allocateShortBytes(length);
    let from = this.#at + 1;
    for (let to = 0; to < length; to += 1) {
      const high = nibbles[this.#bytes[from] ?? 0] ?? noDigit;
      const low = nibbles[this.#bytes[from + 1] ?? 0] ?? noDigit;
      if (high === noDigit || low === noDigit) return undefined;
      value[to] = (high << 4) | low;
      from += 2;
    }
    this.#at = end + 1;
    return value;
  }

  /** Where the string that starts at `start` has its closing quote; −1 when it is none, or needs an escape. */
  #stringEnd(start: number): number {
    if (this.#text.charCodeAt(start) !== quote) return -1;
    for (let end = start + 1; end < this.#text.length; end += 1) {
      const code = this.#text.charCodeAt(end);
      if (code === quote) return end;
      if (code < space || code === backslash) return -1;
    }
    return -1;
  }
}
