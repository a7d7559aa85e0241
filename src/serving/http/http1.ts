import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { wipe } from '../../base/bytes.js';
import type { XksError } from '../../xks/errors.js';
import { discardBody, receiveBody } from './body.js';
import type { Connection } from './connection.js';
import type { HttpAnswer } from './exchange.js';
import type { Received } from './express-lane.js';
import { farewell } from './farewell.js';
import type { Front } from './front.js';
import { isRefusal, refusal } from './refusal.js';
import { declaredLength, expectation, type RequestHead, readHead1, receivedRequest } from './request-head.js';

/** How often connections are looked over for header sections that take too long. */
const connectionsCheckingIntervalMs = 1_000;

/** An unknown method in front of an otherwise plausible request line (RFC 9110 §9.1). */
const unknownMethodPattern = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP\/1\.[01]\r\n/;
const methodCharactersMax = 64;
const firstLineCharactersMax = 2_048;

type ParserError = NodeJS.ErrnoException & { readonly rawPacket?: Buffer; readonly bytesParsed?: number };

interface State {
  readonly connection: Connection;
  /** The request whose body is being received, and how to refuse it. */
  receiving: {
    readonly req: IncomingMessage;
    readonly refuse: (refused: XksError, detail: string) => void;
  } | null;
  /** The last answer has been decided on: whatever else arrives is thrown away. */
  closing: boolean;
  /** Requests that came after it. */
  ignored: number;
  /** Bodies with plaintext in them that are being sent. */
  readonly secrets: Set<Uint8Array>;
  /** Bytes to write, and to close after, when the requests in flight have been answered. */
  lastWords: Buffer | null;
  /** When what is being read now had arrived, if it had to wait for its turn; monotonic milliseconds. */
  arrivedAtMs: number;
}

/** HTTP/1.0 and 1.1, all that there is of it, by Node's server on connections that are handed to it. */
export class Http1 {
  readonly #front: Front;
  readonly #server: Server;
  readonly #states = new WeakMap<Socket, State>();

