import { constants, createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { wipe } from '../base/bytes.js';
import { errorText } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import { readSmallFile } from '../base/small-file.js';
import { brokenDigestOf } from './signature-algorithm.js';

/** Of a setting that names a systemd credential instead of a path. */
export const credentialPrefix = 'credential:';

export interface TlsFileSettings {
  /** Path of a PEM file: leaf first, then its issuers. */
  readonly certificate: string;
  /** Path of a PEM file, or `credential:NAME` for `$CREDENTIALS_DIRECTORY/NAME`. */
  readonly privateKey: string;
  readonly mtls: { readonly ca: string; readonly subject: string } | null;
  /** Wall clock, for the validity of the certificates. */
  readonly nowMs: number;
}

/** What a TLS server needs, checked to belong together. */
export interface TlsFiles {
  /** PEM. */
  readonly cert: string;
  /** PEM. Secret. */
  readonly key: string;
  /** PEM of the issuers of client certificates; `null` without mTLS. */
  readonly ca: string | null;
  /** The leaf's common name and DNS names, without duplicates. */
  readonly subjectNames: readonly string[];
  /** End of the leaf's validity, milliseconds since the Unix epoch. */
  readonly notAfterMs: number;
}

/** X-T2, the strong ones first in each version. */
const cipherSuites = [
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
].join(':');

/** What the suites above, and TLS 1.3 in any of its implementations, can sign with (RFC 8446 §4.2.3). */
const rsaBitsMin = 2_048;
const curves = ['prime256v1', 'secp384r1', 'secp521r1'];

/** How the listener towards KMS speaks TLS. `ca`: of client certificates, `null` when none are asked for. */
export function tlsServerOptions(files: {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  readonly ca: string | Buffer | null;
}): SecureContextOptions {
  const { cert, key, ca } = files;
  return {
    cert,
    key,
    ...(ca !== null && { ca }),
    minVersion: 'TLSv1.2',
    ciphers: cipherSuites,
    honorCipherOrder: true,
    // A ticket would resume a session without showing the certificate again (X-T3).
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | (ca === null ? 0 : constants.SSL_OP_NO_TICKET),
  };
}

/** Reads certificate, key and client CAs. The error is a sentence that names the file and never holds the key. */
export function loadTlsFiles(settings: TlsFileSettings): Result<TlsFiles, string> {
  return unlessUnusable(() => {
    const { certificates, ...own } = readOwn(settings, serverFiles);
    const ca = settings.mtls === null ? null : readCertificates(settings.mtls.ca, 'client CA').pem;
    const [leaf] = certificates;
    checkKind(settings.certificate, leaf);
    checkTaken(settings.certificate, { ...own, ca });
    return {
      ...own,
      ca,
      subjectNames: [...new Set([...commonNamesOf(leaf), ...dnsNamesOf(leaf)])],
      notAfterMs: Date.parse(leaf.validTo),
    };
  });
}

export interface ClusterTlsFileSettings
  extends Pick<TlsFileSettings, 'certificate' | 'privateKey' | 'nowMs'> {
  /** Path of a PEM file. */
  readonly ca: string;
  /** The certificate must be for it. */
  readonly nodeName: string;
}

/** What a member shows to the others, and whom it trusts. */
export interface ClusterTlsFiles extends Omit<TlsFiles, 'ca' | 'subjectNames'> {
  /** PEM of the issuers of the members' certificates. */
  readonly ca: string;
}

/** The same for `[cluster]`. One certificate both ways: for the server that a member is, and for the client. */
export function loadClusterTlsFiles(settings: ClusterTlsFileSettings): Result<ClusterTlsFiles, string> {
  return unlessUnusable(() => {
    const { certificates, ...own } = readOwn(settings, clusterFiles);
    const ca = readCertificates(settings.ca, 'cluster CA');
    const [leaf] = certificates;
    const refuse = (problem: string): never => {
      throw new Unusable(`${clusterFiles.certificate} ${settings.certificate}: ${problem}`);
    };
    const names = dnsNamesOf(leaf);
    if (!names.includes(settings.nodeName)) {
      const found = names.length === 0 ? 'none' : names.join(', ');
      refuse(
        `among its alternative names must be DNS:${settings.nodeName}, the name of this node; there is ${found}`,
      );
    }
    // RFC 5280 §4.2.1.12: without the extension it is good for anything.
    const purposes: readonly string[] | undefined = leaf.keyUsage;
    for (const [purpose, oid] of [
      ['serverAuth', '1.3.6.1.5.5.7.3.1'],
      ['clientAuth', '1.3.6.1.5.5.7.3.2'],
    ] as const) {
      if (purposes !== undefined && !purposes.includes(oid)) {
        refuse(`its extended key usage lacks ${purpose}; members are servers and clients of each other`);
      }
    }
    if (!certificates.some((each) => ca.certificates.some((issuer) => isIssuedBy(each, issuer)))) {
      refuse(`it was issued by none of the certificates in ${settings.ca}`);
    }
    return { ...own, ca: ca.pem, notAfterMs: Date.parse(leaf.validTo) };
  });
}

const isIssuedBy = (certificate: X509Certificate, issuer: X509Certificate): boolean =>
  certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);

