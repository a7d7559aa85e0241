import { isUtf8 } from 'node:buffer';
import { invariant, isJsonObject } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import { JsonCursor } from './json-cursor.js';
import { allocateShortBytes } from './short-bytes.js';

/**
 * How values of commands and snapshot records look in JSON: strictly one way. A codec refuses the same values in both
 * directions, so that nothing can be encoded that could not be decoded again.
 */
export interface FieldCodec<T> {
  /** The value as JSON text, canonically. @throws FieldError */
  write(value: T): string;
  /** @throws FieldError */
  fromJson(json: unknown): T;
  /**
   * What comes next, if it is just as `write` writes it; `undefined`: it may be, or may be not, and what is wrong only
   * `fromJson` says. Whatever it gives, `write` makes the same text of it.
   */
  read(cursor: JsonCursor): T | undefined;
}

/** A value that the format does not know. */
export class FieldError extends Error {
  override readonly name = 'FieldError';
  readonly #problem: string;
  readonly #path: string | null;

  /** @param path from where it is thrown to the value (empty: that itself); `null` where `problem` says all. */
  constructor(problem: string, path: string | null = null) {
    super(path === null ? problem : `${path === '' ? 'it' : path} ${problem}`);
    this.#problem = problem;
    this.#path = path;
  }