  constructor(front: Front) {
    this.#front = front;
    const { limits } = front;
    this.#server = createServer({
      // The parser is strict by default; the checks that answer in anything but JSON are ours (readHead1).
      insecureHTTPParser: false,
      requireHostHeader: false,
      maxHeaderSize: limits.headerBytesMax,
      headersTimeout: limits.headersTimeoutMs,
      // Bodies have a timer of their own, which can still answer.
      requestTimeout: 0,
      keepAliveTimeout: limits.keepAliveMs,
      connectionsCheckingInterval: connectionsCheckingIntervalMs,
    });
    // The parser drops fields above this silently; 0 passes all, `headerBytesMax` and `headerFieldsMax` bound them.
    this.#server.maxHeadersCount = 0;
    // A client may close its side after its last request and still read (RFC 9112 §9.6).
    Object.assign(this.#server, { httpAllowHalfOpen: true });
    this.#server.on('request', (req, res) => this.#exchange(req, res));
    this.#server.on('checkContinue', (req, res) => this.#exchange(req, res));
    this.#server.on('checkExpectation', (req, res) => this.#exchange(req, res));
    // No 'upgrade' listener: Node then takes the request for what it is without the upgrade (RFC 9110 §7.8).
    this.#server.on('connect', (_req, socket) => {
      const state = this.#states.get(socket as Socket);
      if (state === undefined) socket.destroy();
      else this.#refuseConnection(state, refusal.method);
    });
    this.#server.on('clientError', (error: ParserError, socket) =>
      this.#onClientError(error, socket as Socket),
    );
    // A server that never listens starts its header timeouts on this event.
    this.#server.emit('listening');
  }

  take(connection: Connection, received: Received): void {
    const state: State = {
      connection,
      receiving: null,
      closing: false,
      ignored: 0,
      secrets: new Set(),
      lastWords: null,
      arrivedAtMs: received.atMs,
    };
    this.#states.set(connection.socket, state);
    connection.socket.once('close', () => {
      // A pipelined answer that waited for its turn gets no 'close' of its own.
      for (const body of state.secrets) wipe(body);
      state.secrets.clear();
    });
    connection.closePolitely = () => {
      if (connection.inFlight === 0) this.#finish(state, null);
    };
    const { socket } = connection;
    this.#server.emit('connection', socket);
    // As events, so that all of it is read here and now: before what comes next, and with no copy left behind.
    socket.emit('data', received.bytes);
    if (received.ended && !socket.destroyed) socket.emit('end');
    wipe(received.bytes);
    // The requests in it are complete in this turn.
    setImmediate(() => {
      state.arrivedAtMs = Number.POSITIVE_INFINITY;
    });
  }

  close(): void {
    // Ends its interval; the connections are the listener's.
    this.#server.close();
  }

  #exchange(req: IncomingMessage, res: ServerResponse): void {
    const state = this.#states.get(req.socket);
    if (state === undefined) return;
    const { connection } = state;
    const { limits } = this.#front;
    if (state.closing) {
      // Left unread its body would pile up, and Node keeps a response for each.
      state.ignored += 1;
      if (state.ignored > limits.exchangesPerConnectionMax) connection.socket.destroy();
      else req.resume();
      return;
    }
    connection.begin();
    res.once('close', () => {
      connection.end();
      if (connection.inFlight > 0) return;
      if (state.lastWords !== null) this.#finish(state, state.lastWords);
      // Node has set the time of those that are authentic.
      else if (!connection.authenticated) connection.socket.setTimeout(connection.keepAliveMs);
    });
    const head = readHead1(req.method ?? '', req.url ?? '', req.httpVersion, req.rawHeaders, limits);
    const early = isRefusal(head) ? head : this.#refusedByHead(head, connection);
    if (early !== null || isRefusal(head)) {
      this.#refuseUnread(state, req, res, early ?? refusal.unparsable);
      return;
    }
    if (expectation(head.headers) === 'continue') res.writeContinue();

    let refused = false;
    const receiving = {
      req,
      refuse: (error: XksError, detail: string): void => {
        refused = true;
        giveUp();
        this.#send(state, res, this.#front.refuse(error, connection, detail), true);
      },
    };
    state.receiving = receiving;
    const giveUp = receiveBody(req, limits, this.#front.budget, (outcome) => {
      // A pipelined request may have taken the place already.
      if (state.receiving === receiving) state.receiving = null;
      if (refused) return;
      switch (outcome.kind) {
        case 'complete':
          this.#handle(state, res, head, outcome.body);
          return;
        case 'too-large':
          this.#refuseUnread(state, req, res, refusal.bodyTooLarge);
          return;
        case 'no-room':
          this.#refuseUnread(state, req, res, refusal.noRoom);
          return;
        case 'too-slow':
          this.#send(state, res, this.#front.refuse(refusal.bodyTooSlow, connection), true);
          return;
        case 'too-many-pieces':
          this.#front.cutOff(connection);
          return;
        case 'gone':
          connection.socket.destroy();
          return;
      }
    });
  }

  #refusedByHead(head: RequestHead, connection: Connection): XksError | null {
    const { limits } = this.#front;
    // Pipelined without bound (RFC 9112 §9.3.2 lets a client do so).
    if (connection.inFlight > limits.exchangesPerConnectionMax) return refusal.exchanges;
    if (expectation(head.headers) === 'unknown') return refusal.expectation;
    // Before a client that waits for 100 sends it, and before authentication (X-T6).
    if ((declaredLength(head.headers) ?? 0) > limits.bodyBytesMax) return refusal.bodyTooLarge;
    return null;
  }

  #handle(state: State, res: ServerResponse, head: RequestHead, body: Uint8Array): void {
    const { connection } = state;
    const receivedAtMs = Math.min(this.#front.arrivals.arrivedAtMs(), state.arrivedAtMs);
    void this.#front
      .answer(receivedRequest(head, body, receivedAtMs, connection.remoteAddress))
      .then((answer) => {
        if (answer.authenticated) connection.authenticate();
        this.#send(state, res, answer, this.#front.mustClose(connection));
      });
  }

  #send(state: State, res: ServerResponse, answer: HttpAnswer, close: boolean): void {
    if (!this.#start(state, res, answer, close)) {
      if (answer.secret) wipe(answer.body);
      return;
    }
    if (answer.secret) {
      state.secrets.add(answer.body);
      // Written by then; before, the socket may still have to read it.
      res.once('close', () => {
        state.secrets.delete(answer.body);
        wipe(answer.body);
      });
    }
    res.end(answer.body);
  }

  /** Answers at once, then throws away the body before it closes: a close with bytes unread would reset the answer. */
  #refuseUnread(state: State, req: IncomingMessage, res: ServerResponse, refused: XksError): void {
    const answer = this.#front.refuse(refused, state.connection);
    if (!this.#start(state, res, answer, true)) return;
    res.write(answer.body);
    discardBody(
      req,
      this.#front.limits,
      () => res.end(),
      () => this.#front.cutOff(state.connection),
    );
  }

  #start(state: State, res: ServerResponse, answer: HttpAnswer, close: boolean): boolean {
    const { socket, authenticated, keepAliveMs } = state.connection;
    if (socket.destroyed || res.headersSent) return false;
    if (close) state.closing = true;
    let connectionHeaders = {};
    if (close) connectionHeaders = { connection: 'close' };
    else if (res.shouldKeepAlive && !authenticated) {
      // Node would promise the time of those that are authentic.
      const seconds = Math.floor(keepAliveMs / 1_000);
      connectionHeaders = { connection: 'keep-alive', 'keep-alive': `timeout=${seconds}` };
    }
    res.writeHead(answer.status, {
      ...answer.headers,
      'content-type': 'application/json',
      'content-length': answer.body.byteLength,
      ...connectionHeaders,
    });
    // A pipelined answer that still waits for its turn gets no 'close' with its socket: hence `unref`.
    const timer = setTimeout(() => socket.destroy(), this.#front.limits.answerTimeoutMs).unref();
    res.once('close', () => clearTimeout(timer));
    return true;
  }

  #onClientError(error: ParserError, socket: Socket): void {
    const state = this.#states.get(socket);
    const code = error.code ?? '';
    if (state === undefined || !(code.startsWith('HPE_') || code === 'ERR_HTTP_REQUEST_TIMEOUT')) {
      socket.destroy();
      return;
    }
    // The parser reports every further packet again.
    if (state.closing) return;
    const { connection } = state;
    if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
      // A connection opened ahead of need gets no answer to a question it never asked.
      if (connection.requests === 0 && socket.bytesRead === 0) this.#finish(state, null);
      else this.#refuseConnection(state, refusal.headersTooSlow);
    } else if (state.receiving !== null && !state.receiving.req.complete) {
      // The chunked body of this very request is broken.
      state.receiving.refuse(refusal.unparsable, code);
    } else if (code === 'HPE_HEADER_OVERFLOW') {
      this.#refuseConnection(state, refusal.headersTooLarge);
    } else if (code === 'HPE_INVALID_METHOD' && connection.inFlight === 0 && isUnknownMethod(error)) {
      this.#refuseConnection(state, refusal.method);
    } else {
      this.#refuseConnection(state, refusal.unparsable, code);
    }
  }

  /** Refuses where there is no request to answer, and closes. Answers still owed go first. */
  #refuseConnection(state: State, refused: XksError, detail?: string): void {
    state.closing = true;
    const bytes = this.#front.answerBytes.of(this.#front.refuse(refused, state.connection, detail), 'close');
    if (state.connection.inFlight === 0) this.#finish(state, bytes);
    else state.lastWords = bytes;
  }

  /** Ends our side and gives the peer a moment to read. */
  #finish(state: State, bytes: Buffer | null): void {
    state.closing = true;
    state.lastWords = null;
    farewell(state.connection.socket, bytes, this.#front.limits.lingerMs);
  }
}

/** The parser knows a fixed list of methods and gives up on any other within its first bytes. */
function isUnknownMethod({ rawPacket, bytesParsed = Number.POSITIVE_INFINITY }: ParserError): boolean {
  if (rawPacket === undefined || bytesParsed > methodCharactersMax) return false;
  return unknownMethodPattern.test(rawPacket.toString('latin1', 0, firstLineCharactersMax));
}
