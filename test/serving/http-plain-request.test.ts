import { createServer, type IncomingMessage } from 'node:http';
import { Duplex } from 'node:stream';
import t from 'tap';
import { type PlainHead, readPlainHead } from '../../src/serving/http/plain-request.js';
import { isRefusal } from '../../src/serving/http/refusal.js';
import { type RequestHead, readHead1 } from '../../src/serving/http/request-head.js';
import { SeededRandom } from '../support/seeded-random.js';
import { testLimits } from '../support/xks-server.js';

const read = (text: string | Buffer): PlainHead | 'incomplete' | 'not-plain' =>
  readPlainHead(typeof text === 'string' ? Buffer.from(text, 'latin1') : text, testLimits);

const lines = [
  'POST /a/kms/xks/v1/keys/key-1/encrypt HTTP/1.1',
  'Host: xks.example.com:8443',
  'content-type: application/json',
  'X-Amz-Date: 20260115T120000Z',
  'X-Empty:',
  'x-spaces:   a  b  ',
  'Connection: Keep-Alive',
  'Content-Length: 7',
];
const body = '{"a":1}';
const request = `${lines.join('\r\n')}\r\n\r\n${body}`;
const headBytes = request.length - body.length;

t.test('a plain request is read: target, authority, fields in order, lower-case names', async (t) => {
  t.strictSame(read(request), {
    head: {
      method: 'POST',
      target: '/a/kms/xks/v1/keys/key-1/encrypt',
      authority: 'xks.example.com:8443',
      headers: [
        ['host', 'xks.example.com:8443'],
        ['content-type', 'application/json'],
        ['x-amz-date', '20260115T120000Z'],
        ['x-empty', ''],
        ['x-spaces', 'a  b'],
        ['connection', 'Keep-Alive'],
        ['content-length', '7'],
      ],
      httpVersion: '1.1',
    },
    headBytes,
    bodyBytes: 7,
  });
});

t.test('cut off anywhere in its head it is incomplete, in its body it is the same request', async (t) => {
  for (let end = 0; end < request.length; end += 1) {
    const outcome = read(request.slice(0, end));
    if (end < headBytes) t.equal(outcome, 'incomplete', `${end} bytes`);
    else t.strictSame(outcome, read(request), `${end} bytes`);
  }
});

t.test('RFC 9112: whatever is unusual is not plain', async (t) => {
  const withLine = (line: string): string => request.replace('X-Empty:', line);
  const cases: Record<string, string> = {
    'another method': request.replace('POST', 'PUT'),
    'a method in lower case': request.replace('POST', 'post'),
    'an empty line in front': `\r\n${request}`,
    'an absolute target': request.replace('POST /', 'POST https://a/'),
    'a query': request.replace('/encrypt', '/encrypt?a'),
    'a fragment': request.replace('/encrypt', '/encrypt#a'),
    'two spaces before the target': request.replace('POST ', 'POST  '),
    'a space in the target': request.replace('/encrypt', '/enc rypt'),
    'a byte above 0x7f in the target': request.replace('/encrypt', '/encr\xffypt'),
    'HTTP/1.0': request.replace('HTTP/1.1', 'HTTP/1.0'),
    'a space after the version': request.replace('HTTP/1.1', 'HTTP/1.1 '),
    'no host': request.replace('Host: xks.example.com:8443\r\n', ''),
    'two hosts': withLine('host: xks.example.com:8443'),
    'an empty host': request.replace('xks.example.com:8443', ''),
    'a host with user information': request.replace('xks.', 'me@xks.'),
    'no content length': request.replace('Content-Length: 7\r\n', ''),
    'two content lengths': withLine('content-length: 7'),
    'a signed content length': request.replace(': 7', ': +7'),
    'a negative content length': request.replace(': 7', ': -7'),
    'an empty content length': request.replace(': 7', ':'),
    'a hexadecimal content length': request.replace(': 7', ': 0x7'),
    'a list of content lengths': request.replace(': 7', ': 7, 7'),
    'a content length with a leading zero': request.replace(': 7', ': 07'),
    'a content length over the limit': request.replace(': 7', `: ${testLimits.bodyBytesMax + 1}`),
    'a content length of many digits': request.replace(': 7', ': 99999999999999999999'),
    'connection: close': request.replace('Keep-Alive', 'close'),
    'connection: keep-alive, x': request.replace('Keep-Alive', 'keep-alive, x'),
    'a fold': withLine('X-Fold: a\r\n b'),
    'a fold by a tab': withLine('X-Fold: a\r\n\tb'),
    'a space before the colon': withLine('X-Space : a'),
    'a field without a name': withLine(': a'),
    'a line without a colon': withLine('abc'),
    'a name that is no token': withLine('X(Y): a'),
    'a tab in a value': withLine('X-Tab: a\tb'),
    'a tab before a value': withLine('X-Tab:\ta'),
    'NUL in a value': withLine('X-Nul: a\0b'),
    'DEL in a value': withLine('X-Del: a\x7fb'),
    'a byte above 0x7f in a value': withLine('X-Text: \xe9'),
    'a bare CR in a value': withLine('X-Cr: a\rb'),
    'a bare LF in a value': withLine('X-Lf: a\nb'),
    'a bare LF at the end of a line': request.replace('Alive\r\n', 'Alive\n'),
    'more fields than allowed': withLine('x:y\r\n'.repeat(testLimits.headerFieldsMax).slice(0, -2)),
    'a head over the limit': withLine(`X: ${'x'.repeat(testLimits.headerBytesMax)}`),
  };
  for (const name of ['Transfer-Encoding', 'Expect', 'UPGRADE', 'trailer', 'TE', 'Proxy-Connection']) {
    cases[name] = withLine(`${name}: x`);
  }
  for (const [name, text] of Object.entries(cases)) {
    t.not(text, request, `${name}: it is another one`);
    t.equal(read(text), 'not-plain', name);
  }
  t.equal(read('POST /'.padEnd(testLimits.headerBytesMax, 'x')), 'not-plain', 'no end within the limit');
  const most = testLimits.headerFieldsMax - lines.length + 2;
  t.type(read(withLine('x:y\r\n'.repeat(most).slice(0, -2))), 'object', 'as many fields as allowed');
  t.type(read(request.replace(': 7', `: ${testLimits.bodyBytesMax}`)), 'object', 'the largest body');
});

