import { isUtf8 } from 'node:buffer';
import { isJsonObject } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';

/** A parsed object, its fields not looked at yet. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** Requests nest two deep; the rest is room for fields that KMS may add (X-M2). */
const nestingMax = 16;

/**
 * Parses the one JSON object that a body is (RFC 8259), and nothing looser: valid UTF-8, no byte order mark (§8.1),
 * nothing after the object, no name twice in an object (§4: what such a text means is anybody's guess).
 *
 * @returns what is wrong as an `errorMessage`; it never quotes the body, which may hold plaintext.
 */
export function parseJsonObject(body: Uint8Array): Result<JsonObject, string> {
  if (!isUtf8(body)) return err('The body is not UTF-8.');
  const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8');
  const names = namesWritten(text);
  const fault = names === null ? structuralFault(text) : null;
  if (fault !== null) return err(fault);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return err(structuralFault(text) ?? 'The body is not JSON.');
  }
  // As many names as were written: none was written twice in an object.
  if (names !== namesIn(value)) {
    const repeated = structuralFault(text);
    if (repeated !== null) return err(repeated);
  }
  return isJsonObject(value) ? ok(value) : err('The body is not a JSON object.');
}

/**
 * How many names of members a text that is JSON holds: its strings with a colon behind them. `null` for what
 * `structuralFault` has to look at more closely before anybody parses it.
 */
function namesWritten(text: string): number | null {
  let names = 0;
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case quote:
        at = closingQuote(text, at + 1);
        if (at === -1) return null;
        if (followedByColon(text, at + 1)) names++;
        break;
      case openingBrace:
      case openingBracket:
        depth++;
        if (depth > nestingMax) return null;
        break;
      case closingBrace:
      case closingBracket:
        depth--;
        break;
    }
  }
  return names;
}

/** How many members a value has that `JSON.parse` made, at any depth: of those with one name, one. */
function namesIn(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  let names = 0;
  if (Array.isArray(value)) {
    for (const element of value) names += namesIn(element);
  } else {
    for (const member of Object.values(value)) names += 1 + namesIn(member);
  }
  return names;
}

const quote = 0x22;
const colon = 0x3a;
const openingBracket = 0x5b;
const backslash = 0x5c;
const closingBracket = 0x5d;
const openingBrace = 0x7b;
const closingBrace = 0x7d;

/**
 * Finds what `JSON.parse` lets pass: a repeated name, and nesting deeper than anything sensible. Strings are skipped
 * by searching for their end, so the cost is that of the few characters between them. A text that is not JSON may get
 * any verdict here: the parser has the last word. Asked where counting names did not suffice.
 */
function structuralFault(text: string): string | null {
  /** One entry for each open object (its names) or array (`null`). */
  const open: (Set<string> | null)[] = [];
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case quote: {
        const end = closingQuote(text, at + 1);
        if (end === -1) return null;
        const names = open.at(-1);
        if (names && followedByColon(text, end + 1)) {
          const name = unescaped(text.slice(at, end + 1));
          if (name === null) return null;
          if (names.has(name)) return 'The body holds a field twice.';
          names.add(name);
        }
        at = end;
        break;
      }
      case openingBrace:
      case openingBracket:
        if (open.length === nestingMax) return 'The body is nested too deeply.';
        open.push(text.charCodeAt(at) === openingBrace ? new Set() : null);
        break;
      case closingBrace:
      case closingBracket:
        open.pop();
        break;
    }
  }
  return null;
}

/** The quotation mark that ends the string whose content begins at `start`, or -1. */
function closingQuote(text: string, start: number): number {
  for (let end = text.indexOf('"', start); end !== -1; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === backslash) backslashes++;
    if (backslashes % 2 === 0) return end;
  }
  return -1;
}

function followedByColon(text: string, start: number): boolean {
  let at = start;
  // Control characters other than JSON's white space are left to the parser to refuse.
  while (text.charCodeAt(at) <= 0x20) at++;
  return text.charCodeAt(at) === colon;
}

function unescaped(literal: string): string | null {
  if (!literal.includes('\\')) return literal.slice(1, -1);
  try {
    return JSON.parse(literal) as string;
  } catch {
    return null;
  }
}
