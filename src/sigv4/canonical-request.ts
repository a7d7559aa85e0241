import { hash } from 'node:crypto';
import { algorithm } from './authorization.js';

/** A request as its signature sees it. Strings hold one character per byte, as Node gives them. */
export interface SignedRequest {
  readonly method: string;
  /** The path as received, without a query. */
  readonly target: string;
  /** The `Host` header or `:authority` as received; `null` when there was none. */
  readonly authority: string | null;
  /** In the order received, duplicates kept; `host` included on HTTP/1.1, pseudo-headers never. */
  readonly headers: readonly (readonly [lowerCaseName: string, value: string])[];
  readonly body: Uint8Array;
}

/** Why the signed headers do not make a canonical request. */
export type CanonicalHeadersFault =
  | { readonly fault: 'missing-signed-header' | 'duplicate-signed-header'; readonly name: string }
  | { readonly fault: 'ambiguous-host'; readonly name: string };

/**
 * The `name:value` lines of the signed headers, in their order. A header that arrives twice is refused rather than
 * joined (X-A1): receivers disagree on which of the two counts.
 */
export function canonicalHeaders(
  request: SignedRequest,
  signedHeaderNames: readonly string[],
): string | CanonicalHeadersFault {
  const received = signedValues(request, signedHeaderNames);
  let lines = '';
  for (let at = 0; at < signedHeaderNames.length; at++) {
    const name = signedHeaderNames[at] ?? '';
    const value =
      name === 'host' || name === ':authority'
        ? authorityValue(request.authority, received.host, name)
        : (received.values[at] ?? null);
    if (value === null) return { fault: 'missing-signed-header', name };
    if (value === twice) return { fault: 'duplicate-signed-header', name };
    if (typeof value !== 'string') return value;
    lines += `${name}:${canonicalValue(value)}\n`;
  }
  return lines;
}

/** In place of the value of a header that arrived more than once. */
const twice = Symbol('twice');

/** A header's value; `null` when there was none. */
type Received = string | typeof twice | null;

/** What arrived under each of the signed names, and under `host`, in one pass over the headers. */
function signedValues(
  { headers }: SignedRequest,
  signedHeaderNames: readonly string[],
): { readonly values: readonly Received[]; readonly host: Received } {
  const values = new Array<Received>(signedHeaderNames.length).fill(null);
  let host: Received = null;
  for (const [name, value] of headers) {
    if (name === 'host') host = host === null ? value : twice;
    const at = signedHeaderNames.indexOf(name);
    if (at !== -1) values[at] = values[at] === null ? value : twice;
  }
  return { values, host };
}

/** X-A1: both names mean the received authority. Where HTTP/2 brings a `host` too, they must agree. */
function authorityValue(
  authority: string | null,
  host: Received,
  name: string,
): string | CanonicalHeadersFault | null {
  if (authority === null) return null;
  if (host === twice) return { fault: 'duplicate-signed-header', name: 'host' };
  return host === null || host === authority ? authority : { fault: 'ambiguous-host', name };
}

const needsCleaning = /^[ \t]|[ \t]$|[ \t]{2}|\t/;

/** Trimmed, and each run of white space made one space. */
function canonicalValue(value: string): string {
  return needsCleaning.test(value) ? value.replace(/[ \t]+/g, ' ').replace(/^ | $/g, '') : value;
}

/**
 * The canonical request up to the payload hash. Routed targets (X-U1) hold unreserved characters only, no query and no
 * empty or dot segment, so the canonical URI is the target itself and the canonical query empty.
 */
export function canonicalHead(request: SignedRequest, headerLines: string, signedHeaders: string): string {
  return `${request.method}\n${request.target}\n\n${headerLines}\n${signedHeaders}\n`;
}

/**
 * SHA-256 of the canonical request that begins with `head`, hexadecimal; one byte per character, as received. The
 * payload hash is that of the received bytes, whatever `x-amz-content-sha256` says (X-A1).
 */
export function hashCanonicalRequest(head: string, body: Uint8Array): string {
  const payloadHash = hash('sha256', body, 'hex');
  return hash('sha256', Buffer.from(`${head}${payloadHash}`, 'latin1'), 'hex');
}

/** The string to sign up to the hexadecimal hash of the canonical request. @param amzDate `yyyymmddThhmmssZ` */
export function toSignHead(amzDate: string, scope: string): string {
  return `${algorithm}\n${amzDate}\n${scope}\n`;
}
