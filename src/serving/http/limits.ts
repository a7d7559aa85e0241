import type { Config } from '../../ops/config.js';

/** What the server bounds. Everything a peer can make grow or wait has a name here. */
export interface HttpLimits {
  /** Connections at a time, handshakes included. For one more the longest silent of those not authentic is closed. */
  readonly connectionsMax: number;
  /** From the TCP connection to the end of the TLS handshake. */
  readonly handshakeTimeoutMs: number;
  /** For a request's header section to arrive, counted from its first byte or, for the first one, from the handshake. */
  readonly headersTimeoutMs: number;
  /** From the end of the header section to the last byte of the body. */
  readonly bodyTimeoutMs: number;
  /** For the rest of a request that came in pieces, before its connection is left to Node's HTTP server. */
  readonly restWaitMs: number;
  /** From the answer to the peer having taken it: one that doesn't read is cut off. */
  readonly answerTimeoutMs: number;
  /** Request line and header fields together. More gets 400 (X-T6). */
  readonly headerBytesMax: number;
  /** Header fields of a request. More gets 400. */
  readonly headerFieldsMax: number;
  /** A larger body gets 501 before authentication (X-T6). */
  readonly bodyBytesMax: number;
  /** Of one body as they come in: chunks, DATA frames, TLS records. More and the connection is ended. */
  readonly bodyPiecesMax: number;
  /** So much of an over-long body is read and thrown away, so that the client gets to read the answer (X-T6). */
  readonly discardBytesMax: number;
  /** The same in pieces. More and the connection is ended. */
  readonly discardPiecesMax: number;
  /** Held by bodies being received, over all connections. Beyond it, the one that began first gets 429. */
  readonly receivingBytesMax: number;
  /** Requests being answered on one connection: HTTP/2 streams, or pipelined HTTP/1.1 requests. */
  readonly exchangesPerConnectionMax: number;
  /** After refusing what has not been read to its end: so long a silence, and the connection is torn down. */
  readonly lingerMs: number;
  /** An idle connection is closed after so long; longer than the load balancer's idle timeout. */
  readonly keepAliveMs: number;
  /** The same for a connection on which no request was authentic. */
  readonly strangerKeepAliveMs: number;
  /** A connection older than this, ±10%, is closed politely so that load spreads again. */
  readonly connectionAgeMaxMs: number;
  /** When draining: for requests in flight to finish once nothing is accepted any more. */
  readonly finishMs: number;
}

/** The limits of the XKS listener: those an operator may set, and those nobody needs to. */
export function httpLimits(xks: Config['xks']): HttpLimits {
  return {
    connectionsMax: xks.connectionsMax,
    handshakeTimeoutMs: 5_000,
    headersTimeoutMs: 10_000,
    bodyTimeoutMs: 5_000,
    restWaitMs: 100,
    answerTimeoutMs: 10_000,
    headerBytesMax: 16 * 1024,
    headerFieldsMax: 100,
    bodyBytesMax: 64 * 1024,
    bodyPiecesMax: 512,
    discardBytesMax: 2 * 1024 * 1024,
    discardPiecesMax: 2_048,
    receivingBytesMax: 64 * 1024 * 1024,
    exchangesPerConnectionMax: 128,
    lingerMs: 1_000,
    keepAliveMs: xks.keepAliveSeconds * 1_000,
    strangerKeepAliveMs: 15_000,
    connectionAgeMaxMs: xks.connectionAgeMaxSeconds * 1_000,
    finishMs: 2_000,
  };
}
