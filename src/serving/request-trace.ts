import { redact, redactedJson } from '../ops/redaction.js';
import type { SigV4Failure } from '../sigv4/verify.js';
import type { XksError } from '../xks/errors.js';
import type { XksOperation } from '../xks/operations.js';
import {
  loggedText,
  type RequestMetadata,
  requestMetadataLogFields,
  requestMetadataNames,
} from '../xks/request-metadata.js';
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
  /** Which HSM answered, or was asked last. */
  hsm: string | null;
  /** Which one was asked first, where another had to. */
  hsmAskedFirst: string | null;
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
  hsmAskedFirst: null,
  hsmMs: null,
});

/** Routed targets have at most 256 characters; of others so much is shown. */
const targetCharactersMax = 256;
const methodCharactersMax = 16;

/**
 * The fields of the one line of a request (X-L2), as `LineLogger.infoJson` takes them: metadata, key, HSM, duration,
 * outcome. No plaintext, no headers, no body. What the caller was not told about its signature is here (X-A3).
 */
export function requestLineFields(
  request: HttpRequest,
  trace: RequestTrace,
  error: XksError | null,
  status: number,
  durationMs: number,
): string {
  let fields =
    `,"operation":${textOrNull(trace.operation)},"keyStore":${textOrNull(trace.keyStore)}` +
    `,"externalKeyId":${textOrNull(trace.externalKeyId)}` +
    `,"outcome":${error === null ? '"ok"' : '"error"'},"status":${status}`;
  if (error !== null) {
    fields += `,"errorName":"${error.errorName}","errorMessage":${redactedJson(error.errorMessage)}`;
  }
  fields +=
    `,"durationMs":${rounded(durationMs)},"hsm":${textOrNull(trace.hsm)}` +
    (trace.hsmAskedFirst === null ? '' : `,"hsmAskedFirst":${redactedJson(trace.hsmAskedFirst)}`) +
    `,"hsmMs":${trace.hsmMs === null ? null : rounded(trace.hsmMs)}` +
    `,"accessKeyId":${textOrNull(trace.accessKeyId)}`;
  if (trace.authFailure !== null) {
    fields += `,"authFailure":${JSON.stringify(redact({ ...trace.authFailure }))}`;
  }
  if (trace.note !== null) fields += `,"note":${redactedJson(trace.note)}`;
  if (trace.requestMetadata !== null) fields += `,"requestMetadata":${metadataJson(trace.requestMetadata)}`;
  if (trace.keyStore === null) {
    // Of what no key store serves, the path is all there is to go by.
    const method = request.method.slice(0, methodCharactersMax);
    const target = request.target.slice(0, targetCharactersMax);
    fields += `,"method":${redactedJson(method)},"target":${redactedJson(target)}`;
  }
  return `${fields},"httpVersion":"${request.httpVersion}","remoteAddress":${redactedJson(request.remoteAddress)}`;
}

const rounded = (ms: number): number => Math.round(ms * 1_000) / 1_000;

const textOrNull = (text: string | null): string => (text === null ? 'null' : redactedJson(text));

/** All of it (X-M2); names that KMS gave us may look like anything, a secret among them. */
function metadataJson(metadata: RequestMetadata): string {
  if (metadata.extras.length > 0) return JSON.stringify(redact(requestMetadataLogFields(metadata)));
  let fields = '';
  for (const name of requestMetadataNames) {
    const value = metadata[name];
    if (value !== null) fields += `${fields === '' ? '' : ','}"${name}":${redactedJson(loggedText(value))}`;
  }
  return `{${fields}}`;
}
