import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { isJsonObject } from '../../src/base/guards.js';
import { type FuzzRequest, http1Bytes } from './fuzz-inputs.js';
import { frame, frameType } from './http2-frames.js';
import { firstAnswer, type RawAnswer, type RawTarget, xksErrorFault } from './raw-http.js';

/** Far beyond every limit of the server under test: what takes longer never ends. */
const hangMs = 20_000;
/** So long a silence of the server is its last word: our last frame may be one that wants more bytes. */
const quietMs = 25;

/** `null`, or what is wrong with the server's reaction. */
export type Verdict = string | null;

/** X-X1, and 501 as the only 5xx that input may cause. */
function answerFault(status: number, contentType: string | undefined, body: string): Verdict {
  if (status >= 500 && status !== 501) return `status ${status}: ${body}`;
  if (status !== 200) return xksErrorFault(status, contentType, body);
  if (contentType !== 'application/json') return `content-type ${contentType}`;
  try {
    return isJsonObject(JSON.parse(body)) ? null : 'not an object';
  } catch {
    return 'not JSON';
  }
}

const rawAnswerFault = ({ status, headers, body }: RawAnswer, bodiless: boolean): Verdict =>
  answerFault(status, headers['content-type'], bodiless ? pretendedBody(status) : body);

/** What cannot be seen of an answer to HEAD. */
const pretendedBody = (status: number): string =>
  status === 200
    ? '{}'
    : JSON.stringify({
        errorName:
          {
            400: 'ValidationException',
            401: 'AuthenticationFailedException',
            404: 'InvalidUriPathException',
            429: 'ThrottlingException',
          }[status] ?? 'UnsupportedOperationException',
      });

function within<T>(promise: Promise<T>): Promise<T | 'hang'> {
  let timer: NodeJS.Timeout | undefined;
  const hang = new Promise<'hang'>((resolve) => {
    timer = setTimeout(() => resolve('hang'), hangMs);
  });
  return Promise.race([promise, hang]).finally(() => clearTimeout(timer));
}

/** Opens connections that resume one another's TLS sessions: handshakes are what such a test spends its time on. */
export class Dialer {
  readonly #target: RawTarget;
  #session: Buffer | undefined;

  constructor(target: RawTarget) {
    this.#target = target;
  }

  get origin(): string {
    return `https://localhost:${this.#target.port}`;
  }

  get ca(): string {
    return this.#target.certificates.ca;
  }

  open(ALPNProtocols?: string[]): TLSSocket {
    const options: ConnectionOptions = {
      port: this.#target.port,
      host: '127.0.0.1',
      servername: 'localhost',
      ca: this.#target.certificates.ca,
      ...(ALPNProtocols === undefined ? {} : { ALPNProtocols }),
      ...(this.#session === undefined ? {} : { session: this.#session }),
    };
    const socket = connect(options);
    socket.on('error', () => {});
    socket.on('session', (session) => {
      this.#session = session;
    });
    return socket;
  }
}

/** HTTP/1.1 on a connection that is kept as long as the server keeps it. */
export class Http1Lane {
  readonly #dialer: Dialer;
  #socket: TLSSocket | null = null;

  constructor(dialer: Dialer) {
    this.#dialer = dialer;
  }

  async exchange(request: FuzzRequest): Promise<Verdict> {
    const socket = this.#socket ?? this.#dialer.open();
    this.#socket = null;
    const bodiless = request.method === 'HEAD';
    const outcome = await within(
      new Promise<RawAnswer | string>((resolve) => {
        let text = '';
        const finish = (result: RawAnswer | string): void => {
          socket.removeAllListeners('data');
          socket.off('close', onClose);
          resolve(result);
        };
        const onClose = (): void => finish(`closed after ${JSON.stringify(text)}`);
        socket.on('data', (chunk: Buffer) => {
          text += chunk.toString('latin1');
          try {
            const first = firstAnswer(text, bodiless);
            if (first !== null) finish(first.rest === '' ? first.answer : `more than an answer: ${text}`);
          } catch (thrown) {
            finish(String(thrown));
          }
        });
        socket.once('close', onClose);
        socket.write(http1Bytes(request, 'length'));
      }),
    );
    if (typeof outcome === 'string') {
      socket.destroy();
      return outcome;
    }
    if (outcome.headers['connection'] === 'close') socket.destroy();
    else this.#socket = socket;
    return rawAnswerFault(outcome, bodiless);
  }

  close(): void {
    this.#socket?.destroy();
  }
}

/** Sends the bytes on a connection of their own, closes our side, and judges what comes until the server closes its. */
export async function rawHttp1Verdict(dialer: Dialer, bytes: Buffer): Promise<Verdict> {
  const socket = dialer.open();
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  const closed = new Promise<'closed'>((resolve) => socket.once('close', () => resolve('closed')));
  socket.end(bytes);
  if ((await within(closed)) === 'hang') {
    socket.destroy();
    return 'hang';
  }
  const sent = bytes.toString('latin1');
  let text = Buffer.concat(chunks).toString('latin1');
  // RFC 9112 §2.2: empty lines before a request are no request.
  if (text === '') return /^[\r\n]*$/.test(sent) ? null : 'no answer';
  try {
    while (text !== '') {
      // Whether there is a body depends on how the server read the method; ours all begin with a brace.
      const bodiless = /head/i.test(sent) && text.charAt(text.indexOf('\r\n\r\n') + 4) !== '{';
      const first = firstAnswer(text, bodiless);
      if (first === null) return `cut short: ${text}`;
      const fault = first.answer.status === 100 ? null : rawAnswerFault(first.answer, bodiless);
      if (fault !== null) return fault;
      text = first.rest;
    }
    return null;
  } catch (thrown) {
    return String(thrown);
  }
}

/** HTTP/2 by Node's client, on a session that is kept as long as the server keeps it. */
export class Http2Lane {
  readonly #dialer: Dialer;
  #session: ClientHttp2Session | null = null;