interface NodesReading {
  readonly head: RequestHead;
  readonly bodyBytes: number;
}

/** What Node's HTTP server makes of `bytes`, set up as the ordinary path sets it up; a string says what was wrong. */
async function nodesReading(bytes: Buffer): Promise<NodesReading | string> {
  const server = createServer({ requireHostHeader: false, maxHeaderSize: testLimits.headerBytesMax });
  server.maxHeadersCount = 0;
  const connection = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() });
  const requests: NodesReading[] = [];
  return new Promise((resolve) => {
    const unusual = (what: string) => () => resolve(what);
    for (const event of ['checkContinue', 'checkExpectation', 'upgrade', 'connect', 'dropRequest'])
      server.on(event, unusual(event));
    server.on('clientError', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.on('request', (req: IncomingMessage) => {
      const head = readHead1(req.method ?? '', req.url ?? '', req.httpVersion, req.rawHeaders, testLimits);
      if (isRefusal(head)) return resolve(head.errorMessage);
      let bodyBytes = 0;
      req.on('data', (piece: Buffer) => {
        bodyBytes += piece.length;
      });
      req.once('end', () => requests.push({ head, bodyBytes }));
    });
    const settle = (): void => {
      const [first] = requests;
      resolve(first === undefined || requests.length > 1 ? `${requests.length} requests` : first);
    };
    // The end of the connection may be heard of before that of a body.
    connection.once('end', () => setImmediate(settle));
    server.emit('connection', connection);
    connection.push(bytes);
    connection.push(null);
  });
}

const pieces = [
  ...[
    '\r',
    '\n',
    '\r\n',
    '\r\n\r\n',
    ' ',
    '\t',
    ':',
    ': ',
    ',',
    ';',
    '/',
    '%',
    '?',
    '#',
    '*',
    '@',
    '"',
    '\\',
  ],
  ...['\0', '\x7f', '\x80', '\xff', '0', '7', '+', '-', 'x', 'K', '_', '[', ']', '{', '~', '^', '`', '|'],
  ...['Host: b\r\n', 'content-length: 7\r\n', 'CONTENT-LENGTH: 0\r\n', 'X-A: b\r\n', 'TE: trailers\r\n'],
  ...[
    'Transfer-Encoding: chunked\r\n',
    'Connection: close\r\n',
    'Connection: keep-alive\r\n',
    'Expect: x\r\n',
  ],
  ...[
    'Keep-Alive: 5\r\n',
    'Cookie: a=b\r\n',
    'Upgrade: h2c\r\n',
    'Trailer: a\r\n',
    'HTTP/1.1',
    'HTTP/1.0',
    'POST',
  ],
];

/** One to three small changes anywhere, most of them near something that means something. */
function mutated(random: SeededRandom): string {
  let text = request;
  for (let times = 1 + random.integer(3); times > 0; times -= 1) {
    const marks = [...text.matchAll(/[:\r\n /]/g)].map(({ index }) => index);
    const at = random.integer(4) === 0 ? random.integer(text.length) : random.pick(marks) + random.integer(2);
    const removed = random.pick([0, 0, 0, 1, 1, 2, random.integer(30)]);
    text =
      text.slice(0, at) + (random.integer(6) === 0 ? '' : random.pick(pieces)) + text.slice(at + removed);
  }
  return text;
}

/** A run is replayed with `XKSD_FUZZ_SEED`. */
const seed = Number(process.env['XKSD_FUZZ_SEED'] ?? 20_260_115);
const inputsCount = 20_000;

t.test(`what is plain Node's parser reads just the same (seed ${seed})`, async (t) => {
  const random = new SeededRandom(seed);
  const counts = { plain: 0, 'not-plain': 0, incomplete: 0 };
  for (let i = 0; i < inputsCount; i += 1) {
    const text = mutated(random);
    const plain = read(text);
    if (typeof plain === 'string') {
      counts[plain] += 1;
      continue;
    }
    counts.plain += 1;
    const end = plain.headBytes + plain.bodyBytes;
    const reading = await nodesReading(Buffer.from(text.slice(0, end).padEnd(end, 'x'), 'latin1'));
    const expected = { head: plain.head, bodyBytes: plain.bodyBytes };
    if (JSON.stringify(reading) !== JSON.stringify(expected)) {
      t.strictSame(reading, expected, JSON.stringify(text));
    }
  }
  t.ok(counts.plain > inputsCount / 10 && counts['not-plain'] > inputsCount / 10, JSON.stringify(counts));
});
