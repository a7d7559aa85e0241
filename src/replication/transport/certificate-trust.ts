import { X509Certificate } from 'node:crypto';
import type { PeerCertificate } from 'node:tls';
import { shownCertificatesMax } from './limits.js';

/** What a peer showed in the TLS handshake, in DER: its leaf first. Empty: it has shown nothing yet. */
export type ShownChain = readonly Uint8Array[];

/** @param leaf with its issuers, as `getPeerCertificate(true)` gives it. */
export function shownChain(leaf: PeerCertificate): ShownChain {
  const chain: Uint8Array[] = [];
  let certificate: PeerCertificate | undefined = leaf;
  while (certificate?.raw !== undefined && chain.length < shownCertificatesMax) {
    chain.push(certificate.raw);
    const { issuerCertificate } = certificate as { readonly issuerCertificate?: PeerCertificate };
    // A root is its own issuer.
    certificate = issuerCertificate === certificate ? undefined : issuerCertificate;
  }
  return chain;
}

/**
 * The issuers that a node trusts, for connections that were verified by others before: OpenSSL verifies while it shakes
 * hands, and Node offers no way to ask it again. Follows RFC 5280 §6 as far as names, signatures, validity and the right
 * to issue go; a chain ends at a self-issued certificate among the trusted. Path lengths and name constraints are left to
 * the next handshake: whatever else is in doubt is not trusted, and costs that connection a handshake.
 */
export class TrustedAuthorities {
  readonly #authorities: readonly X509Certificate[];

  /** @param pem that OpenSSL takes; what it would skip is skipped. */
  constructor(pem: string) {
    const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
    this.#authorities = blocks.flatMap((block) => parsed(block) ?? []);
  }

  trust(shown: ShownChain, nowMs: number = Date.now()): boolean {
    const [leaf, ...others] = shown.flatMap((der) => parsed(der) ?? []);
    if (leaf === undefined) return false;
    const issuers = [...this.#authorities, ...others];
    // Each is looked at once, so that certificates that issue one another end.
    const reached = new Set([leaf]);
    for (const certificate of reached) {
      if (!validAt(certificate, nowMs)) continue;
      if (this.#isRoot(certificate)) return true;
      for (const issuer of issuers) if (issued(certificate, issuer)) reached.add(issuer);
    }
    return false;
  }

  #isRoot(certificate: X509Certificate): boolean {
    return (
      certificate.subject === certificate.issuer &&
      this.#authorities.some(({ raw }) => raw.equals(certificate.raw))
    );
  }
}

function parsed(certificate: string | Uint8Array): X509Certificate | null {
  try {
    return new X509Certificate(certificate);
  } catch {
    return null;
  }
}

const validAt = ({ validFrom, validTo }: X509Certificate, nowMs: number): boolean =>
  Date.parse(validFrom) <= nowMs && nowMs <= Date.parse(validTo);

/** `checkIssued` compares names and key identifiers, and looks for the right to sign certificates. */
const issued = (certificate: X509Certificate, issuer: X509Certificate): boolean =>
  issuer.ca && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