/** What messages call them. */
const serverFiles = { certificate: 'TLS certificate', privateKey: 'TLS private key' } as const;
const clusterFiles = { certificate: 'cluster certificate', privateKey: 'cluster private key' } as const;
type FileNames = typeof serverFiles | typeof clusterFiles;

function readOwn(
  settings: Pick<TlsFileSettings, 'certificate' | 'privateKey' | 'nowMs'>,
  what: FileNames,
): { readonly cert: string; readonly key: string; readonly certificates: Chain } {
  const { pem, certificates } = readCertificates(settings.certificate, what.certificate);
  const key = readPrivateKey(settings.privateKey, what.privateKey);
  checkChain(`${what.certificate} ${settings.certificate}`, certificates, key, settings.nowMs);
  return { cert: pem, key: key.pem, certificates };
}

function unlessUnusable<T>(read: () => T): Result<T, string> {
  try {
    return ok(read());
  } catch (thrown) {
    if (thrown instanceof Unusable) return err(thrown.message);
    throw thrown;
  }
}

/** Inside this file only: ends the reading at the first thing wrong. */
class Unusable extends Error {}

type Chain = readonly [X509Certificate, ...X509Certificate[]];

/** Hundreds of certificates. */
const fileBytesMax = 1024 * 1024;

function readFile(path: string, what: string): { readonly text: string; readonly mode: number } {
  try {
    const { bytes, mode } = readSmallFile(path, fileBytesMax);
    try {
      return { text: bytes.toString('utf8'), mode };
    } finally {
      // It may be a private key.
      wipe(bytes);
    }
  } catch (thrown) {
    switch ((thrown as NodeJS.ErrnoException).code) {
      case 'ENOENT':
        throw new Unusable(`${what} ${path}: no such file`);
      case 'EACCES':
        throw new Unusable(`${what} ${path}: not readable by this user (uid ${process.getuid?.()})`);
      default:
        throw new Unusable(`${what} ${path}: ${errorText(thrown)}`);
    }
  }
}

function readCertificates(
  path: string,
  what: string,
): { readonly pem: string; readonly certificates: Chain } {
  const pem = readFile(path, what).text;
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  const certificates = blocks.map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch {
      throw new Unusable(`${what} ${path}: PEM block ${index + 1} is not a certificate`);
    }
  });
  const [first, ...rest] = certificates;
  if (first === undefined) throw new Unusable(`${what} ${path}: no PEM certificate in it`);
  return { pem, certificates: [first, ...rest] };
}

function readPrivateKey(
  setting: string,
  what: string,
): {
  readonly path: string;
  readonly pem: string;
  readonly key: KeyObject;
} {
  const path = privateKeyPath(setting, what);
  const { text: pem, mode } = readFile(path, what);
  // First: what is no key may be a file that everyone has to read.
  if (!pem.includes('PRIVATE KEY-----')) throw new Unusable(`${what} ${path}: no PEM private key in it`);
  if ((mode & 0o004) !== 0) {
    throw new Unusable(`${what} ${path}: everyone on this host can read it: run \`chmod o-rwx ${path}\``);
  }
  // PKCS#8's label, or RFC 1421's header of older files.
  if (/ENCRYPTED/.test(pem)) {
    throw new Unusable(`${what} ${path}: it is encrypted; store it decrypted, as a systemd credential`);
  }
  try {
    return { path, pem, key: createPrivateKey(pem) };
  } catch {
    throw new Unusable(`${what} ${path}: not a private key that OpenSSL can read`);
  }
}

