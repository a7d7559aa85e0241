/**
 * A request as the protocol sees it, whichever HTTP version carried it. Nothing else of HTTP passes this border.
 */
export interface HttpRequest {
  /** As received: methods are case-sensitive (RFC 9110 §9.1). */
  readonly method: string;
  /** The raw request target as received (`:path` on HTTP/2), neither decoded nor normalized. */
  readonly target: string;
  /** The `Host` header or `:authority`, as received; `null` when there was none (HTTP/1.0). */
  readonly authority: string | null;
  /**
   * Lower-case names in the order received, duplicates kept, values without surrounding white space. `host` is among
   * them on HTTP/1.1; the pseudo headers of HTTP/2 are not. Trailers are never among them.
   */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** The whole body, at most 64 KiB (X-T6). The handler owns it and may wipe it. */
  readonly body: Uint8Array;
  readonly httpVersion: '1.0' | '1.1' | '2';
  /**
   * Monotonic milliseconds at which the last byte of the body had arrived, as far as a process can tell that may have
   * been busy then: the deadline counts from here.
   */
  readonly receivedAtMs: number;
  /** The peer's address, for the log. */
  readonly remoteAddress: string;
}

/** What goes back. The server adds `content-type` and `content-length`. */
export interface HttpAnswer {
  readonly status: number;
  /** JSON in UTF-8 (X-X1). */
  readonly body: Uint8Array;
  /** Further headers, lower-case names: `allow` with a 405, for one. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The request was authentic: its connection is kept for long, and when others have to make room. */
  readonly authenticated?: true;
  /** The body holds plaintext, and no other answer shares it: the server wipes it once it is sent, or of no use. */
  readonly secret?: true;
}

/** Never rejects. Its answer is dropped when the client has gone by then. */
export type HttpHandler = (request: HttpRequest) => Promise<HttpAnswer>;

/** What the server refused by itself, without asking the handler: for log and metrics. */
export interface HttpRefusal {
  readonly status: number;
  /** The `errorName` sent, where an answer was possible. */
  readonly errorName: string;
  /** What was wrong, for the operator. A constant sentence or a code of Node's parser: never a caller's bytes. */
  readonly reason: string;
  readonly remoteAddress: string;
}
