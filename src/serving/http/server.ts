import { createServer as createTcpServer, type Server as TcpServer } from 'node:net';
import { createServer, type SecureContextOptions, type Server, type TLSSocket } from 'node:tls';
import type { Clock } from '../../base/clock.js';
import type { Logger } from '../../base/logger.js';
import { systemTimers, type Timers } from '../../base/timers.js';
import { tlsServerOptions } from '../../ops/tls-files.js';
import { ArrivalClock } from './arrival-clock.js';
import { Connection } from './connection.js';
import { ConnectionTable } from './connection-table.js';
import type { HttpHandler, HttpRefusal } from './exchange.js';
import { ExpressLane } from './express-lane.js';
import { Front } from './front.js';
import { HandshakePacer } from './handshake-pacer.js';
import { Http1 } from './http1.js';
import { Http2 } from './http2.js';
import type { HttpLimits } from './limits.js';
import { type ListenOn, listen } from './listen.js';
import { ReceivingBudget } from './receiving-budget.js';

/** PEM, in memory. */
export interface TlsMaterial {
  /** Leaf first, full chain. */
  readonly certificate: string | Buffer;
  readonly key: string | Buffer;
  /** Client certificates (X-T3): who may sign them, and the one subject CN accepted. `null`: none asked for. */
  readonly mtls: { readonly ca: string | Buffer; readonly subject: string } | null;
}

export interface XksServerDependencies {
  readonly on: ListenOn;
  readonly tls: TlsMaterial;
  readonly handler: HttpHandler;
  /** For load balancers on this port (X-H4). */
  readonly readiness: () => { readonly ready: boolean };
  readonly limits: HttpLimits;
  readonly clock: Clock;
  /** For the tick that shows how busy the process is. */
  readonly timers?: Timers;
  readonly logger: Logger;
  /** Called for each request that the server refused by itself, and each connection it closed without an answer. */
  readonly onRefusal: (refused: HttpRefusal) => void;
}

/** A dead peer is noticed, and stateful firewalls keep the flow, below the load balancer's idle timeout. */
const tcpKeepAliveMs = 60_000;

/** Closing takes a turn of the event loop: TCP's backlog, which comes in one, is not turned away meanwhile. */
const connectionsBeingClosedMax = 512;

/** The HTTPS listener towards KMS: TLS, split by ALPN into HTTP/2 and HTTP/1.1 (X-T1). */
class XksServer {
  readonly #deps: XksServerDependencies;
  readonly #arrivals: ArrivalClock;
  readonly #front: Front;
  readonly #http1: Http1;
  readonly #http2: Http2;
  readonly #listener: TcpServer;
  /** Takes over what `#listener` accepts; listens to nothing itself. */
  readonly #tls: Server;
  readonly #table: ConnectionTable;
  #hurry: ((drainMs: number) => void) | null = null;
  #drained: Promise<void> | null = null;
  #onEmpty: (() => void) | null = null;

