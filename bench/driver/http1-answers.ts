/** An answer as the driver sees it. `body` may be a view of received memory: copy what is kept. */
export interface Answer {
  readonly status: number;
  readonly body: Buffer;
  /** The server goes on with this connection. */
  readonly keepAlive: boolean;
}

const headEnd = Buffer.from('\r\n\r\n');
const headBytesMax = 16 * 1024;

/** The answers to requests sent one after the other on an HTTP/1.1 connection, out of whatever pieces arrive. */
export class Http1Answers {
  #rest: Buffer = Buffer.alloc(0);

  /** Takes what has arrived. @returns the answers completed by it, or what makes it no HTTP/1.1. */
  push(chunk: Buffer): readonly Answer[] | string {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const answers: Answer[] = [];
    for (;;) {
      const parsed = parseAnswer(this.#rest);
      if (typeof parsed === 'string') return parsed;
      if (parsed === null) return answers;
      this.#rest = this.#rest.subarray(parsed.bytes);
      if (parsed.answer.status >= 200) answers.push(parsed.answer);
    }
  }
}

/** The answer at the beginning of `bytes`, `null` while it is incomplete, or what is wrong with it. */
function parseAnswer(bytes: Buffer): { readonly answer: Answer; readonly bytes: number } | string | null {
  const end = bytes.indexOf(headEnd);
  if (end < 0) return bytes.length > headBytesMax ? 'an endless header section' : null;
  const head = bytes.toString('latin1', 0, end + 2);
  const status = Number(/^HTTP\/1\.[01] (\d{3})[ \r]/.exec(head)?.[1]);
  if (!(status >= 100)) return 'no HTTP/1.1 answer';
  const keepAlive = head.startsWith('HTTP/1.1') && !/\r\nconnection:[ \t]*close\r\n/i.test(head);
  const start = end + headEnd.length;
  const length = /\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n/i.exec(head)?.[1];
  if (length !== undefined) {
    const bodyEnd = start + Number(length);
    if (bytes.length < bodyEnd) return null;
    return { answer: { status, body: bytes.subarray(start, bodyEnd), keepAlive }, bytes: bodyEnd };
  }
  if (/\r\ntransfer-encoding:[ \t]*chunked\r\n/i.test(head)) {
    const chunked = parseChunked(bytes, start);
    if (chunked === null || typeof chunked === 'string') return chunked;
    return { answer: { status, body: chunked.body, keepAlive }, bytes: chunked.end };
  }
  if (status < 200 || status === 204 || status === 304) {
    return { answer: { status, body: Buffer.alloc(0), keepAlive }, bytes: start };
  }
  return 'an answer without a length';
}

/** RFC 9112 §7.1, trailers left aside. */
function parseChunked(
  bytes: Buffer,
  start: number,
): { readonly body: Buffer; readonly end: number } | string | null {
  const pieces: Buffer[] = [];
  for (let at = start; ; ) {
    const lineEnd = bytes.indexOf('\r\n', at);
    if (lineEnd < 0) return null;
    const size = Number.parseInt(bytes.toString('latin1', at, lineEnd), 16);
    if (!(size >= 0)) return 'a chunk without a size';
    at = lineEnd + 2;
    if (size === 0) {
      if (bytes.length < at + 2) return null;
      if (bytes.toString('latin1', at, at + 2) === '\r\n')
        return { body: Buffer.concat(pieces), end: at + 2 };
      const trailersEnd = bytes.indexOf(headEnd, at);
      return trailersEnd < 0 ? null : { body: Buffer.concat(pieces), end: trailersEnd + headEnd.length };
    }
    if (bytes.length < at + size + 2) return null;
    pieces.push(bytes.subarray(at, at + size));
    at += size + 2;
  }
}
