import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { errorBody, unsupportedMethod, xksError } from '../../xks/errors.js';
import { isLoadBalancerPath } from '../../xks/uri-path.js';
import { type ListenOn, listen } from './listen.js';
import { refusal } from './refusal.js';

/** Load balancers poll every few seconds, from a handful of addresses. */
const healthLimits = {
  connectionsMax: 256,
  headerBytesMax: 8 * 1024,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 10_000,
  keepAliveMs: 75_000,
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
    keepAliveTimeout: healthLimits.keepAliveMs,
  });
  server.maxConnections = healthLimits.connectionsMax;
  const answer = (req: IncomingMessage, res: ServerResponse): void => {
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