  constructor(deps: XksServerDependencies) {
    this.#deps = deps;
    const { limits, tls } = deps;
    this.#arrivals = new ArrivalClock(deps.clock, deps.timers ?? systemTimers, setImmediate);
    this.#front = new Front({
      ...deps,
      arrivals: this.#arrivals,
      budget: new ReceivingBudget(limits.receivingBytesMax),
    });
    this.#http1 = new Http1(this.#front);
    this.#http2 = new Http2(this.#front);
    this.#tls = createServer({
      ...secureContextOptions(tls),
      // A client without ALPN speaks HTTP/1.1; one that offers none of these ends in a TLS alert (RFC 7301 §3.2).
      ALPNProtocols: ['h2', 'http/1.1', 'http/1.0'],
      handshakeTimeout: limits.handshakeTimeoutMs,
      requestCert: tls.mtls !== null,
      // Judged in #onSecure, which can say why.
      rejectUnauthorized: false,
    });
    this.#listener = createTcpServer({
      // Until TLS reads.
      pauseOnConnect: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: tcpKeepAliveMs,
    });
    this.#table = new ConnectionTable(
      limits.connectionsMax,
      (remoteAddress) => this.#front.drop('The connection limit is reached.', remoteAddress),
      () => {
        if (this.#table.size === 0) this.#onEmpty?.();
      },
    );
    const pacer = new HandshakePacer((socket) => this.#tls.emit('connection', socket), setImmediate);
    this.#listener.on('connection', (socket) => {
      this.#table.accepted(socket);
      pacer.take(socket);
    });
    this.#listener.maxConnections = limits.connectionsMax + connectionsBeingClosedMax;
    this.#listener.on('drop', (data) =>
      this.#front.drop('The connection limit is reached.', data?.remoteAddress ?? ''),
    );
    this.#tls.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
      this.#front.drop(`The TLS handshake failed. ${error.code ?? ''}`.trimEnd(), socket.remoteAddress ?? '');
      // Node reports a handshake that timed out and leaves its connection open.
      socket.destroy();
    });
    this.#tls.on('secureConnection', (socket) => this.#onSecure(socket));
  }

  /** Resolves with the port once connections are accepted; rejects when the address cannot be had. */
  async listen(): Promise<number> {
    const port = await listen(this.#listener, this.#deps.on);
    this.#arrivals.start();
    return port;
  }

  /** Open connections whose handshake is done. */
  connections(): number {
    return this.#table.connections.size;
  }

  /** Serves new connections with another certificate; those that exist keep theirs. Throws for unusable PEM. */
  setCertificate(tls: Pick<TlsMaterial, 'certificate' | 'key'>): void {
    this.#tls.setSecureContext(secureContextOptions({ ...tls, mtls: this.#deps.tls.mtls }));
  }

  /**
   * Goes on accepting for `drainMs` while load balancers hear "not ready" and each answer asks its client to leave;
   * then stops accepting, lets what is in flight finish for up to `finishMs`, and closes. A second call with less time
   * hurries the first.
   */
  drain(drainMs: number): Promise<void> {
    if (this.#drained !== null) {
      this.#hurry?.(drainMs);
      return this.#drained;
    }
    this.#front.startDraining();
    this.#drained = new Promise<void>((resolve) => {
      const endsAtMs = (ms: number): number => this.#deps.clock.monotonicMs() + ms;
      const go = (): void => {
        this.#hurry = null;
        const closed = this.#stopAccepting();
        void this.#finishAll()
          .then(() => closed)
          .then(resolve);
      };
      let endMs = endsAtMs(drainMs);
      let timer = setTimeout(go, drainMs);
      this.#hurry = (hurriedMs) => {
        if (endsAtMs(hurriedMs) >= endMs) return;
        endMs = endsAtMs(hurriedMs);
        clearTimeout(timer);
        timer = setTimeout(go, hurriedMs);
      };
    });
    return this.#drained;
  }

  /**
   * Leaves what is accepted to the other processes that listen, from now on. For up to `leaveMs` each connection is
   * closed with its next answer, which no client can miss as it can the close of an idle one; then as a drain ends.
   */
  leave(leaveMs: number): Promise<void> {
    if (this.#drained === null) {
      this.#front.startLeaving();
      const closed = this.#stopAccepting();
      this.#drained = this.#untilEmpty(leaveMs)
        .then(() => this.#finishAll())
        .then(() => closed);
    }
    return this.#drained;
  }

  /** Closes everything at once. */
  async close(): Promise<void> {
    const closed = this.#stopAccepting();
    this.#destroyAll();
    await closed;
  }

  async #finishAll(): Promise<void> {
    for (const connection of this.#table.connections) connection.closePolitely();
    await this.#untilEmpty(this.#deps.limits.finishMs);
    this.#destroyAll();
  }

  #untilEmpty(withinMs: number): Promise<void> {
    if (this.#table.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, withinMs);
      this.#onEmpty = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #destroyAll(): void {
    this.#arrivals.stop();
    this.#http1.close();
    this.#table.destroyAll();
  }

  #stopAccepting(): Promise<void> {
    return new Promise((resolve) => this.#listener.close(() => resolve()));
  }

  #onSecure(socket: TLSSocket): void {
    // Until HTTP takes over, a reset has nobody else to tell.
    socket.on('error', () => {});
    // X-T3: nothing of a connection that fails here reaches HTTP.
    const refused = this.#clientCertificateFault(socket);
    if (refused !== null) {
      this.#front.drop(refused, socket.remoteAddress ?? '');
      socket.destroy();
      return;
    }
    const connection = new Connection(socket, this.#deps.limits, this.#deps.clock, Math.random());
    this.#table.secured(connection);
    const isHttp2 = socket.alpnProtocol === 'h2';
    // HTTP/1 answers a client that has closed its side already. Not for the whole listener: clients that leave during
    // the handshake would go unnoticed.
    socket.allowHalfOpen = !isHttp2;
    if (isHttp2) this.#http2.take(connection);
    else new ExpressLane(connection, this.#front, this.#http1).start();
  }

  #clientCertificateFault(socket: TLSSocket): string | null {
    const { mtls } = this.#deps.tls;
    if (mtls === null) return null;
    const { subject } = socket.getPeerCertificate();
    // Node says UNABLE_TO_GET_ISSUER_CERT then, which would send the operator after the CA.
    if (subject === undefined) return 'The client showed no certificate.';
    if (!socket.authorized) {
      // Typed as an Error, in truth a code: UNABLE_TO_VERIFY_LEAF_SIGNATURE, CERT_HAS_EXPIRED, …
      return `The client certificate is not trusted. ${String(socket.authorizationError)}`;
    }
    // Several CNs come as an array, and are no match.
    return subject.CN === mtls.subject
      ? null
      : 'The subject of the client certificate is not the accepted one.';
  }
}

export type { XksServer };

export function createXksServer(deps: XksServerDependencies): XksServer {
  return new XksServer(deps);
}

function secureContextOptions({ certificate, key, mtls }: TlsMaterial): SecureContextOptions {
  return tlsServerOptions({ cert: certificate, key, ca: mtls?.ca ?? null });
}
