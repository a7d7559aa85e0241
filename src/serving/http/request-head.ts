import type { XksError } from '../../xks/errors.js';
import type { HttpRequest } from './exchange.js';
import { refusal } from './refusal.js';

/** A request's header section, before its body. */
export interface RequestHead {
  readonly method: string;
  readonly target: string;
  readonly authority: string | null;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly httpVersion: '1.0' | '1.1' | '2';
}

/** The request that `head` and `body` make. Field by field: a spread costs a microsecond and more. */
export function receivedRequest(
  head: RequestHead,
  body: Uint8Array,
  receivedAtMs: number,
  remoteAddress: string,
): HttpRequest {
  const { method, target, authority, headers, httpVersion } = head;
  return { method, target, authority, headers, body, httpVersion, receivedAtMs, remoteAddress };
}

/** RFC 3986 §3.2 without user information: a name, an IPv4 address or a bracketed IPv6 address, perhaps a port. */
export const authorityPattern = /^(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?$/;

/** Pairs up Node's flat list of header fields, in order, names in lower case; pseudo headers (RFC 9113 §8.3) left out. */
function headerPairs(rawHeaders: readonly string[]): (readonly [string, string])[] {
  const pairs: (readonly [string, string])[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    if (!name.startsWith(':')) pairs.push([name.toLowerCase(), rawHeaders[i + 1] ?? '']);
  }
  return pairs;
}

/** All values of one header field, in order. */
function headerValues(headers: RequestHead['headers'], name: string): string[] {
  return headers.filter(([candidate]) => candidate === name).map(([, value]) => value);
}

/** Reads the head of an HTTP/1 request, or says why it is refused although Node's parser let it pass. */
export function readHead1(
  method: string,
  target: string,
  version: string,
  rawHeaders: readonly string[],
  limits: { readonly headerFieldsMax: number },
): RequestHead | XksError {
  // The parser also passes HTTP/0.9, HTTP/2.0 (without its preface), RTSP and ICE.
  if (version !== '1.0' && version !== '1.1') return refusal.httpVersion;
  const headers = headerPairs(rawHeaders);
  if (headers.length > limits.headerFieldsMax) return refusal.headersTooLarge;
  const hosts = headerValues(headers, 'host');
  const [host = null] = hosts;
  // RFC 9112 §3.2: no Host on 1.1, more than one, or an invalid one: 400.
  if (hosts.length > 1 || (host === null && version === '1.1')) return refusal.host;
  if (host !== null && !authorityPattern.test(host)) return refusal.host;
  const codings = headerValues(headers, 'transfer-encoding');
  if (codings.length > 0) {
    // RFC 9112 §6.1: HTTP/1.0 knows no transfer coding, its framing would be anyone's guess.
    if (version === '1.0') return refusal.transferCodingIn10;
    // RFC 9112 §6.1: a coding that we do not understand, 501. Only `chunked`, once, is plain framing.
    if (codings.length > 1 || codings[0]?.toLowerCase() !== 'chunked') return refusal.transferCoding;
  }
  return { method, target, authority: host, headers, httpVersion: version };
}

/** Reads the head of an HTTP/2 request; nghttp2 has refused what RFC 9113 §8 calls malformed. */
export function readHead2(
  rawHeaders: readonly string[],
  limits: { readonly headerFieldsMax: number; readonly headerBytesMax: number },
): RequestHead | XksError {
  const pseudo = new Map<string, string>();
  let bytes = 0;
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    const value = rawHeaders[i + 1] ?? '';
    bytes += name.length + value.length;
    if (name.startsWith(':')) pseudo.set(name, value);
  }
  const headers = headerPairs(rawHeaders);
  if (bytes > limits.headerBytesMax || headers.length > limits.headerFieldsMax)
    return refusal.headersTooLarge;
  const method = pseudo.get(':method') ?? '';
  const hosts = headerValues(headers, 'host');
  const authority = pseudo.get(':authority') ?? hosts[0] ?? null;
  // RFC 9113 §8.3.1: a Host that names something else than `:authority` makes the request malformed.
  if (authority === null || !authorityPattern.test(authority)) return refusal.host;
  if (hosts.length > 1 || hosts.some((host) => host.toLowerCase() !== authority.toLowerCase()))
    return refusal.host;
  // CONNECT has no `:path` (RFC 9113 §8.5); nothing is ever routed by it.
  return { method, target: pseudo.get(':path') ?? '', authority, headers, httpVersion: '2' };
}

/** Whether `Expect` asks for an interim 100, for something unknown, or is absent (RFC 9110 §10.1.1). */
export function expectation(headers: RequestHead['headers']): 'none' | 'continue' | 'unknown' {
  const values = headerValues(headers, 'expect');
  if (values.length === 0) return 'none';
  return values.every((value) => value.toLowerCase() === '100-continue') ? 'continue' : 'unknown';
}

/** The length that `Content-Length` declares; `null` when there is none (chunked, HTTP/2). */
export function declaredLength(headers: RequestHead['headers']): number | null {
  const [value] = headerValues(headers, 'content-length');
  return value === undefined ? null : Number(value);
}
