import { wipe } from '../base/bytes.js';
import { invariant } from '../base/guards.js';
import { formatAmzDate } from './amz-date.js';
import { formatAuthorization, formatScope } from './authorization.js';
import {
  canonicalHead,
  canonicalHeaders,
  hashCanonicalRequest,
  type SignedRequest,
  toSignHead,
} from './canonical-request.js';
import { deriveSigningKey, hmacSha256 } from './signing-key.js';

export interface SigningContext {
  /** Wall clock, milliseconds since the Unix epoch. */
  readonly nowMs: number;
  readonly region: string;
  /** `kms-xks-proxy` */
  readonly service: string;
  readonly accessKeyId: string;
  /** Its ASCII bytes. */
  readonly secretAccessKey: Uint8Array;
}

/**
 * Signs as KMS does, for our own tools: `host` and `x-amz-date`, and every header that the request already has.
 * @returns the request's headers to add: `x-amz-date` and `authorization`.
 */
export function signRequest(
  request: SignedRequest,
  context: SigningContext,
): readonly (readonly [name: string, value: string])[] {
  const { accessKeyId, region, service } = context;
  const amzDate = formatAmzDate(context.nowMs);
  const headers = [...request.headers, ['x-amz-date', amzDate] as const];
  const names = [...new Set(['host', ...headers.map(([name]) => name)])].sort();
  const lines = canonicalHeaders({ ...request, headers }, names);
  invariant(typeof lines === 'string', 'a request to sign has an authority and no header twice');
  const signedHeaders = names.join(';');
  const scope = { date: amzDate.slice(0, 8), region, service };
  const hashed = hashCanonicalRequest(canonicalHead(request, lines, signedHeaders), request.body);
  const toSign = `${toSignHead(amzDate, formatScope(scope))}${hashed}`;
  const signingKey = deriveSigningKey(context.secretAccessKey, scope);
  const signature = hmacSha256(signingKey, toSign).toString('hex');
  wipe(signingKey);
  return [
    ['x-amz-date', amzDate],
    ['authorization', formatAuthorization({ accessKeyId, scope, signedHeaders, signature })],
  ];
}
