import { hash } from 'node:crypto';
import { algorithm, type CredentialScope, formatScope } from './authorization.js';

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
  let lines = '';
  for (const name of signedHeaderNames) {
    const value =
      name === 'host' || name === ':authority' ? authorityValue(request, name) : headerValue(request, name);
    if (typeof value !== 'string') return value;
    lines += `${name}:${canonicalValue(value)}\n`;
  }
  return lines;
}

function headerValue(request: SignedRequest, name: string): string | CanonicalHeadersFault {
  let value: string | null = null;
  for (const header of request.headers) {
    if (header[0] !== name) continue;
    if (value !== null) return { fault: 'duplicate-signed-header', name };
    value = header[1];
  }
  return value ?? { fault: 'missing-signed-header', name };
}

/** X-A1: both names mean the received authority. Where HTTP/2 brings a `host` too, they must agree. */
function authorityValue(request: SignedRequest, name: string): string | CanonicalHeadersFault {
  const { authority } = request;
  if (authority === null) return { fault: 'missing-signed-header', name };
  const host = headerValue(request, 'host');
  if (typeof host === 'string') return host === authority ? authority : { fault: 'ambiguous-host', name };
  return host.fault === 'missing-signed-header' ? authority : host;
}

const needsCleaning = /^[ \t]|[ \t]$|[ \t]{2}|\t/;

/** Trimmed, and each run of white space made one space. */
function canonicalValue(value: string): string {
  return needsCleaning.test(value) ? value.replace(/[ \t]+/g, ' ').replace(/^ | $/g, '') : value;
}

/**
 * SHA-256 of the canonical request, hexadecimal. Routed targets (X-U1) hold unreserved characters only, no query and
 * no empty or dot segment, so the canonical URI is the target itself and the canonical query empty. The payload hash
 * is that of the received bytes, whatever `x-amz-content-sha256` says (X-A1).
 */
export function hashedCanonicalRequest(
  request: SignedRequest,
  headerLines: string,
  signedHeaders: string,
): string {
  const payloadHash = hash('sha256', request.body, 'hex');
  const canonicalRequest = `${request.method}\n${request.target}\n\n${headerLines}\n${signedHeaders}\n${payloadHash}`;
  // One byte per character, as received.
  return hash('sha256', Buffer.from(canonicalRequest, 'latin1'), 'hex');
}

/** @param amzDate `yyyymmddThhmmssZ` */
export function stringToSign(amzDate: string, scope: CredentialScope, hashedRequest: string): string {
  return `${algorithm}\n${amzDate}\n${formatScope(scope)}\n${hashedRequest}`;
}
