import { constants, createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { errorText } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';

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
  try {
    const chain = readCertificates(settings.certificate, 'TLS certificate');
    const key = readPrivateKey(settings.privateKey);
    checkChain(settings.certificate, chain.certificates, key, settings);
    const ca = settings.mtls === null ? null : readCertificates(settings.mtls.ca, 'client CA').pem;
    checkKind(settings.certificate, chain.certificates[0]);
    checkTaken(settings.certificate, { cert: chain.pem, key: key.pem, ca });
    const [leaf] = chain.certificates;
    return ok({
      cert: chain.pem,
      key: key.pem,
      ca,
      subjectNames: namesOf(leaf),
      notAfterMs: Date.parse(leaf.validTo),
    });
  } catch (thrown) {
    if (thrown instanceof Unusable) return err(thrown.message);
    throw thrown;
  }
}

/** Inside this file only: ends the reading at the first thing wrong. */
class Unusable extends Error {}

type Chain = readonly [X509Certificate, ...X509Certificate[]];

function readFile(path: string, what: string): string {
  try {
    return readFileSync(path, 'utf8');
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
  const pem = readFile(path, what);
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

function readPrivateKey(setting: string): {
  readonly path: string;
  readonly pem: string;
  readonly key: KeyObject;
} {
  const path = privateKeyPath(setting);
  const pem = readFile(path, 'TLS private key');
  if ((statSync(path).mode & 0o004) !== 0) {
    throw new Unusable(
      `TLS private key ${path}: everyone on this host can read it: run \`chmod o-rwx ${path}\``,
    );
  }
  if (!pem.includes('PRIVATE KEY-----'))
    throw new Unusable(`TLS private key ${path}: no PEM private key in it`);
  // PKCS#8's label, or RFC 1421's header of older files.
  if (/ENCRYPTED/.test(pem)) {
    throw new Unusable(
      `TLS private key ${path}: it is encrypted; store it decrypted, as a systemd credential`,
    );
  }
  try {
    return { path, pem, key: createPrivateKey(pem) };
  } catch {
    throw new Unusable(`TLS private key ${path}: not a private key that OpenSSL can read`);
  }
}

function privateKeyPath(setting: string): string {
  const prefix = 'credential:';
  if (!setting.startsWith(prefix)) return setting;
  const name = setting.slice(prefix.length);
  if (!/^[A-Za-z0-9._-]+$/.test(name) || /^\.+$/.test(name)) {
    throw new Unusable(`TLS private key ${setting}: not the name of a credential`);
  }
  const directory = process.env['CREDENTIALS_DIRECTORY'];
  if (directory === undefined) {
    throw new Unusable(
      `TLS private key ${setting}: $CREDENTIALS_DIRECTORY is not set; systemd sets it for a unit with LoadCredential=${name}:PATH`,
    );
  }
  return join(directory, name);
}

function checkChain(
  path: string,
  chain: Chain,
  key: { readonly path: string; readonly key: KeyObject },
  { nowMs }: TlsFileSettings,
): void {
  const refuse = (problem: string): never => {
    throw new Unusable(`TLS certificate ${path}: ${problem}`);
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

function namesOf(leaf: X509Certificate): string[] {
  const commonNames = leaf.subject
    .split('\n')
    .flatMap((part) => (part.startsWith('CN=') ? [part.slice(3)] : []));
  const alternatives = (leaf.subjectAltName ?? '')
    .split(', ')
    .flatMap((part) => (part.startsWith('DNS:') ? [part.slice(4)] : []));
  return [...new Set([...commonNames, ...alternatives])];
}
