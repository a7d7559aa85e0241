import { once } from 'node:events';
import t from 'tap';
import {
  openTls,
  parseAnswers,
  type RawAnswer,
  sendRaw,
  untilClose,
  xksErrorFault,
} from '../support/raw-http.js';
import { type Echo, jsonAnswer, startServer, testLimits } from '../support/xks-server.js';

const errorNameOf = (answer: RawAnswer | undefined): unknown => JSON.parse(answer?.body ?? '{}').errorName;
const echoOf = (answer: RawAnswer | undefined): Echo => JSON.parse(answer?.body ?? '{}');

const post = (lines: string, body = ''): string =>
  `POST /kms/xks/v1/health HTTP/1.1\r\nHost: a\r\n${lines}\r\n${body}`;

t.test(
  'X-T6, X-X1: what HTTP/1 cannot parse, or no two parsers agree on, gets 400 in JSON and a close',
  async (t) => {
    const server = await startServer(t);
    const cases: Record<string, string> = {
      garbage: '\x00\x01\x02\x03 nothing of HTTP\r\n\r\n',
      'a TLS hello inside TLS': '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
      'the HTTP/2 preface without ALPN': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      'HTTP/0.9': 'GET /\r\n\r\n',
      'HTTP/2.0 in a request line': 'GET / HTTP/2.0\r\nHost: a\r\n\r\n',
      'HTTP/1.2': 'GET / HTTP/1.2\r\nHost: a\r\n\r\n',
      'no host on 1.1': 'POST / HTTP/1.1\r\n\r\n',
      'two hosts': 'POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n',
      'the same host twice': 'POST / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n',
      'an empty host': 'POST / HTTP/1.1\r\nHost:\r\n\r\n',
      'a host with user information': 'POST / HTTP/1.1\r\nHost: u@a\r\n\r\n',
      'a host with a path': 'POST / HTTP/1.1\r\nHost: a/b\r\n\r\n',
      'an obsolete fold': post('X: a\r\n b\r\n'),
      'a fold in the first header': 'POST / HTTP/1.1\r\n Host: a\r\n\r\n',
      'a space before the colon': 'POST / HTTP/1.1\r\nHost : a\r\n\r\n',
      'a header without a name': post(': x\r\n'),
      'a header without a colon': post('abc\r\n'),
      'NUL in a header': post('X: a\0b\r\n'),
      'bare CR in a header': post('X: a\rb\r\n'),
      'bare LF line ends': 'POST / HTTP/1.1\nHost: a\n\n',
      'two content lengths': post('Content-Length: 1\r\nContent-Length: 2\r\n', 'ab'),
      'the same content length twice': post('Content-Length: 1\r\nContent-Length: 1\r\n', 'a'),
      'a list of content lengths': post('Content-Length: 1, 1\r\n', 'a'),
      'a signed content length': post('Content-Length: +1\r\n', 'a'),
      'a content length beyond 64 bits': post('Content-Length: 99999999999999999999\r\n', 'a'),
      'content length and chunked': post('Content-Length: 3\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'),
      'chunked and content length': post('Transfer-Encoding: chunked\r\nContent-Length: 3\r\n', '0\r\n\r\n'),
      'chunked twice': post('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'),
      'chunked not last': post('Transfer-Encoding: chunked, identity\r\n', '0\r\n\r\n'),
      'chunked on 1.0': 'POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      'a chunk size that is none': post('Transfer-Encoding: chunked\r\n', 'xyz\r\nabc\r\n0\r\n\r\n'),
      'a chunk size beyond 64 bits': post('Transfer-Encoding: chunked\r\n', 'fffffffffffffffff\r\nabc'),
      'a chunk longer than said': post('Transfer-Encoding: chunked\r\n', '1\r\nabc\r\n0\r\n\r\n'),
      'a byte above 0x7f in the target': 'POST /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n',
      'a target with a space': 'POST / a HTTP/1.1\r\nHost: a\r\n\r\n',
      'an unknown expectation': post('Expect: the-unexpected\r\n'),
      'headers over the byte limit': post(`X: ${'x'.repeat(testLimits.headerBytesMax)}\r\n`),
      'a target over the byte limit': `POST /${'x'.repeat(testLimits.headerBytesMax)} HTTP/1.1\r\nHost: a\r\n\r\n`,
      'more header fields than allowed': post('x:y\r\n'.repeat(testLimits.headerFieldsMax)),
    };
    for (const [name, bytes] of Object.entries(cases)) {
      const before = server.refusals.length;
      const answers = await sendRaw(server, bytes);
      t.equal(answers.length, 1, `${name}: one answer`);
      const [answer] = answers;
      t.equal(answer?.status, 400, `${name}: 400`);
      t.equal(errorNameOf(answer), 'ValidationException', name);
      t.equal(xksErrorFault(400, answer?.headers['content-type'], answer?.body ?? ''), null, name);
      t.equal(answer?.headers['connection'], 'close', `${name}: says that it closes`);
      t.equal(server.refusals.length, before + 1, `${name}: counted once`);
    }
    t.equal(server.requests.length, 0, 'none reached the handler');
  },
);

