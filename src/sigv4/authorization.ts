/** What an `Authorization` header claims, before anything of it is believed. */
export interface Authorization {
  readonly accessKeyId: string;
  readonly scope: CredentialScope;
  /** `<access key id>/<scope>` in one piece, as sent. */
  readonly credential: string;
  /** As sent: lower-case, sorted, each once, separated by `;`. */
  readonly signedHeaders: string;
  readonly signedHeaderNames: readonly string[];
  /** 64 lower-case hexadecimal digits. */
  readonly signature: string;
}

/** `<date>/<region>/<service>/aws4_request` */
export interface CredentialScope {
  /** `yyyymmdd`, UTC. */
  readonly date: string;
  readonly region: string;
  readonly service: string;
}

export const authorizationLimits = {
  charactersMax: 2_048,
  signedHeadersMax: 64,
} as const;

export const algorithm = 'AWS4-HMAC-SHA256';

/**
 * The order and spelling of AWS's signers. They differ in the space after a comma only: most write one, some none.
 * Header names are RFC 9110 §5.6.2 tokens in lower case, or HTTP/2's `:authority`.
 */
const pattern =
  /^AWS4-HMAC-SHA256 +Credential=(([A-Za-z0-9]{1,128})\/(\d{8})\/([a-z0-9-]{1,64})\/([a-z0-9-]{1,64})\/aws4_request), *SignedHeaders=([a-z0-9!#$%&'*+.^_`|~:;-]+), *Signature=([0-9a-f]{64})$/;

/** Parses the value of an `Authorization` header (X-A1). `null` for anything that no AWS signer writes. */
export function parseAuthorization(value: string): Authorization | null {
  if (value.length > authorizationLimits.charactersMax) return null;
  const match = pattern.exec(value);
  if (match === null) return null;
  const signedHeaders = match[6] ?? '';
  const signedHeaderNames = signedHeaders.split(';');
  if (signedHeaderNames.length > authorizationLimits.signedHeadersMax) return null;
  let previous = '';
  for (const name of signedHeaderNames) {
    // Strictly ascending: sorted, and none twice.
    if (name <= previous) return null;
    // The pattern has seen to it that the rest are tokens.
    if (name.includes(':') && name !== ':authority') return null;
    previous = name;
  }
  return {
    accessKeyId: match[2] ?? '',
    scope: { date: match[3] ?? '', region: match[4] ?? '', service: match[5] ?? '' },
    credential: match[1] ?? '',
    signedHeaders,
    signedHeaderNames,
    signature: match[7] ?? '',
  };
}

/** The header value for a signature made by `signRequest`. */
export function formatAuthorization(
  authorization: Omit<Authorization, 'credential' | 'signedHeaderNames'>,
): string {
  const { accessKeyId, scope, signedHeaders, signature } = authorization;
  return `${algorithm} Credential=${formatCredential(accessKeyId, scope)}, SignedHeaders=${signedHeaders}, Signature=${signature}`;
}

export function formatCredential(accessKeyId: string, scope: CredentialScope): string {
  return `${accessKeyId}/${formatScope(scope)}`;
}

export function formatScope(scope: CredentialScope): string {
  return `${scope.date}/${scope.region}/${scope.service}/aws4_request`;
}
