import { signRequest } from '../../src/sigv4/sign.js';
import { clientPreface, frame, frameType, literalHeaders } from './http2-frames.js';
import { decryptRequest, encryptRequest, healthRequest, metadataRequest, names } from './pipeline-fixture.js';
import type { SeededRandom } from './seeded-random.js';
import { VirtualTime } from './virtual-time.js';

/** A request that HTTP may or may not like; each field as it goes onto the wire, in Latin-1. */
export interface FuzzRequest {
  readonly method: string;
  readonly target: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer;
}

const printable = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i)).join('');
const base64Alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const awkwardValues: readonly unknown[] = [
  ...[
    null,
    true,
    0,
    -1,
    1e308,
    '',
    ' ',
    'A',
    'AA==',
    'AB==',
    'AAA',
    '=',
    '====',
    '_-_-',
    'AAAA\n',
    '\0',
    '\ud800',
    '💥',
  ],
  ...[
    [],
    {},
    [[]],
    { a: 1 },
    ['AAAA'],
    'AES_GCM',
    'AES_CBC',
    'SHA_256',
    'x'.repeat(5_000),
    'A'.repeat(40_000),
  ],
  ...[
    '__proto__',
    'constructor',
    'arn:aws:iam::1:user/x',
    'AQAAAAE=',
    'AQAAAAI=',
    'A'.repeat(16),
    'A'.repeat(24),
  ],
];
const fragments = [
  ...[
    '\r\n',
    '\n',
    '\r',
    '\0',
    ' ',
    '\t',
    ':',
    ',',
    ';',
    '=',
    '/',
    '//',
    '..',
    '%',
    '%00',
    '%2e%2e%2f',
    '?',
    '#',
    '*',
  ],
  ...[
    '\r\n\r\n',
    '\r\n ',
    'Host: b\r\n',
    'Content-Length: 5\r\n',
    'Content-Length: -1\r\n',
    'Content-Length: 0x5\r\n',
  ],
  ...[
    'Transfer-Encoding: chunked\r\n',
    'Transfer-Encoding: gzip\r\n',
    'Expect: 100-continue\r\n',
    'Connection: close\r\n',
  ],
  ...[
    'Upgrade: h2c\r\n',
    'Trailer: x\r\n',
    'TE: trailers\r\n',
    'HTTP/1.0',
    'HTTP/9.9',
    '0\r\n\r\n',
    'ffffffff\r\n',
  ],
  ...[
    '99999999999999999999',
    '\xff\xfe',
    '\xc3\xa9',
    '\xed\xa0\x80',
    '{',
    '}',
    '[',
    ']',
    '"',
    '\\u0000',
    '\\',
    '-',
    'null',
  ],
  ...['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'GET / HTTP/1.1\r\n', 'é', 'a'.repeat(300), 'a'.repeat(9_000)],
];
const methods = [
  'GET',
  'HEAD',
  'PUT',
  'DELETE',
  'OPTIONS',
  'TRACE',
  'PATCH',
  'PROPFIND',
  'BREW',
  'post',
  'P',
  'CONNECT',
];
const headerNames = [
  'x-amz-date',
  'authorization',
  'content-type',
  'x-amz-content-sha256',
  'x',
  'cookie',
  'date',
  'accept',
];

/** Deterministic requests around what KMS would send. */
export class FuzzInputs {
  readonly #random: SeededRandom;
  readonly #authority: string;
  readonly #nowMs = new VirtualTime().wallMs();

  constructor(random: SeededRandom, authority: string) {
    this.#random = random;
    this.#authority = authority;
  }

  /** A request that is framed well, so that the connection can go on: path, method, headers or body are off. */
  wellFramed(): FuzzRequest {
    const random = this.#random;
    const [target, object] = random.pick(this.#bases());
    const kind = random.integer(10);
    // Most bodies are signed as they are, so that they get past authentication (X-A5).
    if (kind < 6) return this.#signed('POST', target, this.#mutatedBody(object));
    const body = Buffer.from(JSON.stringify(object));
    if (kind === 6) return this.#signed('POST', this.#mutatedTarget(target), body);
    if (kind === 7) return this.#signed(random.pick(methods.slice(0, 8)), target, body);
    const signed = this.#signed('POST', target, body);
    if (kind === 8)
      return { ...signed, headers: signed.headers.flatMap((header) => this.#mutatedHeader(header)) };
    return { ...signed, body: this.#mutatedBody(object) };
  }

  /** Bytes of HTTP/1 with something broken in them. Nothing may follow them on their connection. */
  rawHttp1(): Buffer {
    const random = this.#random;
    if (random.integer(20) === 0) return Buffer.from(random.bytes(random.integer(300)));
    const request = random.integer(3) === 0 ? this.wellFramed() : this.#signed('POST', ...this.#plain());
    const method = random.integer(8) === 0 ? random.pick(methods) : request.method;
    const framing = random.integer(4) === 0 ? 'chunked' : 'length';
    const bytes = http1Bytes({ ...request, method }, framing);
    const pipelined = random.integer(5) === 0 ? Buffer.concat([bytes, bytes]) : bytes;
    return this.#mutatedBytes(pipelined, 1 + random.integer(4));
  }

  /** A connection's worth of HTTP/2 frames, some of them nonsense. */
  rawHttp2(): { readonly bytes: Buffer; readonly requests: number } {
    const random = this.#random;
    const frames: Buffer[] = [frame(frameType.settings, 0, 0, Buffer.alloc(0))];
    const requests = 2 + random.integer(5);
    for (let i = 0; i < requests; i += 1) {
      const request = random.integer(2) === 0 ? this.wellFramed() : this.#signed('POST', ...this.#plain());
      frames.push(...this.#http2Frames(request, 1 + 2 * i));
      if (random.integer(4) === 0) frames.push(this.#oddFrame(2 * i + random.integer(4)));
    }
    const all = Buffer.concat(frames);
    const broken = random.integer(3) === 0 ? this.#mutatedBytes(all, 1 + random.integer(3)) : all;
    return { bytes: Buffer.concat([clientPreface, broken]), requests };
  }

  #bases(): readonly (readonly [target: string, body: object])[] {
    const key = (action: string, id = 'key'): string => `/${names.prefix}/kms/xks/v1/keys/${id}/${action}`;
    const sealed = {
      ciphertext: 'AAAA',
      initializationVector: 'A'.repeat(16),
      authenticationTag: 'AAAAAAAAAAAAAAAAAAAAAA==',
    };
    return [
      [`/${names.prefix}/kms/xks/v1/health`, healthRequest],
      [key('metadata'), metadataRequest],
      [key('encrypt'), encryptRequest('fuzz', { additionalAuthenticatedData: 'YWFk' })],
      [key('encrypt'), encryptRequest('fuzz', { ciphertextDataIntegrityValueAlgorithm: 'SHA_256' })],
      [key('encrypt', 'decrypt-only'), encryptRequest('fuzz')],
      [key('decrypt'), decryptRequest({ ...sealed, ciphertextMetadata: 'AQAAAAE=' })],
      [key('decrypt', 'nobody'), decryptRequest(sealed)],
    ];
  }

  #plain(): [target: string, body: Buffer] {
    const [target, object] = this.#random.pick(this.#bases());
    return [target, Buffer.from(JSON.stringify(object))];
  }

  #signed(method: string, target: string, body: Buffer): FuzzRequest {
    const headers: [string, string][] = [
      ['host', this.#authority],
      ['content-type', 'application/json'],
    ];
    const signature = signRequest(
      { method, target, authority: this.#authority, headers, body },
      {
        nowMs: this.#nowMs,
        region: names.region,
        service: 'kms-xks-proxy',
        accessKeyId: names.accessKeyId,
        secretAccessKey: Buffer.from(names.secretAccessKey),
      },
    );
    return { method, target, headers: [...headers, ...signature], body };
  }

  #mutatedBody(object: object): Buffer {
    const random = this.#random;
    switch (random.integer(8)) {
      case 0:
        return this.#mutatedBytes(Buffer.from(JSON.stringify(object)), 1 + random.integer(3));
      case 1: {
        const depth = 1 + random.integer(20_000);
        return Buffer.from(`${random.pick(['[', '{"a":'])}`.repeat(depth));
      }
      case 2:
        return Buffer.from(
          random.pick(['', 'null', '[]', '1', '""', '{}', '\ufeff{}', '{} {}', '{"a":1,}', "{'a':1}"]),
        );
      case 3:
        return Buffer.from(`${JSON.stringify(object).slice(0, -1)},${JSON.stringify(object).slice(1)}`);
      default:
        return Buffer.from(JSON.stringify(this.#mutatedObject(object)));
    }
  }

  /** One field, perhaps a nested one, is gone, of another kind, or a slightly other text. */
  #mutatedObject(object: object): object {
    const random = this.#random;
    const entries = Object.entries(object);
    const [name, value] = random.pick(entries);
    let replaced: unknown;
    if (typeof value === 'object' && value !== null && random.integer(2) === 0)
      replaced = this.#mutatedObject(value);
    else if (typeof value === 'string' && random.integer(3) === 0) {
      const at = random.integer(value.length + 1);
      replaced =
        value.slice(0, at) +
        random.text(random.integer(4), random.pick([base64Alphabet, printable])) +
        value.slice(at + random.integer(3));
    } else if (random.integer(4) > 0) replaced = random.pick(awkwardValues);
    const others = entries.filter(([other]) => other !== name);
    return Object.fromEntries(replaced === undefined ? others : [...others, [name, replaced]]);
  }

  #mutatedTarget(target: string): string {
    const random = this.#random;
    if (random.integer(6) === 0) {
      return random.pick([
        '/',
        '/ping',
        '/healthz',
        '*',
        'https://a/kms/xks/v1/health',
        '/%2e',
        `/${'a'.repeat(4_000)}`,
      ]);
    }
    const at = random.integer(target.length);
    const inserted = random.pick([
      '/',
      '//',
      '..',
      '/../',
      '%2f',
      '%',
      '?',
      '?a=b',
      '#',
      ';',
      random.text(1 + random.integer(9), printable),
    ]);
    return `/${(target.slice(0, at) + inserted + target.slice(at + random.integer(4))).slice(1)}`;
  }

  #mutatedHeader([name, value]: readonly [string, string]): (readonly [string, string])[] {
    const random = this.#random;
    if (random.integer(3) > 0 || name === 'host') return [[name, value]];
    const at = random.integer(value.length + 1);
    const changed =
      value.slice(0, at) +
      random.text(random.integer(5), `${printable} \xe9\xff`) +
      value.slice(at + random.integer(9));
    return random.pick<(readonly [string, string])[]>([
      [],
      [[name, changed.trim()]],
      [
        [name, value],
        [name, changed.trim()],
      ],
      [
        [random.pick(headerNames), random.text(random.integer(20), printable)],
        [name, value],
      ],
      [[name, 'x'.repeat(random.integer(20_000))]],
      Array.from({ length: random.integer(130) }, () => [`x-${random.integer(1_000)}`, 'y'] as const),
    ]);
  }

  #mutatedBytes(bytes: Buffer, times: number): Buffer {
    const random = this.#random;
    let result = bytes;
    for (let i = 0; i < times; i += 1) {
      const at = random.integer(result.length + 1);
      const head = result.subarray(0, at);
      const skip = random.pick([0, 0, 1, 1 + random.integer(20)]);
      const inserted = random.pick([
        () => Buffer.from(random.pick(fragments), 'latin1'),
        () => Buffer.from(random.bytes(1 + random.integer(4))),
        () => Buffer.alloc(0),
        () => result.subarray(random.integer(result.length + 1), at),
      ])();
      result =
        random.integer(12) === 0
          ? Buffer.from(head)
          : Buffer.concat([head, inserted, result.subarray(at + skip)]);
    }
    return result;
  }

  #http2Frames(request: FuzzRequest, streamId: number): Buffer[] {
    const random = this.#random;
    const fields = http2Fields(request);
    if (random.integer(3) === 0) {
      const at = random.integer(fields.length + 1);
      fields.splice(
        at,
        random.integer(2),
        ...random.pick<(readonly [string, string])[]>([
          [],
          [['connection', 'keep-alive']],
          [['Upper', 'x']],
          [['', 'x']],
          [[':status', '200']],
          [[':path', '/again']],
          [['te', 'gzip']],
          [['transfer-encoding', 'chunked']],
          [['content-length', random.pick(['0', '1', '-1', '99999999', '65537', 'x'])]],
          [['x', '\r\n\0\xff']],
          [['host', 'another']],
          [['expect', random.pick(['100-continue', 'x'])]],
          [['cookie', 'x'.repeat(random.integer(70_000))]],
        ]),
      );
    }
    const block = literalHeaders(fields);
    const headers: Buffer[] = [];
    for (let at = 0; at < Math.max(block.length, 1); at += 16_000) {
      const last = at + 16_000 >= block.length ? 4 : 0;
      const piece = block.subarray(at, at + 16_000);
      headers.push(frame(at === 0 ? frameType.headers : frameType.continuation, last, streamId, piece));
    }
    const ends = random.integer(12) > 0 ? 1 : 0;
    const data: Buffer[] = [];
    for (let at = 0; at < Math.max(request.body.length, 1); at += 16_000) {
      const last = at + 16_000 >= request.body.length ? ends : 0;
      data.push(frame(frameType.data, last, streamId, request.body.subarray(at, at + 16_000)));
    }
    const reset =
      random.integer(10) === 0 ? [frame(frameType.rstStream, 0, streamId, Buffer.from([0, 0, 0, 8]))] : [];
    return [...headers, ...data, ...reset];
  }

  #oddFrame(streamId: number): Buffer {
    const random = this.#random;
    const payload = random.bytes(random.pick([0, 1, 4, 5, 6, 8, random.integer(200)]));
    return frame(
      random.integer(12),
      random.integer(256),
      random.pick([0, streamId, streamId + 100]),
      payload,
    );
  }
}

/** The pseudo headers that go with it, and its headers without `host`. */
function http2Fields({ method, target, headers }: FuzzRequest): (readonly [string, string])[] {
  const authority = headers.find(([name]) => name === 'host')?.[1] ?? '';
  return [
    [':method', method],
    [':scheme', 'https'],
    [':path', target],
    [':authority', authority],
    ...headers.filter(([name]) => name !== 'host'),
  ];
}

export function http1Bytes(
  { method, target, headers, body }: FuzzRequest,
  framing: 'length' | 'chunked',
): Buffer {
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  const head = (field: string): Buffer =>
    Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines}${field}\r\n\r\n`, 'latin1');
  if (framing === 'length') return Buffer.concat([head(`content-length: ${body.length}`), body]);
  const size = Buffer.from(`${body.length.toString(16)}\r\n`);
  const chunk = body.length === 0 ? [] : [size, body, Buffer.from('\r\n')];
  return Buffer.concat([head('transfer-encoding: chunked'), ...chunk, Buffer.from('0\r\n\r\n')]);
}