  /** As seen from one step further out: the path is put together only where something is wrong. */
  within(step: string): FieldError {
    if (this.#path === null) return this;
    const separator = this.#path === '' || this.#path.startsWith('[') ? '' : '.';
    return new FieldError(this.#problem, `${step}${separator}${this.#path}`);
  }
}

function fail(problem: string, path = ''): never {
  throw new FieldError(problem, path);
}

const seenFrom = (step: string, thrown: unknown): unknown =>
  thrown instanceof FieldError ? thrown.within(step) : thrown;

/** Bounds of the format. Tighter ones, worded for operators, are in `apply`. */
const stringCharactersMax = 4_096;
const bytesMax = 4_096;

function checkString(json: unknown): string {
  if (typeof json !== 'string') return fail('is not a string');
  if (json.length > stringCharactersMax) return fail(`is longer than ${stringCharactersMax} characters`);
  return json;
}

/** Printable ASCII without `"` and `\`: what needs no escape, and is nearly everything. */
const plainPattern = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;

export const stringField: FieldCodec<string> = {
  write: (value) => (plainPattern.test(checkString(value)) ? `"${value}"` : JSON.stringify(value)),
  fromJson: checkString,
  read: (cursor) => cursor.string(stringCharactersMax),
};

function checkCount(json: unknown): number {
  if (typeof json !== 'number' || !Number.isSafeInteger(json) || json < 0) {
    return fail('is not a whole number of 0 or more');
  }
  return json;
}

/** A whole number within 0 … 2^53 − 1. */
export const countField: FieldCodec<number> = {
  write: (value) => String(checkCount(value)),
  fromJson: checkCount,
  read: (cursor) => cursor.count(),
};

function checkBoolean(json: unknown): boolean {
  return typeof json === 'boolean' ? json : fail('is neither true nor false');
}

export const booleanField: FieldCodec<boolean> = {
  write: (value) => String(checkBoolean(value)),
  fromJson: checkBoolean,
  read: (cursor) => (cursor.skip('true') ? true : cursor.skip('false') ? false : undefined),
};

/** One of a few words. */
export function wordField<const T extends string>(words: readonly T[]): FieldCodec<T> {
  const texts = words.map((word) => JSON.stringify(word));
  const placeOf = (json: unknown): number => {
    const place = (words as readonly unknown[]).indexOf(json);
    return place >= 0 ? place : fail(`is not one of ${words.join(', ')}`);
  };
  return {
    write: (value) => texts[placeOf(value)] ?? '',
    fromJson: (json) => words[placeOf(json)] ?? fail('is missing'),
    // No text of one is the beginning of another's: each ends with its quote.
    read: (cursor) => words[texts.findIndex((text) => cursor.skip(text))],
  };
}

/** Between bytes and hexadecimal, in one piece of memory for all. */
const scratch = Buffer.alloc(bytesMax);
const scratchBytes = new Uint8Array(scratch.buffer, scratch.byteOffset, scratch.byteLength);

function writeBytes(value: Uint8Array): string {
  if (value.byteLength > bytesMax) return fail('is too long');
  scratch.set(value);
  return `"${scratch.toString('hex', 0, value.byteLength)}"`;
}

function readBytes(json: unknown): Uint8Array {
  if (typeof json !== 'string') return fail('is not a string');
  if (json.length > 2 * bytesMax) return fail(`is longer than ${bytesMax} bytes`);
  const bytes = json.length >>> 1;
  // Writing stops at the first character that is no digit.
  if (json.length % 2 !== 0 || scratch.write(json, 'hex') !== bytes) return fail('is not hexadecimal');
  const value = allocateShortBytes(bytes);
  value.set(scratchBytes.subarray(0, bytes));
  return value;
}

/** Bytes as lower-case hexadecimal. What decoding gives shares its memory with others. */
export const bytesField: FieldCodec<Uint8Array> = {
  write: writeBytes,
  fromJson: readBytes,
  read: (cursor) => cursor.hex(bytesMax),
};

export function nullableField<T>(field: FieldCodec<T>): FieldCodec<T | null> {
  return {
    write: (value) => (value === null ? 'null' : field.write(value)),
    fromJson: (json) => (json === null ? null : field.fromJson(json)),
    read: (cursor) => (cursor.skip('null') ? null : field.read(cursor)),
  };
}

export function listField<T>(field: FieldCodec<T>, lengthMax: number): FieldCodec<readonly T[]> {
  const each = <From, To>(values: readonly From[], convert: (value: From) => To): To[] => {
    if (values.length > lengthMax) fail(`has more than ${lengthMax} elements`);
    return values.map((value, index) => {
      try {
        return convert(value);
      } catch (thrown) {
        throw seenFrom(`[${index}]`, thrown);
      }
    });
  };
  return {
    write: (values) => `[${each(values, (value) => field.write(value)).join(',')}]`,
    fromJson: (json) =>
      Array.isArray(json) ? each(json, (element) => field.fromJson(element)) : fail('is not a list'),
    read: (cursor) => {
      if (cursor.skip('[]')) return [];
      const values: T[] = [];
      while (values.length < lengthMax) {
        if (!cursor.skip(values.length === 0 ? '[' : ',')) return undefined;
        const value = field.read(cursor);
        if (value === undefined) return undefined;
        values.push(value);
        // A copy has just the length: what grows by `push` has room for 17 elements, and key state has lists by the 100,000.
        if (cursor.skip(']')) return values.slice();
      }
      return undefined;
    },
  };
}

/** Different lists that `sharedListField` keeps; the rest are each their own. */
const sharedListsMax = 64;

/** A list of words of which few different ones occur: equal ones, as they are read, are one and the same. */
export function sharedListField(lengthMax: number): FieldCodec<readonly string[]> {
  const own = listField(stringField, lengthMax);
  const known = new Map<string, readonly string[]>();
  const shared = (values: readonly string[]): readonly string[] => {
    const text = JSON.stringify(values);
    const first = known.get(text);
    if (first !== undefined) return first;
    if (known.size < sharedListsMax) known.set(text, values);
    return values;
  };
  return {
    write: own.write,
    fromJson: (json) => shared(own.fromJson(json)),
    read: (cursor) => {
      const values = own.read(cursor);
      return values === undefined ? undefined : shared(values);
    },
  };
}

/** The codec of each field, in canonical order. */
export type FieldCodecs<T> = { readonly [K in keyof T]-?: FieldCodec<T[K]> };

/** An object with exactly the fields named, written in the order in which they are named. */
export function objectField<T extends object>(fields: FieldCodecs<T>): FieldCodec<T> {
  const names = Object.keys(fields) as (keyof T & string)[];
  const parts = names.map((name, place) => ({
    name,
    start: `${place === 0 ? '{' : ','}${JSON.stringify(name)}:`,
    field: fields[name],
  }));
  // The first of them opens the object.
  invariant(parts.length > 0, 'an object without fields has no codec');
  return {
    write: (value) => {
      let text = '';
      for (const { name, start, field } of parts) {
        try {
          text += start + field.write(value[name]);
        } catch (thrown) {
          throw seenFrom(name, thrown);
        }
      }
      return `${text}}`;
    },
    fromJson: (json) => {
      if (!isJsonObject(json)) return fail('is not an object');
      const value: Partial<T> = {};
      for (const name of names) {
        if (!Object.hasOwn(json, name)) return fail('is missing', name);
        try {
          value[name] = fields[name].fromJson(json[name]);
        } catch (thrown) {
          throw seenFrom(name, thrown);
        }
      }
      const given = Object.keys(json);
      if (given.length > names.length) {
        const unknown = given.find((name) => !Object.hasOwn(fields, name)) ?? '';
        return fail('is not known', unknown.slice(0, 64));
      }
      return value as T;
    },
    read: (cursor) => {
      const value: Partial<T> = {};
      for (const { name, start, field } of parts) {
        if (!cursor.skip(start)) return undefined;
        const part = field.read(cursor);
        if (part === undefined) return undefined;
        value[name] = part;
      }
      return cursor.skip('}') ? (value as T) : undefined;
    },
  };
}

/** Canonical JSON in UTF-8. @throws FieldError for a value that the format does not take: a bug of the caller's. */
export function encodeJson<T>(codec: FieldCodec<T>, value: T): Buffer {
  return Buffer.from(codec.write(value), 'utf8');
}

/** Parses what `encodeJson` wrote, and nothing else: any other spelling of the same value is refused. */
export function decodeJson<T>(codec: FieldCodec<T>, bytes: Uint8Array): Result<T, string> {
  const cursor = JsonCursor.over(bytes);
  const value = cursor === null ? undefined : codec.read(cursor);
  return value !== undefined && cursor?.atEnd === true ? ok(value) : parseJson(codec, bytes);
}

function parseJson<T>(codec: FieldCodec<T>, bytes: Uint8Array): Result<T, string> {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return err('it is not JSON');
  }
  try {
    const value = codec.fromJson(json);
    // Compared as texts, which is cheaper than as bytes: one and the same for bytes that are UTF-8.
    return codec.write(value) === text && isUtf8(bytes) ? ok(value) : err('it is not in canonical form');
  } catch (thrown) {
    if (thrown instanceof FieldError) return err(thrown.message);
    throw thrown;
  }
}
