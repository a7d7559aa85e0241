import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import { err, ok, type Result } from '../../base/result.js';
import type { Timers } from '../../base/timers.js';
import { type ShownChain, shownChain, TrustedAuthorities } from './certificate-trust.js';
import { inboundConnectionsMax, untrustedGraceMs } from './limits.js';
import { type PeerTlsFiles, peerServerTls } from './peer-credentials.js';

interface Verified {
  readonly shown: ShownChain;
  /** Runs out when the certificate is no longer trusted. */
  cancelCut: (() => void) | null;
}

/**
 * Accepts connections and does TLS: gRPC's own listener bounds no connections, and shows of the peer's certificates the
 * leaf only, and only to calls.
 */
export class PeerListener {
  readonly #timers: Timers;
  readonly #onSecure: (socket: TLSSocket) => void;
  readonly #listener: NetServer;
  readonly #sockets = new Set<Socket>();
  readonly #verified = new Map<TLSSocket, Verified>();
  #tls: TlsServer;
  #authorities: TrustedAuthorities;

  /** @param options.onSecure gets each connection once its certificate is verified. */
  constructor(options: {
    readonly files: PeerTlsFiles;
    readonly timers: Timers;
    readonly onSecure: (socket: TLSSocket) => void;
  }) {
    this.#timers = options.timers;
    this.#onSecure = options.onSecure;
    this.#authorities = new TrustedAuthorities(options.files.ca);
    this.#tls = this.#tlsServer(options.files);
    this.#listener = createServer({ noDelay: true }, (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => {});
      this.#tls.emit('connection', socket);
    });
    this.#listener.maxConnections = inboundConnectionsMax;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** Resolves to the port. */
  listen({
    address,
    port,
  }: {
    readonly address: string;
    readonly port: number;
  }): Promise<Result<number, string>> {
    return new Promise((resolve) => {
      const failed = (error: Error): void =>
        resolve(err(`cannot listen for members on ${address}:${port}: ${error.message}`));
      this.#listener.once('error', failed);
      this.#listener.listen({ host: address, port }, () => {
        this.#listener.off('error', failed);
        // After accept(2) failed: the kernel's limits; the next one may do.
        this.#listener.on('error', () => {});
        const bound = this.#listener.address();
        resolve(ok(typeof bound === 'object' && bound !== null ? bound.port : port));
      });
    });
  }

  /**
   * For new connections. Of those there are, the ones whose certificate is no longer trusted have `untrustedGraceMs` to
   * be replaced by their peer, or to be trusted again.
   */
  reload(files: PeerTlsFiles): void {
    this.#authorities = new TrustedAuthorities(files.ca);
    this.#tls = this.#tlsServer(files);
    for (const [socket, verified] of this.#verified) {
      if (this.#authorities.trust(verified.shown)) {
        verified.cancelCut?.();
        verified.cancelCut = null;
      } else verified.cancelCut ??= this.#timers.after(untrustedGraceMs, () => socket.destroy());
    }
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      if (this.#listener.listening) this.#listener.close(() => resolve());
      else resolve();
    });
    for (const { cancelCut } of this.#verified.values()) cancelCut?.();
    this.#verified.clear();
    for (const socket of [...this.#sockets]) socket.destroy();
    await closed;
  }

  /** One for each set of files, so that a handshake knows by which it was begun. It listens nowhere itself. */
  #tlsServer(files: PeerTlsFiles): TlsServer {
    const server = createTlsServer(peerServerTls(files), (socket) => {
      socket.on('error', () => {});
      const shown = shownChain(socket.getPeerCertificate(true));
      const current = this.#tls === server || this.#authorities.trust(shown);
      if (!current || socket.alpnProtocol !== 'h2' || !this.#listener.listening) {
        socket.destroy();
        return;
      }
      const verified: Verified = { shown, cancelCut: null };
      this.#verified.set(socket, verified);
      socket.on('close', () => {
        verified.cancelCut?.();
        this.#verified.delete(socket);
      });
      this.#onSecure(socket);
    });
    return server;
  }
}
