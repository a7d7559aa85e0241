import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Server as NetServer, Socket } from 'node:net';
import type { Result } from '../base/result.js';
import { parseRequestId } from '../keystate/request-id.js';
import type { AdminApi } from './admin-api.js';
import { adminApiVersion, adminRequestBytesMax, requestIdHeader } from './admin-contract.js';
import type { AdminError, AdminErrorCode } from './admin-error.js';
import type { AdminCaller } from './change-proposer.js';
import { listenOnUnixSocket } from './unix-socket.js';

const connectionsMax = 64;
const requestTimeoutMs = 10_000;
/** What commands under way have when the server closes; the supervisor kills the replica after 10 s. */
const closeMsMax = 3_000;
const headerBytesMax = 8 * 1024;
/** root and the socket's group (xksd-admin). */
const socketMode = 0o660;

const routePrefix = `/${adminApiVersion}/`;

const statusOf: { readonly [Code in AdminErrorCode]: number } = {
  'bad-request': 400,
  invalid: 400,
  'unknown-command': 404,
  'not-found': 404,
  'object-not-found': 404,
  'already-exists': 409,
  conflict: 409,
  'object-ambiguous': 409,
  'object-unsuitable': 409,
  'not-prepared': 409,
  expired: 409,
  refused: 409,
  limit: 409,
  overloaded: 503,
  'no-quorum': 503,
  'no-serving-process': 503,
  'token-unavailable': 503,
  'no-such-token': 404,
  'log-failed': 503,
  timeout: 504,
  'outcome-unknown': 504,
  failed: 500,
  internal: 500,
};

export interface AdminServerOptions {
  readonly socketPath: string;
  readonly api: AdminApi;
  /** For those who bring none. */
  readonly mintRequestId: () => string;
  /** SO_PEERCRED of a connected socket. */
  readonly peerCredentials: (fd: number) => { readonly uid: number } | null;
}

/** HTTP/JSON on a unix socket: who may open the socket may administer. */
export class AdminServer {
  readonly #options: AdminServerOptions;
  readonly #server: Server;
  #requestsInFlight = 0;
  #closing = false;
  /** Asked for at connection time: the peer's rights then are what counts. */
  readonly #uids = new WeakMap<Socket, number | null>();

  constructor(options: AdminServerOptions) {
    this.#options = options;
    this.#server = createServer(
      {
        headersTimeout: requestTimeoutMs,
        requestTimeout: requestTimeoutMs,
        maxHeaderSize: headerBytesMax,
        connectionsCheckingInterval: 1_000,
      },
      (request, response) => {
        this.#requestsInFlight += 1;
        response.once('close', () => {
          this.#requestsInFlight -= 1;
          this.#closeWhenIdle();
        });
        void this.#serve(request, response);
      },
    );
    this.#server.maxConnections = connectionsMax;
    this.#server.on('connection', (socket: Socket) => {
      const fd = fdOf(socket);
      const peer = fd === null ? null : options.peerCredentials(fd);
      this.#uids.set(socket, peer?.uid ?? null);
    });
  }

  listen(): Promise<Result<null, string>> {
    return listenOnUnixSocket(this.#server as NetServer, this.#options.socketPath, socketMode);
  }

  /** Lets commands that are under way finish, within bounds. A connection without one is nothing to wait for. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#server.closeAllConnections(), closeMsMax);
      this.#server.close(() => {
        clearTimeout(timer);
        resolve();
      });
      this.#closing = true;
      this.#closeWhenIdle();
    });
  }

  /** As given, or a new one; `null` when it is malformed. */
  #requestIdOf({ headers }: IncomingMessage): string | null {
    const given = headers[requestIdHeader];
    if (given === undefined) return this.#options.mintRequestId();
    return typeof given === 'string' && parseRequestId(given) !== null ? given : null;
  }

  /** Node's `closeIdleConnections` leaves those that have not sent anything yet. */
  #closeWhenIdle(): void {
    if (this.#closing && this.#requestsInFlight === 0) this.#server.closeAllConnections();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method, url, socket } = request;
    if (url === undefined || !url.startsWith(routePrefix)) {
      answerError(response, { code: 'unknown-command', message: `Commands are at ${routePrefix}…` });
      return;
    }
    if (method !== 'POST') {
      response.setHeader('Allow', 'POST');
      answer(response, 405, errorBody({ code: 'bad-request', message: 'Commands are sent by POST.' }));
      return;
    }
    const body = await readJson(request);
    if (body === undefined) {
      const message = `The request is not a JSON object of at most ${adminRequestBytesMax} bytes.`;
      response.setHeader('Connection', 'close');
      answerError(response, { code: 'bad-request', message });
      return;
    }
    const requestId = this.#requestIdOf(request);
    if (requestId === null) {
      answerError(response, { code: 'bad-request', message: `Malformed ${requestIdHeader} header.` });
      return;
    }
    const caller: AdminCaller = { uid: this.#uids.get(socket) ?? null, requestId };
    const command = url.slice(routePrefix.length);
    const result = await this.#options.api.run(command, body, caller);
    if (result.ok) answer(response, 200, result.value);
    else answerError(response, result.error);
  }
}

/** The descriptor of a socket: Node keeps it, without naming it in its types. */
function fdOf(socket: Socket): number | null {
  if (!('_handle' in socket)) return null;
  const handle: unknown = socket._handle;
  if (typeof handle !== 'object' || handle === null || !('fd' in handle)) return null;
  return typeof handle.fd === 'number' && handle.fd >= 0 ? handle.fd : null;
}

/** The body as JSON; `undefined` when it is none, or too long. An empty one counts as `{}`. */
async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      bytes += chunk.byteLength;
      if (bytes > adminRequestBytesMax) return undefined;
      chunks.push(chunk);
    }
    const text = Buffer.concat(chunks).toString('utf8');
    return text === '' ? {} : JSON.parse(text);
  } catch {
    return undefined;
  }
}

const errorBody = (error: AdminError): object => ({ error: { code: error.code, message: error.message } });

const answerError = (response: ServerResponse, error: AdminError): void =>
  answer(response, statusOf[error.code], errorBody(error));

function answer(response: ServerResponse, status: number, body: unknown): void {
  if (response.destroyed) return;
  const bytes = Buffer.from(`${JSON.stringify(body)}\n`, 'utf8');
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': bytes.byteLength,
    'Cache-Control': 'no-store',
  });
  response.end(bytes);
}