  constructor(dialer: Dialer) {
    this.#dialer = dialer;
  }

  /** `unsent` when Node's client refuses to send it. */
  async exchange(request: FuzzRequest): Promise<Verdict | 'unsent'> {
    if (this.#session === null || this.#session.closed || this.#session.destroyed) {
      this.#session = connectHttp2(this.#dialer.origin, { ca: this.#dialer.ca });
      this.#session.on('error', () => {});
    }
    const headers: Record<string, string | string[]> = {};
    for (const [name, value] of request.headers) {
      if (name === 'host') continue;
      const before = headers[name];
      headers[name] = before === undefined ? value : [before, value].flat();
    }
    let stream: ReturnType<ClientHttp2Session['request']>;
    try {
      stream = this.#session.request(
        { ...headers, ':method': request.method, ':path': request.target },
        // By default the client sends no body with GET and its kin.
        { endStream: false },
      );
    } catch {
      return 'unsent';
    }
    let status = 0;
    let contentType: string | undefined;
    const chunks: Buffer[] = [];
    stream.on('error', () => {});
    stream.on('response', (received) => {
      status = Number(received[':status']);
      contentType = received['content-type'];
    });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    const closed = new Promise<'closed'>((resolve) => stream.once('close', () => resolve('closed')));
    stream.end(request.body);
    if ((await within(closed)) === 'hang') {
      this.#session.destroy();
      return 'hang';
    }
    // nghttp2 resets what RFC 9113 §8.1.1 calls malformed; there is nothing to answer then.
    if (status === 0) return stream.rstCode === 0 ? 'no answer' : null;
    const bodiless = request.method === 'HEAD';
    return answerFault(
      status,
      contentType,
      bodiless ? pretendedBody(status) : Buffer.concat(chunks).toString('latin1'),
    );
  }

  close(): void {
    this.#session?.destroy();
  }
}

/** Sends frames on a connection of their own; every body that comes back must be JSON. */
export async function rawHttp2Verdict(dialer: Dialer, bytes: Buffer): Promise<Verdict> {
  const socket = dialer.open(['h2']);
  const frames = new FrameReader();
  const answered = new Promise<void>((resolve) => {
    const quiet = setTimeout(resolve, quietMs);
    socket.on('data', (chunk: Buffer) => {
      quiet.refresh();
      frames.push(chunk);
      if (!frames.ended) return;
      clearTimeout(quiet);
      resolve();
    });
    socket.once('close', () => {
      clearTimeout(quiet);
      resolve();
    });
    socket.once('secureConnect', () => quiet.refresh());
  });
  socket.write(Buffer.concat([bytes, frame(frameType.ping, 0, 0, FrameReader.lastPing)]));
  await answered;
  socket.destroy();
  for (const body of frames.bodies()) {
    let value: unknown;
    try {
      value = JSON.parse(body);
    } catch {
      return `not JSON: ${body}`;
    }
    if (!isJsonObject(value)) return `not an object: ${body}`;
    const { errorName } = value;
    if (errorName === 'InternalException' || errorName === 'DependencyTimeoutException') return body;
  }
  return null;
}

/** Takes the server's frames apart as far as bodies go: headers would need HPACK. */
class FrameReader {
  static readonly lastPing = Buffer.from('lastping');
  #rest = Buffer.alloc(0);
  readonly #bodies = new Map<number, { text: string; complete: boolean }>();
  /** The last PING was answered, or GOAWAY sent: no more is to come. */
  ended = false;

  push(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    while (this.#rest.length >= 9) {
      const length = this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < 9 + length) return;
      this.#take(
        this.#rest.readUInt8(3),
        this.#rest.readUInt8(4),
        this.#rest.readUInt32BE(5),
        this.#rest.subarray(9, 9 + length),
      );
      this.#rest = this.#rest.subarray(9 + length);
    }
  }

  #take(type: number, flags: number, streamId: number, payload: Buffer): void {
    if (type === frameType.goaway) this.ended = true;
    if (type === frameType.ping && payload.equals(FrameReader.lastPing)) this.ended = true;
    if (type !== frameType.data) return;
    const body = this.#bodies.get(streamId) ?? { text: '', complete: false };
    body.text += payload.toString('latin1');
    if ((flags & 1) === 1) body.complete = true;
    this.#bodies.set(streamId, body);
  }

  bodies(): string[] {
    return [...this.#bodies.values()].filter(({ complete }) => complete).map(({ text }) => text);
  }
}
