/** Object identifiers (RFC 3279 §2.2, RFC 8017 A.2.4) of signatures over MD5 or SHA-1, as DER has them. */
const brokenDigests: ReadonlyMap<string, string> = new Map([
  ['2a864886f70d010104', 'MD5'],
  ['2a864886f70d010105', 'SHA-1'],
  ['2a8648ce3d0401', 'SHA-1'],
]);

/** Where the content of the DER element at `at` begins and ends (X.690 §8.1.3). */
function contentOf(der: Uint8Array, at: number): { readonly start: number; readonly end: number } {
  const first = der[at + 1] ?? 0;
  if (first < 0x80) return { start: at + 2, end: at + 2 + first };
  const start = at + 2 + (first & 0x7f);
  const length = der.subarray(at + 2, start).reduce((sum, byte) => sum * 256 + byte, 0);
  return { start, end: start + length };
}

/**
 * The digest of a certificate's signature when nobody takes it any more, else `null`. OpenSSL's own opinion differs
 * from release to release. @param der of a certificate that was parsed before (RFC 5280 §4.1).
 */
export function brokenDigestOf(der: Uint8Array): string | null {
  const tbsCertificate = contentOf(der, contentOf(der, 0).start);
  const algorithm = contentOf(der, contentOf(der, tbsCertificate.end).start);
  const identifier = Buffer.from(der.subarray(algorithm.start, algorithm.end)).toString('hex');
  return brokenDigests.get(identifier) ?? null;
}