t.test(
  'X-T6: a broken request after good ones is refused in its turn, and the good ones are answered',
  async (t) => {
    const server = await startServer(t);
    const answers = await sendRaw(server, post('Content-Length: 2\r\n', 'ab'), `${post('')}nonsense\r\n\r\n`);
    t.strictSame(
      answers.map(({ status }) => status),
      [200, 200, 400],
    );
    const inOnePacket = await sendRaw(server, `${post('Content-Length: 2\r\n', 'ab')}nonsense\r\n\r\n`);
    t.strictSame(
      inOnePacket.map(({ status }) => status),
      [200, 400],
    );
  },
);

t.test('X-T6: an unknown transfer coding gets 501', async (t) => {
  const server = await startServer(t);
  for (const coding of ['gzip, chunked', 'gzip']) {
    const answers = await sendRaw(server, post(`Transfer-Encoding: ${coding}\r\n`, '0\r\n\r\n'));
    t.equal(answers[0]?.status, 501);
    t.equal(errorNameOf(answers[0]), 'UnsupportedOperationException');
  }
});

t.test(
  'X-T6: 64 KiB are taken, a byte more gets 501, declared or chunked, and the answer can be read',
  async (t) => {
    const server = await startServer(t);
    const max = testLimits.bodyBytesMax;
    const close = 'Connection: close\r\n';
    const chunked = (bytes: number): string =>
      post(
        `${close}Transfer-Encoding: chunked\r\n`,
        `${bytes.toString(16)}\r\n${'x'.repeat(bytes)}\r\n0\r\n\r\n`,
      );
    const declared = (bytes: number): string =>
      post(`${close}Content-Length: ${bytes}\r\n`, 'x'.repeat(bytes));
    for (const request of [declared(max), chunked(max)]) {
      const [answer] = await sendRaw(server, request);
      t.equal(answer?.status, 200);
      t.equal(echoOf(answer).bodyBytes, max);
    }
    const reached = server.requests.length;
    for (const request of [declared(max + 1), chunked(max + 1), declared(1_500_000), chunked(1_500_000)]) {
      const [answer] = await sendRaw(server, request);
      t.equal(answer?.status, 501);
      t.equal(errorNameOf(answer), 'UnsupportedOperationException');
      t.equal(answer?.headers['connection'], 'close');
    }
    t.equal(server.requests.length, reached, 'nothing too large reached the handler');
  },
);

t.test(
  'X-T6: a client that sends a whole over-long body before it reads still gets the answer',
  async (t) => {
    const server = await startServer(t);
    const socket = await openTls(server);
    socket.on('error', () => {});
    socket.pause();
    await new Promise<void>((resolve) => {
      socket.write(post('Content-Length: 1500000\r\n', 'x'.repeat(1_500_000)), () => resolve());
    });
    const received = untilClose(socket);
    socket.resume();
    t.equal(parseAnswers(await received)[0]?.status, 501);
  },
);

