import { err, ok, type Result } from '../base/result.js';
import type { ClusterConfig } from './config.js';
import { loadTlsFiles } from './tls-files.js';

/** PEM: a node's certificate for its cluster, its key, and who issues those of the other nodes. */
export interface PeerTlsPem {
  readonly ca: string;
  /** Leaf first, then its issuers. */
  readonly certificate: string;
  /** Secret. */
  readonly key: string;
}

/**
 * Reads the files of `[cluster]` and checks that they belong together. The error names the file and never holds the key.
 *
 * @param nowMs wall clock, for the validity of the certificates.
 */
export function loadPeerTlsFiles(
  config: ClusterConfig,
  nodeName: string,
  nowMs: number,
): Result<PeerTlsPem, string> {
  const files = loadTlsFiles({
    certificate: config.certificate,
    privateKey: config.privateKey,
    // Of the authority alone: who a peer is, is its certificate's alternative name.
    mtls: { ca: config.ca, subject: '' },
    nowMs,
  });
  if (!files.ok) return err(`[cluster] ${files.error}`);
  const { cert, key, ca, subjectNames } = files.value;
  if (!subjectNames.includes(nodeName)) {
    return err(
      `[cluster] certificate ${config.certificate} is for ${subjectNames.join(', ') || 'no name'}: the other nodes look for this node's name in it, as a DNS alternative name (subjectAltName=DNS:${nodeName})`,
    );
  }
  return ok({ ca: ca ?? '', certificate: cert, key });
}
