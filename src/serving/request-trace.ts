import type { LogFields } from '../base/logger.js';
import type { SigV4Failure } from '../sigv4/verify.js';
import type { XksError } from '../xks/errors.js';
import type { XksOperation } from '../xks/operations.js';
import { type RequestMetadata, requestMetadataLogFields } from '../xks/request-metadata.js';
import type { HttpRequest } from './http/exchange.js';

/** What is known of a request so far: filled in on its way through the pipeline, logged when it is answered. */
export interface RequestTrace {
  operation: XksOperation | null;
  keyStore: string | null;
  externalKeyId: string | null;
  accessKeyId: string | null;
  authFailure: SigV4Failure | null;
  requestMetadata: RequestMetadata | null;
  /** What else the operator should know. */
  note: string | null;
  /** Which HSM was asked. */
  hsm: string | null;
  /** Milliseconds that the HSM took, the way there and back included. */
  hsmMs: number | null;
}

export const newTrace = (): RequestTrace => ({
  operation: null,
  keyStore: null,
  externalKeyId: null,
  accessKeyId: null,
  authFailure: null,
  requestMetadata: null,
  note: null,
  hsm: null,
  hsmMs: null,
});

/** Routed targets have at most 256 characters; of others so much is shown. */
const targetCharactersMax = 256;

const rounded = (ms: number): number => Math.round(ms * 1_000) / 1_000;

/**
 * The one line of a request (X-L2): metadata, key, HSM, duration, outcome. No plaintext, no headers, no body. What the
 * caller was not told about its signature is here (X-A3).
 */
export function traceLogFields(
  request: HttpRequest,
  trace: RequestTrace,
  error: XksError | null,
  status: number,
  durationMs: number,
): LogFields {
  return {
    operation: trace.operation,
    keyStore: trace.keyStore,
    externalKeyId: trace.externalKeyId,
    outcome: error === null ? 'ok' : 'error',
    status,
    ...(error !== null && { errorName: error.errorName, errorMessage: error.errorMessage }),
    durationMs: rounded(durationMs),
    hsm: trace.hsm,
    hsmMs: trace.hsmMs === null ? null : rounded(trace.hsmMs),
    accessKeyId: trace.accessKeyId,
    ...(trace.authFailure !== null && { authFailure: trace.authFailure }),
    ...(trace.note !== null && { note: trace.note }),
    ...(trace.requestMetadata !== null && {
      requestMetadata: requestMetadataLogFields(trace.requestMetadata),
    }),
    // Of what no key store serves, the path is all there is to go by.
    ...(trace.keyStore === null && {
      method: request.method.slice(0, 16),
      target: request.target.slice(0, targetCharactersMax),
    }),
    httpVersion: request.httpVersion,
    remoteAddress: request.remoteAddress,
  };
}
