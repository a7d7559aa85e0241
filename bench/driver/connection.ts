import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

/** Where a connection leads. */
export interface Endpoint {
  readonly url: string;
  /** PEM of the authority that signed the server's certificate; `null`: those that Node trusts. */
  readonly ca: string | null;
}

/** What a connection tells about the requests it was given; `sent` is what `send` got. */
export interface ConnectionEvents<Sent> {
  answered(sent: Sent, status: number, body: Buffer): void;
  /** No answer will come. */
  failed(sent: Sent, reason: string): void;
  /** May take another request: once for each that it may have on the way, and again after each. */
  free(connection: Connection<Sent>): void;
}

/** A connection that makes itself anew when it was closed. */
export interface Connection<Sent> {
  /** Only after `free`. `wire`: the bytes of the request. @returns `false` when it was closed meanwhile, or has a request already. */
  send(sent: Sent, wire: Buffer): boolean;
  close(): void;
}

/** Between attempts to connect. */
const reconnectDelayMs = 50;
/** For a connection with its handshake: a process that hangs has taken it and does not answer. */
const openMsMax = 5_000;

/**
 * Connections that are made anew at once, to one address: a handshake takes this process more than a millisecond, and
 * those that a proxy's process took with it, all at once, would keep it from sending what is due on the others.
 */
const reopeningMax = 4;
const reopenings = new Map<string, Reopenings>();

/** `open` in its turn, tried until it succeeds or `isClosed`. */
export function reopen(
  endpoint: Endpoint,
  alpn: 'http/1.1' | 'h2',
  isClosed: () => boolean,
  use: (socket: Socket) => void,
): void {
  const ofAddress = reopenings.get(endpoint.url) ?? new Reopenings();
  reopenings.set(endpoint.url, ofAddress);
  ofAddress.add(async () => {
    if (isClosed()) return;
    try {
      const socket = await open(endpoint, alpn);
      if (isClosed()) socket.destroy();
      else use(socket);
    } catch {
      setTimeout(() => reopen(endpoint, alpn, isClosed, use), reconnectDelayMs);
    }
  });
}

class Reopenings {
  readonly #waiting: (() => Promise<void>)[] = [];
  #running = 0;

  add(attempt: () => Promise<void>): void {
    this.#waiting.push(attempt);
    this.#next();
  }

  #next(): void {
    if (this.#running >= reopeningMax) return;
    const attempt = this.#waiting.shift();
    if (attempt === undefined) return;
    this.#running += 1;
    void attempt().finally(() => {
      this.#running -= 1;
      // In a turn of its own: what has been answered meanwhile comes first.
      setImmediate(() => this.#next());
    });
  }
}

/** A socket, once it is connected and TLS, if any, is established with that protocol. */
export function open(endpoint: Endpoint, alpn: 'http/1.1' | 'h2'): Promise<Socket> {
  const url = new URL(endpoint.url);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const secure = url.protocol === 'https:';
  const port = Number(url.port) || (secure ? 443 : 80);
  return new Promise((resolve, reject) => {
    const socket = secure
      ? connectTls({
          host,
          port,
          ALPNProtocols: [alpn],
          ...(endpoint.ca !== null && { ca: endpoint.ca }),
          ...(!/^[\d.:]+$/.test(host) && { servername: host }),
        })
      : connectTcp({ host, port });
    socket.setNoDelay(true);
    socket.once('error', reject);
    const giveUp = setTimeout(() => socket.destroy(new Error('no connection in time')), openMsMax);
    socket.once('close', () => clearTimeout(giveUp));
    socket.once(secure ? 'secureConnect' : 'connect', () => {
      socket.off('error', reject);
      clearTimeout(giveUp);
      // One that does not negotiate may still know HTTP/2 when it sees it (RFC 9113 §3.3).
      const negotiated = 'alpnProtocol' in socket ? socket.alpnProtocol : null;
      if (alpn !== 'h2' || negotiated === 'h2' || !negotiated) {
        resolve(socket);
        return;
      }
      socket.destroy();
      reject(new Error('the server does not speak HTTP/2 (ALPN)'));
    });
  });
}
