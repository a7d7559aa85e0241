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
export const reconnectDelayMs = 50;

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
    socket.once(secure ? 'secureConnect' : 'connect', () => {
      socket.off('error', reject);
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
