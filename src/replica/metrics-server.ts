import { createServer, type Server } from 'node:http';
import { errorText } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import { expose, expositionContentType, type MetricFamily } from './exposition.js';

const connectionsMax = 64;
const requestTimeoutMs = 10_000;

/** `GET /metrics` for Prometheus, on a listening socket that the supervisor holds. */
export class MetricsServer {
  readonly #server: Server;

  constructor(families: () => Promise<Iterable<MetricFamily>>) {
    this.#server = createServer(
      {
        headersTimeout: requestTimeoutMs,
        requestTimeout: requestTimeoutMs,
        connectionsCheckingInterval: 1_000,
      },
      async (request, response) => {
        const plain = (status: number, text: string): void => {
          response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' }).end(text);
        };
        const path = request.url?.split('?', 1)[0];
        if (path !== '/metrics') return plain(404, 'Metrics are at /metrics\n');
        if (request.method !== 'GET' && request.method !== 'HEAD') return plain(405, 'GET only\n');
        try {
          const text = expose(await families());
          response.writeHead(200, { 'Content-Type': expositionContentType }).end(text);
        } catch (thrown) {
          plain(500, `${errorText(thrown)}\n`);
        }
      },
    );
    this.#server.maxConnections = connectionsMax;
  }

  /** @param fd a listening TCP socket. */
  listen(fd: number): Promise<Result<null, string>> {
    return new Promise((resolve) => {
      this.#server.once('error', (error) => resolve(err(`cannot listen for metrics: ${error.message}`)));
      this.#server.listen({ fd }, () => resolve(ok(null)));
    });
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}