t.test('X-T6: more than can be discarded is cut off', async (t) => {
  const server = await startServer(t, { limits: { discardBytesMax: 128 * 1024 } });
  const socket = await openTls(server);
  const closed = untilClose(socket);
  socket.write(post('Content-Length: 100000000\r\n'));
  const flood = (): void => {
    while (socket.writable && socket.write(Buffer.alloc(64 * 1024))) {
      // Until the socket's buffer is full.
    }
  };
  socket.on('drain', flood);
  flood();
  await closed;
  t.equal(server.refusals[0]?.status, 501);
});

t.test(
  'Expect: 100-continue is answered with 100 for a body that will be taken, and with 501 for one too large',
  async (t) => {
    const server = await startServer(t);
    const socket = await openTls(server);
    const received = untilClose(socket);
    socket.write(post('Expect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n'));
    const [first] = (await once(socket, 'data')) as [Buffer];
    t.match(first.toString(), /^HTTP\/1\.1 100 Continue\r\n\r\n$/);
    socket.write('ab');
    const answers = parseAnswers(await received);
    t.strictSame(
      answers.map(({ status }) => status),
      [100, 200],
    );
    const [refused] = await sendRaw(server, post('Expect: 100-continue\r\nContent-Length: 65537\r\n'));
    t.equal(refused?.status, 501);
  },
);

t.test('X-T4: CONNECT and methods that nobody knows get 405 with Allow: POST', async (t) => {
  const server = await startServer(t);
  for (const request of [
    'CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n',
    'BREW /kms/xks/v1/health HTTP/1.1\r\nHost: a\r\n\r\n',
    'post /kms/xks/v1/health HTTP/1.1\r\nHost: a\r\n\r\n',
    'GETT /kms/xks/v1/health HTTP/1.1\r\nHost: a\r\n\r\n',
  ]) {
    const [answer] = await sendRaw(server, request);
    t.equal(answer?.status, 405, request);
    t.equal(answer?.headers['allow'], 'POST');
    t.equal(errorNameOf(answer), 'UnsupportedOperationException');
  }
});

t.test('what the handler sees: raw target, headers in order with duplicates, authority, body', async (t) => {
  const server = await startServer(t);
  const [answer] = await sendRaw(
    server,
    'POST /a//b/../%41?q HTTP/1.1\r\nX-Two: 1\r\nHost: ExAmple:8443\r\nx-two:  2 \r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n' +
      '3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n',
  );
  t.strictSame(echoOf(answer), {
    method: 'POST',
    target: '/a//b/../%41?q',
    authority: 'ExAmple:8443',
    headers: [
      ['x-two', '1'],
      ['host', 'ExAmple:8443'],
      ['x-two', '2'],
      ['connection', 'close'],
      ['transfer-encoding', 'chunked'],
    ],
    bodyBytes: 5,
    body: 'abcde',
    httpVersion: '1.1',
  });
  for (const [target, line] of [
    ['*', 'OPTIONS * HTTP/1.1'],
    ['https://a/kms', 'GET https://a/kms HTTP/1.1'],
  ]) {
    const [other] = await sendRaw(server, `${line}\r\nHost: a\r\nConnection: close\r\n\r\n`);
    t.equal(echoOf(other).target, target);
  }
});

t.test('an upgrade is not taken up: the request is answered as it is', async (t) => {
  const server = await startServer(t);
  const [answer] = await sendRaw(
    server,
    post(
      'Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n',
    ),
  );
  t.equal(answer?.status, 200);
});

