import { constants, X509Certificate } from 'node:crypto';
import {
  createSecureContext,
  type PeerCertificate,
  type SecureContextOptions,
  type TlsOptions,
} from 'node:tls';
import { ChannelCredentials } from '@grpc/grpc-js';
import { errorText } from '../../base/guards.js';
import { err, ok, type Result } from '../../base/result.js';
import { type ShownChain, shownChain } from './certificate-trust.js';
import { handshakeTimeoutMs } from './limits.js';

/** PEM. The same certificate serves both directions: clientAuth and serverAuth. */
export interface PeerTlsFiles {
  /** Issuers of the peers' certificates; more than one while they are being exchanged. */
  readonly ca: string;
  /** Leaf first, then its issuers. */
  readonly certificate: string;
  /** Secret. */
  readonly key: string;
}

/** What gRPC's own `createSsl` would leave at TLS 1.2. */
const contextOptions = ({ ca, certificate, key }: PeerTlsFiles): SecureContextOptions => ({
  ca,
  cert: certificate,
  key,
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  // A resumed session would go on with the certificate that it began with, whatever we trust by then.
  secureOptions: constants.SSL_OP_NO_TICKET,
});

/** Whether OpenSSL takes the files; the error does not quote them. */
export function checkPeerTlsFiles(files: PeerTlsFiles): Result<null, string> {
  try {
    createSecureContext(contextOptions(files));
    return ok(null);
  } catch (thrown) {
    return err(`the cluster's TLS files cannot be used: ${errorText(thrown)}`);
  }
}

export const samePeerTlsFiles = (one: PeerTlsFiles, other: PeerTlsFiles): boolean =>
  one.ca === other.ca && one.certificate === other.certificate && one.key === other.key;

/** Of the accepting side. */
export const peerServerTls = (files: PeerTlsFiles): TlsOptions => ({
  ...contextOptions(files),
  requestCert: true,
  rejectUnauthorized: true,
  handshakeTimeout: handshakeTimeoutMs,
  ALPNProtocols: ['h2'],
});

/** Of the connecting side, for one peer. */
export class PeerChannelCredentials {
  readonly grpc: ChannelCredentials;
  #shown: ShownChain = [];

  /**
   * @param name of the node that must answer: peers are dialled by address and known by name. `null`: any node that the
   *   CA certified, for one that joins and knows an address only.
   */
  constructor(files: PeerTlsFiles, name: string | null) {
    this.grpc = ChannelCredentials.createFromSecureContext(createSecureContext(contextOptions(files)), {
      rejectUnauthorized: true,
      checkServerIdentity: (_host: string, certificate: PeerCertificate) => {
        this.#shown = shownChain(certificate);
        return identityProblem(certificateNames(certificate.raw), name);
      },
    });
  }

  /** By the peer, in the last handshake. */
  get shown(): ShownChain {
    return this.#shown;
  }
}

function identityProblem(names: readonly string[], name: string | null): Error | undefined {
  if (name === null ? names.length > 0 : names.includes(name)) return undefined;
  return new Error(
    name === null
      ? 'its certificate names no node'
      : `its certificate is for ${names.length === 0 ? 'no node' : names.join(', ')}, not for ${name}`,
  );
}

/** The DNS names among the subject's alternative names (RFC 5280 §4.2.1.6), compared as they stand: no wildcards. */
export function certificateNames(der: Uint8Array): readonly string[] {
  const alternatives = new X509Certificate(der).subjectAltName ?? '';
  // Node quotes names with separators in them; none of ours has any.
  if (alternatives.includes('"')) return [];
  return alternatives.split(', ').flatMap((each) => (each.startsWith('DNS:') ? [each.slice(4)] : []));
}
