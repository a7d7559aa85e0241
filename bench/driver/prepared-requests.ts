import { signRequest } from '../../src/sigv4/sign.js';
import { requestFrames } from './http2-frames.js';
import type { Message, Operation } from './xks-messages.js';

/** Which key of which proxy is asked, and as whom. */
export interface XksAccess {
  /** Without slashes at the ends; empty for none. */
  readonly uriPathPrefix: string;
  readonly keyId: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export type HttpVersion = '1.1' | '2';

/** A request ready to be sent: `wire` for HTTP/1.1 as it is, for HTTP/2 on stream 0. */
export interface PreparedRequest {
  readonly operation: Operation;
  readonly message: Message;
  readonly body: Buffer;
  wire: Buffer;
  signedAtMs: number;
}

/** The same request in the parts that other tools want. */
export interface SignedParts {
  readonly path: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
}

const service = 'kms-xks-proxy';

export function signedParts(
  access: XksAccess,
  host: string,
  operation: Operation,
  body: Buffer,
  nowMs: number,
): SignedParts {
  const prefix = access.uriPathPrefix === '' ? '' : `/${access.uriPathPrefix}`;
  const path = `${prefix}/kms/xks/v1/keys/${access.keyId}/${operation}`;
  const headers: (readonly [string, string])[] = [
    ['host', host],
    ['content-type', 'application/json'],
  ];
  const signed = signRequest(
    { method: 'POST', target: path, authority: host, headers, body },
    {
      nowMs,
      service,
      region: access.region,
      accessKeyId: access.accessKeyId,
      secretAccessKey: Buffer.from(access.secretAccessKey),
    },
  );
  return { path, headers: [...headers, ...signed] };
}

/** Signs requests before they are due, so that signing takes nothing from the moment of sending. */
export class RequestSigner {
  readonly #access: XksAccess;
  readonly #host: string;
  readonly #scheme: string;
  readonly #http: HttpVersion;

  /** `url`: `https://host:port` as the signature and the server see it. */
  constructor(access: XksAccess, url: string, http: HttpVersion) {
    const { host, protocol } = new URL(url);
    this.#access = access;
    this.#host = host;
    this.#scheme = protocol.replace(':', '');
    this.#http = http;
  }

  prepare(operation: Operation, message: Message, body: Buffer, nowMs: number): PreparedRequest {
    return { operation, message, body, wire: this.#wire(operation, body, nowMs), signedAtMs: nowMs };
  }

  sign(request: PreparedRequest, nowMs: number): void {
    request.wire = this.#wire(request.operation, request.body, nowMs);
    request.signedAtMs = nowMs;
  }

  #wire(operation: Operation, body: Buffer, nowMs: number): Buffer {
    const { path, headers } = signedParts(this.#access, this.#host, operation, body, nowMs);
    const all = [...headers, ['content-length', String(body.length)] as const];
    if (this.#http === '2') {
      const pseudo = [
        [':method', 'POST'],
        [':scheme', this.#scheme],
        [':authority', this.#host],
        [':path', path],
      ] as const;
      // `host` too: some proxies look for the header that was signed and not for the pseudo header.
      return requestFrames([...pseudo, ...all], body);
    }
    const head = [`POST ${path} HTTP/1.1`, ...all.map(([name, value]) => `${name}: ${value}`)];
    return Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`, 'latin1'), body]);
  }
}

/** A signature is good for five minutes (X-A3); it is renewed well before. */
const renewAfterMs = 120_000;

/** A ring of prepared requests, each signed anew every two minutes, a few at a time. */
export class RequestRing {
  readonly #requests: readonly PreparedRequest[];
  readonly #signer: RequestSigner;
  #next = 0;
  #nextToSign = 0;

  constructor(requests: readonly PreparedRequest[], signer: RequestSigner) {
    this.#requests = requests;
    this.#signer = signer;
  }

  next(): PreparedRequest {
    const request = this.#requests[this.#next];
    if (request === undefined) throw new Error('the ring has no request');
    this.#next = (this.#next + 1) % this.#requests.length;
    return request;
  }

  /** Signs up to `count` requests whose turn it is. @returns how many. */
  renew(count: number, nowMs: number): number {
    let signed = 0;
    for (; signed < count; signed++) {
      const request = this.#requests[this.#nextToSign];
      if (request === undefined || nowMs - request.signedAtMs < renewAfterMs) break;
      this.#signer.sign(request, nowMs);
      this.#nextToSign = (this.#nextToSign + 1) % this.#requests.length;
    }
    return signed;
  }
}
