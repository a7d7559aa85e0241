import {
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { wipe } from '../../base/bytes.js';
import type { XksError } from '../../xks/errors.js';
import { discardBody, receiveBody } from './body.js';
import type { Connection } from './connection.js';
import type { HttpAnswer } from './exchange.js';
import type { Front } from './front.js';
import type { HttpLimits } from './limits.js';
import { isRefusal, refusal } from './refusal.js';
import { declaredLength, expectation, type RequestHead, readHead2, receivedRequest } from './request-head.js';

/** What only HTTP/2 knows (RFC 9113 §10.5); nghttp2 bounds resets, CONTINUATION frames and unread acknowledgements. */
const http2Limits = {
  /** Above `headerBytesMax`, so that a section somewhat too large gets an answer in JSON, and only beyond that a reset. */
  headerListBytesMax: 64 * 1024 - 1,
  /** The same for the number of fields. */
  headerListPairsMax: 1_000,
  settingsEntriesMax: 32,
  pingsOutstandingMax: 10,
  invalidFramesMax: 100,
  rejectedStreamsMax: 100,
  sessionMemoryMegabytesMax: 10,
  /** A whole body fits: no round trip is spent on its WINDOW_UPDATE. */
  streamWindowBytes: 128 * 1024,
  connectionWindowBytes: 1024 * 1024,
} as const;

interface Exchange {
  readonly connection: Connection;
  readonly stream: ServerHttp2Stream;
  /** The answer to HEAD. */
  readonly withoutBody: boolean;
  /** Counted by the connection as one that nothing more will come of. */
  stuck: boolean;
  /** Runs while the peer has not taken the answer. */
  answerTimer: NodeJS.Timeout | undefined;
  /** The body of the answer, where it is secret. */
  secret: Uint8Array | null;
}

/** HTTP/2 on connections that are handed to it, by the `'stream'` API: raw header lists, no HTTP/1.1 look-alikes. */
export class Http2 {
  readonly #front: Front;
  readonly #server: Http2Server;

  constructor(front: Front) {
    this.#front = front;
    this.#server = createServer({
      settings: {
        enablePush: false,
        maxConcurrentStreams: front.limits.exchangesPerConnectionMax,
        maxHeaderListSize: http2Limits.headerListBytesMax,
        initialWindowSize: http2Limits.streamWindowBytes,
      },
      maxHeaderListPairs: http2Limits.headerListPairsMax,
      maxSettings: http2Limits.settingsEntriesMax,
      maxOutstandingPings: http2Limits.pingsOutstandingMax,
      maxSessionInvalidFrames: http2Limits.invalidFramesMax,
      maxSessionRejectedStreams: http2Limits.rejectedStreamsMax,
      maxSessionMemory: http2Limits.sessionMemoryMegabytesMax,
    });
  }

  take(connection: Connection): void {
    let session: ServerHttp2Session | null = null;
    this.#server.once('session', (created) => {
      session = created;
    });
    // Emits 'session' before it returns.
    this.#server.emit('connection', connection.socket);
    this.#server.removeAllListeners('session');
    if (session === null) connection.socket.destroy();
    else this.#serve(connection, session);
  }

  #serve(connection: Connection, session: ServerHttp2Session): void {
    const { limits } = this.#front;
    session.setLocalWindowSize(http2Limits.connectionWindowBytes);
    session.on(
      'stream',
      (stream: ServerHttp2Stream, _headers: IncomingHttpHeaders, _flags: number, rawHeaders: string[]) => {
        // Resets and broken connections end in 'close' too.
        stream.on('error', () => {});
        connection.begin();
        const withoutBody = rawMethod(rawHeaders) === 'HEAD';
        const exchange: Exchange = {
          connection,
          stream,
          withoutBody,
          stuck: false,
          answerTimer: undefined,
          secret: null,
        };
        stream.once('close', () => {
          clearTimeout(exchange.answerTimer);
          // Until then nghttp2 reads it where it lies, and still in this turn: a stream that has ended says so while its
          // last frame is being packed.
          if (exchange.secret !== null) setImmediate(wipe, exchange.secret);
          const leave = this.#front.mustClose(connection);
          connection.end();
          if (exchange.stuck) connection.stuck -= 1;
          if (connection.onlyStuck) connection.socket.destroy();
          else if (leave) connection.closePolitely();
        });
        const head = readHead2(rawHeaders, limits);
        if (isRefusal(head)) this.#refuseUnread(exchange, head);
        else this.#exchange(exchange, head);
      },
    );
    // A peer that breaks the protocol gets its GOAWAY from nghttp2.
    session.on('error', () => connection.socket.destroy());

    let lingering: NodeJS.Timeout | null = null;
    connection.closePolitely = () => {
      // GOAWAY names the last stream taken: the peer knows which to send again elsewhere (RFC 9113 §6.8). The two-step
      // farewell of that section is out of reach: after any GOAWAY nghttp2 ignores new streams, so announcing 2^31−1
      // first would leave those in between without an answer.
      if (!session.closed) session.close();
      lingering ??= setTimeout(() => {
        if (connection.inFlight === 0) connection.socket.destroy();
      }, limits.lingerMs);
    };
    // The peer's PINGs and half-sent header blocks keep nothing open: only requests count. And ours find sessions that
    // nghttp2 has ended by an error: Node stops reading on their connections and never hears that the peer has gone.
    let pingOutstanding = false;
    const look = (): void => {
      const allowedMs = connection.requests === 0 ? limits.headersTimeoutMs : connection.keepAliveMs;
      const { idleMs } = connection;
      if (idleMs >= allowedMs) {
        connection.closePolitely();
        return;
      }
      if (pingOutstanding) {
        connection.socket.destroy();
        return;
      }
      if (connection.inFlight === 0 && !session.closed && !session.destroyed) {
        pingOutstanding = session.ping(() => {
          pingOutstanding = false;
        });
      }
      idleTimer = setTimeout(look, Math.max(Math.min(allowedMs - idleMs, limits.headersTimeoutMs), 1));
    };
    let idleTimer = setTimeout(look, limits.headersTimeoutMs);
    session.once('close', () => {
      clearTimeout(idleTimer);
      if (lingering !== null) clearTimeout(lingering);
    });
  }

  #exchange(exchange: Exchange, head: RequestHead): void {
    const { connection, stream } = exchange;
    const { limits } = this.#front;
    const early = refusedByHead(head, connection, limits);
    if (early !== null) {
      this.#refuseUnread(exchange, early);
      return;
    }
    if (expectation(head.headers) === 'continue') stream.additionalHeaders({ ':status': 100 });
    receiveBody(stream, limits, this.#front.budget, (outcome) => {
      switch (outcome.kind) {
        case 'complete':
          this.#handle(exchange, head, outcome.body);
          return;
        case 'too-large':
          this.#refuseUnread(exchange, refusal.bodyTooLarge);
          return;
        case 'no-room':
          this.#refuseUnread(exchange, refusal.noRoom);
          return;
        case 'too-slow':
          this.#refuseUnread(exchange, refusal.bodyTooSlow);
          return;
        case 'too-many-pieces':
          this.#front.cutOff(connection);
          return;
        case 'gone':
          return;
      }
    });
  }

  #handle(exchange: Exchange, head: RequestHead, body: Uint8Array): void {
    const { connection } = exchange;
    connection.answering += 1;
    void this.#front
      .answer(receivedRequest(head, body, this.#front.arrivals.arrivedAtMs(), connection.remoteAddress))
      .then((answer) => {
        connection.answering -= 1;
        if (answer.authenticated) connection.authenticate();
        this.#send(exchange, answer);
      });
  }

  /**
   * Answers at once and throws away the rest, up to a measure; flow control stops what is beyond. The peer, which has
   * its answer, is to end the stream or to reset it. While it does neither the connection is left as an old one is, as
   * others may have requests on it; when `answerTimeoutMs` is over only these are waited for. Resetting it from here is
   * not safe: `stream.close()` destroys a stream whose answer may not have left yet, and then Node 20 packs empty
   * DATA frames for it without end, in one turn of the event loop.
   */
  #refuseUnread(exchange: Exchange, refused: XksError): void {
    this.#send(exchange, this.#front.refuse(refused, exchange.connection));
    discardBody(
      exchange.stream,
      this.#front.limits,
      (ended) => {
        if (!ended) exchange.connection.closePolitely();
      },
      () => this.#front.cutOff(exchange.connection),
    );
  }

  #send(exchange: Exchange, answer: HttpAnswer): void {
    const { connection, stream, withoutBody } = exchange;
    if (stream.destroyed || stream.closed || stream.headersSent) {
      if (answer.secret) wipe(answer.body);
      return;
    }
    exchange.answerTimer = setTimeout(() => {
      exchange.stuck = true;
      connection.stuck += 1;
      if (connection.onlyStuck) connection.socket.destroy();
      else connection.closePolitely();
    }, this.#front.limits.answerTimeoutMs);
    if (answer.secret) exchange.secret = answer.body;
    stream.respond(
      {
        ...answer.headers,
        ':status': answer.status,
        'content-type': 'application/json',
        'content-length': answer.body.byteLength,
      },
      { endStream: withoutBody },
    );
    if (!withoutBody) stream.end(answer.body);
  }
}

function refusedByHead(head: RequestHead, connection: Connection, limits: HttpLimits): XksError | null {
  // A reset stream no longer counts for nghttp2, but its request is still worked on (rapid reset, CVE-2023-44487).
  if (connection.answering >= 2 * limits.exchangesPerConnectionMax) return refusal.exchanges;
  if (head.method === 'CONNECT') return refusal.method;
  if (expectation(head.headers) === 'unknown') return refusal.expectation;
  if ((declaredLength(head.headers) ?? 0) > limits.bodyBytesMax) return refusal.bodyTooLarge;
  return null;
}

const rawMethod = (rawHeaders: readonly string[]): string | undefined =>
  rawHeaders[rawHeaders.indexOf(':method') + 1];
