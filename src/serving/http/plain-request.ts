import { authorityPattern, type RequestHead } from './request-head.js';

/** What a plain request is held to; anything beyond is for Node's parser to judge. */
export interface PlainLimits {
  readonly headerBytesMax: number;
  readonly headerFieldsMax: number;
  readonly bodyBytesMax: number;
}

/** A plain request up to its body. */
export interface PlainHead {
  readonly head: RequestHead;
  /** Request line and header section with the empty line behind it: the body begins here. */
  readonly headBytes: number;
  /** What `Content-Length` declares. */
  readonly bodyBytes: number;
}

const token = 1;
const visibleOrSpace = 2;
const targetCharacter = 4;
const upperCase = 8;

/** The class of each byte. */
const classes = ((): Uint8Array => {
  const table = new Uint8Array(256);
  const mark = (characters: string, as: number): void => {
    for (const byte of Buffer.from(characters, 'latin1')) table[byte] = (table[byte] ?? 0) | as;
  };
  const upper = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
  const alphanumeric = `${upper}abcdefghijklmnopqrstuvwxyz0123456789`;
  // RFC 9110 §5.6.2.
  mark(`!#$%&'*+-.^_\`|~${alphanumeric}`, token);
  // RFC 3986 §3.3: the characters of a path, a broken percent-encoding among them; of queries XKS knows nothing.
  mark(`/%-._~!$&'()*+,;=:@${alphanumeric}`, targetCharacter);
  mark(upper, upperCase);
  // RFC 9110 §5.5 without HTAB and obs-text.
  for (let byte = 0x20; byte <= 0x7e; byte += 1) table[byte] = (table[byte] ?? 0) | visibleOrSpace;
  return table;
})();

const carriageReturn = 0x0d;
const lineFeed = 0x0a;
const space = 0x20;
const colon = 0x3a;

const method = Buffer.from('POST ');
const versionAndLineEnd = Buffer.from(' HTTP/1.1\r\n');
const endOfHead = Buffer.from('\r\n\r\n');

/** RFC 9110 §8.6, at most six digits; a leading zero is unusual. */
const lengthPattern = /^(?:0|[1-9][0-9]{0,5})$/;

/** They change how a message is framed, what is expected in return, or who speaks what next. */
const unusualFields: ReadonlySet<string> = new Set([
  'transfer-encoding',
  'expect',
  'upgrade',
  'trailer',
  'te',
  'proxy-connection',
  'http2-settings',
]);

/**
 * Reads the head of what KMS sends: `POST` with a path, `HTTP/1.1`, fields in visible ASCII, one valid `Host`, one
 * `Content-Length` within the limit, and nothing that asks for more than an answer on a connection that is kept
 * (RFC 9112). What it accepts it reads as Node's parser and `readHead1` do; it never refuses, it only says `not-plain`:
 * for more than the limits allow too. `incomplete`: no end of a head is in sight, which may be because there never will
 * be one.
 */
export function readPlainHead(bytes: Buffer, limits: PlainLimits): PlainHead | 'incomplete' | 'not-plain' {
  const comparable = Math.min(bytes.length, method.length);
  for (let at = 0; at < comparable; at += 1) if (bytes[at] !== method[at]) return 'not-plain';
  const end = bytes.indexOf(endOfHead);
  if (end < 0) return bytes.length < limits.headerBytesMax ? 'incomplete' : 'not-plain';
  const headBytes = end + endOfHead.length;
  if (headBytes > limits.headerBytesMax) return 'not-plain';

  let at = method.length;
  if (bytes[at] !== 0x2f) return 'not-plain';
  while (((classes[bytes[at] ?? 0] ?? 0) & targetCharacter) !== 0) at += 1;
  const targetEnd = at;
  for (const byte of versionAndLineEnd) {
    if (bytes[at] !== byte) return 'not-plain';
    at += 1;
  }
  const text = bytes.toString('latin1', 0, headBytes);
  const target = text.slice(method.length, targetEnd);
  const headers: (readonly [string, string])[] = [];
  let authority: string | null = null;
  let bodyBytes = -1;
  // The line end of the last field is the first half of the end of the head.
  while (at < end) {
    const nameStart = at;
    let seen = 0;
    let kind = classes[bytes[at] ?? 0] ?? 0;
    while ((kind & token) !== 0) {
      seen |= kind;
      at += 1;
      kind = classes[bytes[at] ?? 0] ?? 0;
    }
    if (at === nameStart || bytes[at] !== colon) return 'not-plain';
    let name = text.slice(nameStart, at);
    if ((seen & upperCase) !== 0) name = name.toLowerCase();
    at += 1;
    while (bytes[at] === space) at += 1;
    const valueStart = at;
    while (((classes[bytes[at] ?? 0] ?? 0) & visibleOrSpace) !== 0) at += 1;
    if (bytes[at] !== carriageReturn || bytes[at + 1] !== lineFeed) return 'not-plain';
    let valueEnd = at;
    while (valueEnd > valueStart && bytes[valueEnd - 1] === space) valueEnd -= 1;
    const value = text.slice(valueStart, valueEnd);
    at += 2;
    if (name === 'host') {
      if (authority !== null || !authorityPattern.test(value)) return 'not-plain';
      authority = value;
    } else if (name === 'content-length') {
      if (bodyBytes >= 0 || !lengthPattern.test(value)) return 'not-plain';
      bodyBytes = Number(value);
    } else if (name === 'connection') {
      if (value.toLowerCase() !== 'keep-alive') return 'not-plain';
    } else if (unusualFields.has(name)) return 'not-plain';
    headers.push([name, value]);
  }
  if (authority === null || bodyBytes < 0 || bodyBytes > limits.bodyBytesMax) return 'not-plain';
  if (headers.length > limits.headerFieldsMax) return 'not-plain';
  return {
    head: { method: 'POST', target, authority, headers, httpVersion: '1.1' },
    headBytes,
    bodyBytes,
  };
}
