import type { XksOperation } from './operations.js';

/** What a request's path names. */
export type Route =
  | { readonly operation: 'GetHealthStatus'; readonly uriPathPrefix: string }
  | {
      readonly operation: 'GetKeyMetadata' | 'Encrypt' | 'Decrypt';
      /** Without slashes at its ends, `''` when there is none. */
      readonly uriPathPrefix: string;
      readonly externalKeyId: string;
    };

export const uriPathLimits = {
  /** X-U2: the whole URI, so its path too. */
  targetCharactersMax: 256,
  /** X-U2: `XksProxyUriPath`. */
  xksProxyUriPathCharactersMax: 128,
} as const;

const versionPath = 'kms/xks/v1';
const prefixPattern = /^[A-Za-z0-9_-]+(?:\/[A-Za-z0-9_-]+)*$/;
const externalKeyIdPattern = /^[A-Za-z0-9._-]{1,128}$/;
const targetPattern =
  /^\/((?:[A-Za-z0-9_-]+\/)*?)kms\/xks\/v1\/(?:health|keys\/([^/]+)\/(metadata|encrypt|decrypt))$/;

const operations = {
  metadata: 'GetKeyMetadata',
  encrypt: 'Encrypt',
  decrypt: 'Decrypt',
} as const satisfies Record<string, XksOperation>;

/**
 * Routes the request target as received (X-U1). `null` means 404 `InvalidUriPathException` (X-U4): a query string, a
 * percent escape, an empty or dot segment, a character or length that X-U2 and X-U3 do not know. What is routed needs
 * no normalisation, so the path that is signed is the path that is served.
 */
export function routeTarget(target: string): Route | null {
  if (target.length > uriPathLimits.targetCharactersMax) return null;
  const match = targetPattern.exec(target);
  if (match === null) return null;
  const uriPathPrefix = (match[1] ?? '').slice(0, -1);
  const externalKeyId = match[2];
  if (excessOf(uriPathPrefix) > 0 || namesTwo(uriPathPrefix)) return null;
  if (externalKeyId === undefined) return { operation: 'GetHealthStatus', uriPathPrefix };
  if (!isExternalKeyId(externalKeyId)) return null;
  return { operation: operations[match[3] as keyof typeof operations], uriPathPrefix, externalKeyId };
}

/** The `XksProxyUriPath` that KMS is told for a prefix: `/p/kms/xks/v1`. */
export function xksProxyUriPath(uriPathPrefix: string): string {
  return uriPathPrefix === '' ? `/${versionPath}` : `/${uriPathPrefix}/${versionPath}`;
}

/** X-U2 for a prefix without slashes at its ends: `null` when it is fine, else what is wrong, for its author. */
export function checkUriPathPrefix(uriPathPrefix: string): string | null {
  if (uriPathPrefix === '') return null;
  if (!prefixPattern.test(uriPathPrefix)) {
    return 'a URI path prefix consists of segments of letters, digits, "-" and "_", with single slashes between them and none at its ends';
  }
  const excess = excessOf(uriPathPrefix);
  if (excess > 0) {
    return `/<prefix>/${versionPath} may have ${uriPathLimits.xksProxyUriPathCharactersMax} characters: this prefix is ${excess} too long`;
  }
  return namesTwo(uriPathPrefix) ? 'a URI path prefix may not contain "kms/xks"' : null;
}

/** How many characters the `XksProxyUriPath` of a prefix has too many (X-U2). */
const excessOf = (uriPathPrefix: string): number =>
  xksProxyUriPath(uriPathPrefix).length - uriPathLimits.xksProxyUriPathCharactersMax;

/** One URI must name one key store: /a/kms/xks/v1/… belongs to the prefix "a" only. */
const namesTwo = (uriPathPrefix: string): boolean => `/${uriPathPrefix}/`.includes('/kms/xks/');

/**
 * X-U3. The dot segments of RFC 3986 §5.2.4 are not ids: clients and SigV4 signers take them out of a path, so a key
 * named `..` could never be reached unambiguously.
 */
export function isExternalKeyId(text: string): boolean {
  return externalKeyIdPattern.test(text) && text !== '.' && text !== '..';
}

/** Paths that load balancers poll with an unsigned `GET` (X-H4). */
export function isLoadBalancerPath(target: string): boolean {
  return target === '/' || target === '/ping' || target === '/healthz';
}
