import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import { err, ok, type Result } from '../../base/result.js';
import type { Timers } from '../../base/timers.js';
import { type ShownChain, shownChain, TrustedAuthorities } from './certificate-trust.js';
import {
  closingMsMax,
  connectionsPerCertificateMax,
  inboundConnectionsMax,
  untrustedGraceMs,
} from './limits.js';
import { type PeerTlsFiles, peerServerTls } from './peer-credentials.js';

export interface ListenFailure {
  readonly message: string;
  /** Another process has the port, or the address is not there yet: a later try may do. */
  readonly transient: boolean;
}

interface Verified {
  readonly shown: ShownChain;
  /** Runs out when the certificate is no longer trusted. */
  cancelCut: (() => void) | null;
  /** Runs out when we have ended our side and the peer has not ended its own. */
  cancelClosing: (() => void) | null;
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
  /** Of these, in order of arrival, those that have not shown a certificate yet: by their connection. */
  readonly #strangers = new Map<string, Socket>();
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
    this.#listener = createServer({ noDelay: true }, (socket) => this.#accept(socket));
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
  }): Promise<Result<number, ListenFailure>> {
    return new Promise((resolve) => {
      const failed = (error: NodeJS.ErrnoException): void => {
        const transient = error.code === 'EADDRINUSE' || error.code === 'EADDRNOTAVAIL';
        resolve(
          err({ message: `cannot listen for members on ${address}:${port}: ${error.message}`, transient }),
        );
      };
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
    for (const { cancelCut, cancelClosing } of this.#verified.values()) {
      cancelCut?.();
      cancelClosing?.();
    }
    this.#verified.clear();
    for (const socket of [...this.#sockets]) socket.destroy();
    await closed;
  }

  /**
   * Whoever can reach the port can open connections and say nothing. Members show their certificate within milliseconds:
   * where there is no room, strangers make some.
   */
  #accept(socket: Socket): void {
    socket.on('error', () => {});
    if (this.#sockets.size >= inboundConnectionsMax) {
      const stranger = this.#dispensableStranger();
      if (stranger === null) {
        socket.destroy();
        return;
      }
      this.#leave(stranger);
      stranger.destroy();
    }
    this.#sockets.add(socket);
    this.#strangers.set(originOf(socket), socket);
    socket.on('close', () => this.#leave(socket));
    this.#tls.emit('connection', socket);
  }

  /**
   * Of the address that has most of them, the one that has been here longest: a flood from elsewhere costs a node that has
   * just connected nothing. `null`: there is none.
   */
  #dispensableStranger(): Socket | null {
    const byAddress = new Map<string, Socket[]>();
    for (const socket of this.#strangers.values()) {
      const address = socket.remoteAddress ?? '';
      const others = byAddress.get(address);
      if (others === undefined) byAddress.set(address, [socket]);
      else others.push(socket);
    }
    let most: readonly Socket[] = [];
    for (const sockets of byAddress.values()) if (sockets.length > most.length) most = sockets;
    return most[0] ?? null;
  }

  #leave(socket: Socket): void {
    this.#sockets.delete(socket);
    for (const [origin, stranger] of this.#strangers) if (stranger === socket) this.#strangers.delete(origin);
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
      this.#strangers.delete(originOf(socket));
      this.#makeRoomFor(shown);
      const verified: Verified = { shown, cancelCut: null, cancelClosing: null };
      this.#verified.set(socket, verified);
      // The session has ended, and waits for the peer to end its side, for ever if need be.
      socket.once('finish', () => {
        verified.cancelClosing = this.#timers.after(closingMsMax, () => socket.destroy());
      });
      socket.on('close', () => {
        verified.cancelClosing?.();
        verified.cancelCut?.();
        this.#verified.delete(socket);
      });
      this.#onSecure(socket);
    });
    // A handshake that takes too long is only told of.
    server.on('tlsClientError', (_error, socket) => socket.destroy());
    return server;
  }

  /** One node must not fill the room of the others, be it one that was removed. */
  #makeRoomFor(shown: ShownChain): void {
    const leaf = Buffer.from(shown[0] ?? []);
    const same = [...this.#verified].filter(([, verified]) =>
      leaf.equals(verified.shown[0] ?? Buffer.alloc(0)),
    );
    const [oldest] = same.length < connectionsPerCertificateMax ? [] : same;
    if (oldest === undefined) return;
    this.#verified.delete(oldest[0]);
    oldest[0].destroy();
  }
}

/** The same of a TCP connection and of the TLS on it. */
const originOf = ({ remoteAddress, remotePort, localAddress, localPort }: Socket): string =>
  // The local side too: one port there may be connected to several addresses here.
  [remoteAddress, remotePort, localAddress, localPort].join(' ');
