import { decodeHex, encodeHex } from '../base/bytes.js';
import { isJsonObject } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';

/**
 * How values of commands and snapshot records look in JSON: strictly one way. A codec refuses the same values in both
 * directions, so that nothing can be encoded that could not be decoded again.
 */
export interface FieldCodec<T> {
  /** @throws FieldError */
  toJson(value: T, path: string): unknown;
  /** @throws FieldError */
  fromJson(json: unknown, path: string): T;
}

/** A value that the format does not know, with the path to it. */
export class FieldError extends Error {
  override readonly name = 'FieldError';
}

function fail(path: string, problem: string): never {
  throw new FieldError(`${path} ${problem}`);
}

/** Bounds of the format. Tighter ones, worded for operators, are in `apply`. */
const stringCharactersMax = 4_096;
const bytesMax = 4_096;

function checkString(json: unknown, path: string): string {
  if (typeof json !== 'string') return fail(path, 'is not a string');
  if (json.length > stringCharactersMax)
    return fail(path, `is longer than ${stringCharactersMax} characters`);
  return json;
}

export const stringField: FieldCodec<string> = {
  toJson: (value, path) => checkString(value, path),
  fromJson: checkString,
};

function checkCount(json: unknown, path: string): number {
  if (typeof json !== 'number' || !Number.isSafeInteger(json) || json < 0) {
    return fail(path, 'is not a whole number of 0 or more');
  }
  return json;
}

/** A whole number within 0 … 2^53 − 1. */
export const countField: FieldCodec<number> = {
  toJson: (value, path) => checkCount(value, path),
  fromJson: checkCount,
};

function checkBoolean(json: unknown, path: string): boolean {
  return typeof json === 'boolean' ? json : fail(path, 'is neither true nor false');
}

export const booleanField: FieldCodec<boolean> = {
  toJson: (value, path) => checkBoolean(value, path),
  fromJson: checkBoolean,
};

/** One of a few words. */
export function wordField<const T extends string>(words: readonly T[]): FieldCodec<T> {
  const check = (json: unknown, path: string): T => {
    const word = words.find((known) => known === json);
    return word ?? fail(path, `is not one of ${words.join(', ')}`);
  };
  return { toJson: (value, path) => check(value, path), fromJson: check };
}

/** Bytes as lower-case hexadecimal. Decoding gives an array of its own, on no shared pool. */
export const bytesField: FieldCodec<Uint8Array> = {
  toJson: (value, path) => (value.byteLength > bytesMax ? fail(path, 'is too long') : encodeHex(value)),
  fromJson: (json, path) => {
    if (typeof json !== 'string') return fail(path, 'is not a string');
    if (json.length > 2 * bytesMax) return fail(path, `is longer than ${bytesMax} bytes`);
    const decoded = decodeHex(json);
    if (decoded === null) return fail(path, 'is not hexadecimal');
    // A view on Node's pool would keep 8 KiB alive for as long as the key lives.
    return new Uint8Array(decoded);
  },
};

export function nullableField<T>(field: FieldCodec<T>): FieldCodec<T | null> {
  return {
    toJson: (value, path) => (value === null ? null : field.toJson(value, path)),
    fromJson: (json, path) => (json === null ? null : field.fromJson(json, path)),
  };
}

export function listField<T>(field: FieldCodec<T>, lengthMax: number): FieldCodec<readonly T[]> {
  const checkLength = (length: number, path: string): void => {
    if (length > lengthMax) fail(path, `has more than ${lengthMax} elements`);
  };
  return {
    toJson: (values, path) => {
      checkLength(values.length, path);
      return values.map((value, index) => field.toJson(value, `${path}[${index}]`));
    },
    fromJson: (json, path) => {
      if (!Array.isArray(json)) return fail(path, 'is not a list');
      checkLength(json.length, path);
      return json.map((element, index) => field.fromJson(element, `${path}[${index}]`));
    },
  };
}

/** The codec of each field, in canonical order. */
export type FieldCodecs<T> = { readonly [K in keyof T]-?: FieldCodec<T[K]> };

/** An object with exactly the fields named, written in the order in which they are named. */
export function objectField<T extends object>(fields: FieldCodecs<T>): FieldCodec<T> {
  const names = Object.keys(fields) as (keyof T & string)[];
  return {
    toJson: (value, path) => {
      const json: Record<string, unknown> = {};
      for (const name of names) json[name] = fields[name].toJson(value[name], join(path, name));
      return json;
    },
    fromJson: (json, path) => {
      if (!isJsonObject(json)) return fail(path === '' ? 'it' : path, 'is not an object');
      const value: Partial<T> = {};
      for (const name of names) {
        if (!Object.hasOwn(json, name)) return fail(join(path, name), 'is missing');
        value[name] = fields[name].fromJson(json[name], join(path, name));
      }
      for (const name of Object.keys(json)) {
        if (!Object.hasOwn(fields, name)) return fail(join(path, name.slice(0, 64)), 'is not known');
      }
      return value as T;
    },
  };
}

const join = (path: string, name: string): string => (path === '' ? name : `${path}.${name}`);

/** Canonical JSON in UTF-8. @throws FieldError for a value that the format does not take: a bug of the caller's. */
export function encodeJson<T>(codec: FieldCodec<T>, value: T): Buffer {
  return Buffer.from(JSON.stringify(codec.toJson(value, '')), 'utf8');
}

/** Parses what `encodeJson` wrote, and nothing else: any other spelling of the same value is refused. */
export function decodeJson<T>(codec: FieldCodec<T>, bytes: Uint8Array): Result<T, string> {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let json: unknown;
  try {
    json = JSON.parse(text.toString('utf8'));
  } catch {
    return err('it is not JSON');
  }
  try {
    const value = codec.fromJson(json, '');
    return encodeJson(codec, value).equals(text) ? ok(value) : err('it is not in canonical form');
  } catch (thrown) {
    if (thrown instanceof FieldError) return err(thrown.message);
    throw thrown;
  }
}
