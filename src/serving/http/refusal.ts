import { errorBody, unsupportedMethod, type XksError, xksError } from '../../xks/errors.js';
import type { HttpAnswer } from './exchange.js';

const invalid = (reason: string): XksError => xksError('ValidationException', reason);
const unsupported = (reason: string): XksError => xksError('UnsupportedOperationException', reason);
const throttled = (reason: string): XksError => xksError('ThrottlingException', reason);

/**
 * Every refusal of this layer, before or instead of the handler. The statuses that HTTP has for some of them (408, 413,
 * 417, 431, 505) are none that KMS knows (X-X1), so they become the XKS error of the same meaning.
 */
export const refusal = {
  unparsable: invalid('The request is not valid HTTP.'),
  httpVersion: invalid('The HTTP version is not supported.'),
  host: invalid('The request must name exactly one valid host.'),
  headersTooLarge: invalid('The header section is too large.'),
  headersTooSlow: invalid('The header section did not arrive in time.'),
  bodyTooSlow: invalid('The body did not arrive in time.'),
  expectation: invalid('The expectation in the Expect header is not supported.'),
  transferCodingIn10: invalid('HTTP/1.0 has no transfer codings.'),
  transferCoding: unsupported('The transfer coding is not supported.'),
  bodyTooLarge: unsupported('The body is too large.'),
  method: unsupportedMethod(),
  noRoom: throttled('Too many requests are being received.'),
  exchanges: throttled('Too many requests on this connection.'),
} as const satisfies Record<string, XksError>;

/** Tells a refusal from what it stands in for. */
export function isRefusal(value: object): value is XksError {
  return 'errorName' in value;
}

/** The answer that says so. A 405 goes with `Allow` (X-T4, RFC 9110 §15.5.6). */
export function refusalAnswer(refused: XksError): HttpAnswer {
  return {
    status: refused.status,
    body: errorBody(refused),
    ...(refused.status === 405 ? { headers: { allow: 'POST' } } : {}),
  };
}
