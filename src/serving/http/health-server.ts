import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { errorBody, unsupportedMethod, xksError } from '../../xks/errors.js';
import { isLoadBalancerPath } from '../../xks/uri-path.js';
import { type ListenOn, listen } from './listen.js';
import { refusal } from './refusal.js';

/** Load balancers poll every few seconds, from a handful of addresses. */
const healthLimits = {
  /** For one more, the one that nothing was heard of for longest is closed. */
  connectionsMax: 256,
  /** Closing takes a turn of the event loop: TCP's backlog, which comes in one, is not turned away meanwhile. */
  connectionsBeingClosedMax: 512,
  headerBytesMax: 8 * 1024,
  headersTimeoutMs: 2_000,
  requestTimeoutMs: 2_000,
  /** How often the two above are looked at. */
  connectionsCheckingIntervalMs: 1_000,
  keepAliveMs: 5_000,
} as const;

export interface HealthServer {
  /** Resolves with the port once connections are accepted; rejects when the address cannot be had. */
  listen(): Promise<number>;
  /** Closes everything at once. */
  close(): Promise<void>;
}

/**
 * The plain-HTTP listener for load balancers and people: `/`, `/ping` and `/healthz` answer 200 when ready, else 503
 * with the reason (X-H4).
 */
export function createHealthServer(deps: {
  readonly on: ListenOn;
  readonly readiness: () => { readonly ready: boolean; readonly reason: string };
}): HealthServer {
  const server = createServer({
    requireHostHeader: false,
    maxHeaderSize: healthLimits.headerBytesMax,
    headersTimeout: healthLimits.headersTimeoutMs,
    requestTimeout: healthLimits.requestTimeoutMs,
    connectionsCheckingInterval: healthLimits.connectionsCheckingIntervalMs,
    keepAliveTimeout: healthLimits.keepAliveMs,
  });
  server.maxConnections = healthLimits.connectionsMax + healthLimits.connectionsBeingClosedMax;
  /** In the order in which they were last heard of. */
  const connections = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
    if (connections.size <= healthLimits.connectionsMax) return;
    for (const longestSilent of connections) {
      connections.delete(longestSilent);
      longestSilent.destroy();
      return;
    }
  });
  const answer = (req: IncomingMessage, res: ServerResponse): void => {
    // One that is not among them any more has been closed.
    if (connections.delete(req.socket)) connections.add(req.socket);
    req.resume();
    if (!isLoadBalancerPath(req.url ?? '')) {
      send(res, 404, errorBody(xksError('InvalidUriPathException', 'There is only /, /ping and /healthz.')));
    } else if (req.method !== 'GET' && req.method !== 'HEAD') {
      send(res, 405, errorBody(unsupportedMethod()), { allow: 'GET, HEAD' });
    } else {
      const { ready, reason } = deps.readiness();
      const status = ready ? { status: 'ready' } : { status: 'not ready', reason };
      send(res, ready ? 200 : 503, Buffer.from(JSON.stringify(status)));
    }
  };
  server.on('request', answer);
  server.on('checkContinue', answer);
  server.on('checkExpectation', answer);
  server.on('clientError', (_error, socket) => {
    if (!socket.writable) return void socket.destroy();
    const body = errorBody(refusal.unparsable);
    socket.end(
      `HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: ${body.byteLength}\r\nconnection: close\r\n\r\n${body}`,
    );
  });
  return {
    listen: () => listen(server, deps.on),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function send(res: ServerResponse, status: number, body: Buffer, headers: Record<string, string> = {}): void {
  res.writeHead(status, {
    ...headers,
    'content-type': 'application/json',
    'content-length': body.byteLength,
    'cache-control': 'no-store',
  });
  res.end(body);
}
