import { wipe } from '../base/bytes.js';
import { err, ok, type Result } from '../base/result.js';
import { parseAmzDate } from './amz-date.js';
import { type Authorization, parseAuthorization } from './authorization.js';
import { canonicalHead, canonicalHeaders, type SignedRequest, toSignHead } from './canonical-request.js';
import { isSignature, type SignatureCheck } from './signature-check.js';
import { deriveSigningKey, hmacSha256, type SigningKeyCache } from './signing-key.js';

export interface VerificationContext {
  /** Wall clock, milliseconds since the Unix epoch. */
  readonly nowMs: number;
  /** `kms-xks-proxy` */
  readonly service: string;
  /** Of the key store that the path names (X-A3). */
  readonly regions: readonly string[];
  /**
   * The secret access key as its ASCII bytes; `null` unless the id is one of the key store that the path names. The
   * bytes stay the caller's.
   */
  readonly secretFor: (accessKeyId: string) => Uint8Array | null;
  readonly signingKeys: SigningKeyCache;
  readonly checkSignature: SignatureCheck;
}

export type SigV4FailureReason =
  | 'missing-authorization'
  | 'duplicate-authorization'
  | 'malformed-authorization'
  | 'unsigned-host'
  | 'unsigned-date'
  | 'missing-signed-header'
  | 'duplicate-signed-header'
  | 'ambiguous-host'
  | 'malformed-date'
  | 'scope-mismatch'
  | 'date-skew'
  | 'unknown-access-key'
  | 'signature-mismatch';

/** For the log alone: whoever asked gets one and the same answer for all of it (X-A3). */
export interface SigV4Failure {
  readonly reason: SigV4FailureReason;
  /** What it is about: a header's name, the scope that came. */
  readonly detail: string | null;
  /** As claimed, at most 128 alphanumeric characters. */
  readonly accessKeyId: string | null;
  /** Their clock minus ours, where the date could be read. */
  readonly clockSkewMs: number | null;
}

/** X-A3. */
export const clockSkewMaxMs = 5 * 60 * 1000;

/** Stands in for the secret of an access key id that nobody has; its bytes are of no importance. */
const nobodysSecret = new Uint8Array(44);
const nobodysSigningKey = new Uint8Array(32);
/** In place of the hash of a request that was signed with that key: no derived key signs that. */
const signedByNobody = 'x'.repeat(64);

/**
 * Checks a request's SigV4 signature (X-A1, X-A3). Synchronous and without side effects but on `signingKeys`.
 */
export function verifyRequest(
  request: SignedRequest,
  context: VerificationContext,
): Result<{ readonly accessKeyId: string }, SigV4Failure> {
  const value = authorizationValue(request);
  if (typeof value !== 'string') return refuse(value.reason);
  const authorization = parseAuthorization(value);
  if (authorization === null) return refuse('malformed-authorization');
  const { accessKeyId, scope, credential, signedHeaderNames, signedHeaders, signature } = authorization;

  if (!signedHeaderNames.includes('host') && !signedHeaderNames.includes(':authority')) {
    return refuse('unsigned-host', authorization);
  }
  if (!signedHeaderNames.includes('x-amz-date')) return refuse('unsigned-date', authorization);
  const headerLines = canonicalHeaders(request, signedHeaderNames);
  if (typeof headerLines !== 'string') return refuse(headerLines.fault, authorization, headerLines.name);

  const amzDate = dateOf(request).trim();
  const signedAtMs = parseAmzDate(amzDate);
  if (signedAtMs === null) return refuse('malformed-date', authorization);
  const clockSkewMs = signedAtMs - context.nowMs;
  if (
    !amzDate.startsWith(scope.date) ||
    scope.service !== context.service ||
    !context.regions.includes(scope.region)
  ) {
    const detail = `${scope.date}/${scope.region}/${scope.service}`;
    return refuse('scope-mismatch', authorization, detail, clockSkewMs);
  }
  if (Math.abs(clockSkewMs) > clockSkewMaxMs) return refuse('date-skew', authorization, null, clockSkewMs);

  const head = canonicalHead(request, headerLines, signedHeaders);
  const signed = toSignHead(amzDate, credential.slice(accessKeyId.length + 1));

  const secret = context.secretFor(accessKeyId);
  const cached = secret === null ? null : context.signingKeys.find(credential);
  const keyAtHand = cached ?? nobodysSigningKey;
  const hashedRequest = context.checkSignature(keyAtHand, signed, head, request.body, signature);
  if (hashedRequest === null && cached !== null) return ok({ accessKeyId });
  // Whoever has come this far pays for one comparison, one derivation and one more comparison: a failure takes the
  // same time for an id that exists, that has a cached key, and that nobody has ever seen (X-A3).
  const signingKey = deriveSigningKey(secret ?? nobodysSecret, scope);
  const matched = isSignature(
    signature,
    hmacSha256(signingKey, `${signed}${hashedRequest ?? signedByNobody}`),
  );
  // Nobody takes it over then; it would sign for a day.
  if (secret === null || !matched) wipe(signingKey);
  if (secret === null) return refuse('unknown-access-key', authorization, null, clockSkewMs);
  if (!matched) return refuse('signature-mismatch', authorization, null, clockSkewMs);
  context.signingKeys.remember(accessKeyId, scope, signingKey);
  return ok({ accessKeyId });
}

/** There is one: it was among the signed headers. */
function dateOf({ headers }: SignedRequest): string {
  for (const [name, value] of headers) if (name === 'x-amz-date') return value;
  return '';
}

function authorizationValue(
  request: SignedRequest,
): string | { readonly reason: 'missing-authorization' | 'duplicate-authorization' } {
  let value: string | null = null;
  for (const header of request.headers) {
    if (header[0] !== 'authorization') continue;
    if (value !== null) return { reason: 'duplicate-authorization' };
    value = header[1];
  }
  return value ?? { reason: 'missing-authorization' };
}

function refuse(
  reason: SigV4FailureReason,
  authorization: Authorization | null = null,
  detail: string | null = null,
  clockSkewMs: number | null = null,
): Result<never, SigV4Failure> {
  return err({ reason, detail, accessKeyId: authorization?.accessKeyId ?? null, clockSkewMs });
}