t.test('HTTP/1.0 is answered and closed; HEAD gets no body', async (t) => {
  const server = await startServer(t);
  const [answer] = await sendRaw(server, 'POST /kms HTTP/1.0\r\nContent-Length: 2\r\n\r\nab');
  t.equal(echoOf(answer).httpVersion, '1.0');
  t.equal(echoOf(answer).authority, null);
  const socket = await openTls(server);
  const received = untilClose(socket);
  socket.write('HEAD /kms HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  const [head] = parseAnswers(await received, true);
  t.equal(head?.status, 200);
  t.ok(Number(head?.headers['content-length']) > 0);
});

t.test('every answer says its type, length and date, and nothing about the server', async (t) => {
  const server = await startServer(t);
  for (const request of [post('Connection: close\r\n'), 'garbage\r\n\r\n']) {
    const [answer] = await sendRaw(server, request);
    t.equal(answer?.headers['content-type'], 'application/json');
    t.match(answer?.headers['date'], /GMT$/);
    t.notOk(answer?.headers['server']);
    t.notOk(answer?.headers['x-powered-by']);
  }
});

t.test('a request split anywhere is the same request', async (t) => {
  const server = await startServer(t);
  const request = post('Content-Length: 5\r\nConnection: close\r\n', 'hello');
  for (let i = 1; i < request.length; i += 7) {
    const [answer] = await sendRaw(server, request.slice(0, i), request.slice(i));
    t.equal(echoOf(answer).body, 'hello');
  }
});

t.test(
  'a header section that does not come in time gets 400, a connection that never asked just a close',
  async (t) => {
    const server = await startServer(t, { limits: { headersTimeoutMs: 1_000 } });
    const [answer] = await sendRaw(server, 'POST / HTTP/1.1\r\nHos');
    t.equal(answer?.status, 400);
    t.equal(errorNameOf(answer), 'ValidationException');
    t.strictSame(await sendRaw(server), [], 'nothing asked, nothing answered');
  },
);

t.test('a body that does not come in time gets 400', async (t) => {
  const server = await startServer(t, { limits: { bodyTimeoutMs: 50 } });
  const [answer] = await sendRaw(server, post('Content-Length: 5\r\n', 'hel'));
  t.equal(answer?.status, 400);
  t.equal(errorNameOf(answer), 'ValidationException');
  t.equal(server.requests.length, 0);
});

t.test('bodies of all connections together are bounded: 429 for the one that began first', async (t) => {
  const server = await startServer(t, { limits: { receivingBytesMax: 64 * 1024, bodyTimeoutMs: 60_000 } });
  const slow = await openTls(server);
  const slowReceived = untilClose(slow);
  slow.write(post('Content-Length: 10001\r\n', 'x'.repeat(10_000)));
  // The slow one can only give way once it is held.
  while (server.refusals.length === 0) {
    const [answer] = await sendRaw(
      server,
      post('Connection: close\r\nContent-Length: 60000\r\n', 'x'.repeat(60_000)),
    );
    t.equal(answer?.status, 200, 'whoever is quick is served');
  }
  const [refused] = parseAnswers(await slowReceived);
  t.equal(refused?.status, 429);
  t.equal(errorNameOf(refused), 'ThrottlingException');
  t.equal(server.refusals.length, 1);
});

t.test('a body in single bytes ends its connection, before and after it was refused', async (t) => {
  const server = await startServer(t);
  const pieces = '1\r\nx\r\n'.repeat(testLimits.discardPiecesMax + 10);
  const chunked = 'Transfer-Encoding: chunked\r\n';
  t.strictSame(await sendRaw(server, post(chunked, pieces)), [], 'cut off without an answer');
  t.match(server.refusals, [{ status: 0, reason: 'A body came in too many pieces.' }]);
  const tooLarge = `10001\r\n${'x'.repeat(0x10001)}\r\n`;
  const socket = await openTls(server);
  const received = untilClose(socket);
  socket.write(post(chunked, tooLarge));
  while (server.refusals.length < 2) await new Promise((resolve) => setImmediate(resolve));
  t.match(server.refusals[1], { status: 501 });
  socket.write(pieces);
  await received;
  t.match(server.refusals[2], { status: 0, reason: 'A body came in too many pieces.' });
  const few = '1\r\nx\r\n'.repeat(testLimits.bodyPiecesMax);
  const [answer] = await sendRaw(server, post(`Connection: close\r\n${chunked}`, `${few}0\r\n\r\n`));
  t.equal(echoOf(answer).body, 'x'.repeat(testLimits.bodyPiecesMax), 'as many as allowed are a body');
});

t.test(
  'a client that closes its side and still reads gets its answers, an unfinished request 400',
  async (t) => {
    const server = await startServer(t, {
      handler: async () => {
        await new Promise((resolve) => setImmediate(resolve));
        return jsonAnswer({});
      },
    });
    for (const [bytes, expected] of [
      [post('') + post(''), [200, 200]],
      [`${post('')}POST / HT`, [200, 400]],
      [post('Content-Length: 5\r\n', 'abc'), [400]],
      ['', []],
    ] as const) {
      const socket = await openTls(server);
      const received = untilClose(socket);
      socket.end(bytes);
      t.strictSame(
        parseAnswers(await received).map(({ status }) => status),
        expected,
      );
    }
  },
);

t.test('pipelined requests are answered in order, and bounded', async (t) => {
  const release: (() => void)[] = [];
  const server = await startServer(t, {
    limits: { exchangesPerConnectionMax: 3 },
    handler: async ({ target }) => {
      await new Promise<void>((resolve) => release.push(resolve));
      if (release.length === 3) for (const go of release.toReversed()) go();
      return jsonAnswer({ target });
    },
  });
  const requests = [1, 2, 3, 4, 5].map((i) => `POST /${i} HTTP/1.1\r\nHost: a\r\n\r\n`).join('');
  const socket = await openTls(server);
  const received = untilClose(socket);
  socket.write(requests);
  while (release.length < 3) await new Promise((resolve) => setImmediate(resolve));
  for (const go of release.toReversed()) go();
  const answers = parseAnswers(await received);
  t.strictSame(
    answers.map(({ status, body }) => [status, JSON.parse(body).target ?? JSON.parse(body).errorName]),
    [
      [200, '/1'],
      [200, '/2'],
      [200, '/3'],
      [429, 'ThrottlingException'],
    ],
  );
});

t.test('pipelined requests behind the last one that is answered are not collected', async (t) => {
  const server = await startServer(t, {
    limits: { exchangesPerConnectionMax: 3, answerTimeoutMs: 600_000 },
    handler: () => new Promise(() => {}),
  });
  const socket = await openTls(server);
  const received = untilClose(socket);
  // Three are answered one day, one is refused, three are passed over.
  socket.write(post('').repeat(8));
  t.equal((await received).byteLength, 0);
  t.equal(server.requests.length, 3);
});

t.test(
  'a client that leaves in the middle leaves nothing behind, and a late answer goes nowhere',
  async (t) => {
    const answer: (() => void)[] = [];
    const server = await startServer(t, {
      handler: async () => {
        await new Promise<void>((resolve) => answer.push(resolve));
        return jsonAnswer({});
      },
    });
    const halfway = await openTls(server);
    halfway.write(post('Content-Length: 10\r\n', 'abc'));
    const waiting = await openTls(server);
    waiting.write(post(''));
    while (answer.length < 1) await new Promise((resolve) => setImmediate(resolve));
    t.equal(server.server.connections(), 2);
    halfway.destroy();
    waiting.destroy();
    while (server.server.connections() > 0) await new Promise((resolve) => setImmediate(resolve));
    for (const go of answer) go();
    t.equal(server.requests.length, 1);
  },
);

t.test('a handler that breaks its promise costs one 500', async (t) => {
  const bug = (): never => {
    throw new Error('a bug');
  };
  for (const handler of [async () => bug(), bug]) {
    const server = await startServer(t, { handler });
    const [answer] = await sendRaw(server, post('Connection: close\r\n'));
    t.equal(answer?.status, 500);
    t.equal(errorNameOf(answer), 'InternalException');
    t.notMatch(answer?.body, /a bug/);
  }
});
