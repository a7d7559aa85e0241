import { once } from 'node:events';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { isJsonObject } from '../../src/base/guards.js';

/** One HTTP/1 answer, taken apart without any HTTP library. */
export interface RawAnswer {
  readonly version: string;
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface RawTarget {
  readonly port: number;
  readonly certificates: { readonly ca: string };
}

/** A TLS connection without HTTP on it; resolves when the handshake is done. */
export async function openTls(target: RawTarget, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = connect({
    port: target.port,
    host: '127.0.0.1',
    servername: 'localhost',
    ca: target.certificates.ca,
    ...options,
  });
  await once(socket, 'secureConnect');
  return socket;
}

/** Collects what arrives until the server closes or resets the connection. */
export async function untilClose(socket: TLSSocket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await new Promise<void>((resolve) => {
    socket.on('error', () => {});
    socket.once('close', () => resolve());
  });
  return Buffer.concat(chunks);
}

/** Sends the pieces, each in a packet of its own, and returns the answers given until the server closes. */
export async function sendRaw(
  target: RawTarget,
  ...pieces: readonly (string | Buffer)[]
): Promise<RawAnswer[]> {
  const socket = await openTls(target);
  const received = untilClose(socket);
  for (const piece of pieces) socket.write(typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece);
  return parseAnswers(await received);
}

/** Takes a stream of HTTP/1 answers apart; throws for anything that is not exactly that. Answers to HEAD: `bodiless`. */
export function parseAnswers(bytes: Buffer, bodiless = false): RawAnswer[] {
  const answers: RawAnswer[] = [];
  let rest = bytes.toString('latin1');
  while (rest !== '') {
    const first = firstAnswer(rest, bodiless);
    if (first === null) throw new Error(`cut short: ${JSON.stringify(rest.slice(0, 200))}`);
    answers.push(first.answer);
    rest = first.rest;
  }
  return answers;
}

/** The first answer in `text` and what follows it, `null` while it is incomplete; throws for what is none. */
export function firstAnswer(text: string, bodiless: boolean): { answer: RawAnswer; rest: string } | null {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return null;
  const [statusLine = '', ...lines] = text.slice(0, end).split('\r\n');
  const match = /^HTTP\/(1\.[01]) ([0-9]{3}) [ -~]*$/.exec(statusLine);
  if (match === null) throw new Error(`no status line: ${JSON.stringify(statusLine)}`);
  const headers = Object.fromEntries(
    lines.map((line) => {
      const colon = line.indexOf(': ');
      if (colon < 1) throw new Error(`no header field: ${JSON.stringify(line)}`);
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 2)];
    }),
  );
  const status = Number(match[2]);
  const length = bodiless || status === 100 ? 0 : Number(headers['content-length']);
  if (!Number.isInteger(length)) throw new Error('no Content-Length');
  const body = text.slice(end + 4, end + 4 + length);
  if (body.length < length) return null;
  return { answer: { version: match[1] ?? '', status, headers, body }, rest: text.slice(end + 4 + length) };
}

/** The names of the specification's error table, each with the statuses it may come with. */
const statusesByErrorName: Readonly<Record<string, readonly number[]>> = {
  ValidationException: [400],
  InvalidStateException: [400],
  InvalidCiphertextException: [400],
  InvalidKeyUsageException: [400],
  AuthenticationFailedException: [401],
  AccessDeniedException: [403],
  KeyNotFoundException: [404],
  InvalidUriPathException: [404],
  UnsupportedOperationException: [405, 501],
  ThrottlingException: [429],
  InternalException: [500],
  DependencyTimeoutException: [503],
};

/** X-X1 for an answer other than 200: `null`, or what is wrong with it. */
export function xksErrorFault(status: number, contentType: string | undefined, body: string): string | null {
  if (contentType !== 'application/json') return `content-type ${contentType}`;
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return 'the body is not JSON';
  }
  if (!isJsonObject(value)) return 'the body is not an object';
  const { errorName, errorMessage, ...others } = value;
  if (typeof errorName !== 'string') return 'no errorName';
  if (!statusesByErrorName[errorName]?.includes(status)) return `${errorName} with status ${status}`;
  if (Object.keys(others).length > 0) return `more than the two fields: ${Object.keys(others).join()}`;
  if (errorMessage === undefined) return null;
  if (typeof errorMessage !== 'string' || !/^[\x20-\x7e]{0,511}$/.test(errorMessage)) return 'errorMessage';
  return null;
}