function privateKeyPath(setting: string, what: string): string {
  if (!setting.startsWith(credentialPrefix)) return setting;
  const name = setting.slice(credentialPrefix.length);
  if (!/^[A-Za-z0-9._-]+$/.test(name) || /^\.+$/.test(name)) {
    throw new Unusable(`${what} ${setting}: not the name of a credential`);
  }
  const directory = process.env['CREDENTIALS_DIRECTORY'];
  if (directory === undefined) {
    throw new Unusable(
      `${what} ${setting}: $CREDENTIALS_DIRECTORY is not set; systemd sets it for a unit with LoadCredential=${name}:PATH`,
    );
  }
  return join(directory, name);
}

function checkChain(
  what: string,
  chain: Chain,
  key: { readonly path: string; readonly key: KeyObject },
  nowMs: number,
): void {
  const refuse = (problem: string): never => {
    throw new Unusable(`${what}: ${problem}`);
  };
  const [leaf, ...issuers] = chain;
  if (!leaf.checkPrivateKey(key.key)) {
    const place = issuers.findIndex((each) => each.checkPrivateKey(key.key));
    if (place >= 0) refuse(`the certificate of the key comes ${place + 2}. in it; it must come first`);
    refuse(`the private key ${key.path} is not that of ${describe(leaf)}`);
  }
  chain.forEach((certificate, index) => {
    const issuer = chain[index + 1];
    if (issuer !== undefined && !certificate.checkIssued(issuer)) {
      refuse(`out of order: ${describe(issuer)} follows ${describe(certificate)} but did not issue it`);
    }
    const name = describe(certificate);
    const digest = brokenDigestOf(certificate.raw);
    // On one that signs itself nobody looks at the signature.
    if (digest !== null && !certificate.checkIssued(certificate))
      refuse(`${name} is signed over ${digest}, which no client takes`);
    if (nowMs < Date.parse(certificate.validFrom))
      refuse(`${name} is not valid before ${certificate.validFrom}`);
    if (nowMs > Date.parse(certificate.validTo)) refuse(`${name} expired on ${certificate.validTo}`);
  });
}

/** Of the kinds that there are KMS is only sure to take these two (X-T2). */
function checkKind(path: string, leaf: X509Certificate): void {
  const { asymmetricKeyType: kind = 'unknown', asymmetricKeyDetails: details = {} } = leaf.publicKey;
  const usable =
    kind === 'rsa'
      ? (details.modulusLength ?? 0) >= rsaBitsMin
      : kind === 'ec' && curves.includes(details.namedCurve ?? '');
  if (usable) return;
  const found = [kind, details.modulusLength ?? details.namedCurve].filter((part) => part !== undefined);
  throw new Unusable(
    `TLS certificate ${path}: its key is ${found.join(' ')}; it must be RSA of ${rsaBitsMin} bits or more, or EC on P-256, P-384 or P-521`,
  );
}

/** The library has a mind of its own about what is too weak: what it refuses here it would refuse the listener. */
function checkTaken(path: string, files: Parameters<typeof tlsServerOptions>[0]): void {
  try {
    createSecureContext(tlsServerOptions(files));
  } catch (thrown) {
    throw new Unusable(`TLS certificate ${path}: OpenSSL does not take it: ${errorText(thrown)}`);
  }
}

const describe = (certificate: X509Certificate): string => `"${certificate.subject.replaceAll('\n', ', ')}"`;

function commonNamesOf(leaf: X509Certificate): readonly string[] {
  return leaf.subject.split('\n').flatMap((part) => (part.startsWith('CN=') ? [part.slice(3)] : []));
}

function dnsNamesOf(leaf: X509Certificate): readonly string[] {
  return (leaf.subjectAltName ?? '')
    .split(', ')
    .flatMap((part) => (part.startsWith('DNS:') ? [part.slice(4)] : []));
}
