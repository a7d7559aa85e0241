import { once } from 'node:events';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http2';
import t, { type Test } from 'tap';
import { clientPreface, frame, frameType, literalHeaders } from '../support/http2-frames.js';
import { openTls, untilClose, xksErrorFault } from '../support/raw-http.js';
import { type Echo, jsonAnswer, startServer, type TestServer, testLimits } from '../support/xks-server.js';

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

function session(t: Test, server: TestServer): ClientHttp2Session {
  const opened = connect(`https://localhost:${server.port}`, { ca: server.certificates.ca });
  opened.on('error', () => {});
  t.teardown(() => opened.destroy());
  return opened;
}

/** Resolves when the session has ended, by a farewell or by a reset of its connection: `once` would reject for that. */
function ended(client: ClientHttp2Session): Promise<void> {
  return new Promise((resolve) => client.once('close', () => resolve()));
}

async function answerOf(stream: ClientHttp2Stream): Promise<Answer> {
  let headers: IncomingHttpHeaders = {};
  const chunks: Buffer[] = [];
  stream.on('response', (received) => {
    headers = received;
  });
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  // The server leaves it to the client to end what it has answered early.
  stream.once('end', () => stream.close(constants.NGHTTP2_NO_ERROR));
  await once(stream, 'close');
  return { status: Number(headers[':status']), headers, body: Buffer.concat(chunks).toString() };
}

function ask(
  client: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
  body?: string | Buffer,
): Promise<Answer> {
  const stream = client.request(
    { ':method': 'POST', ':path': '/kms/xks/v1/health', ...headers },
    { endStream: body === undefined },
  );
  if (body !== undefined) stream.end(body);
  return answerOf(stream);
}

function closeOf(stream: ClientHttp2Stream): Promise<void> {
  stream.on('error', () => {});
  return new Promise((resolve) => stream.once('close', () => resolve()));
}

/** The code of the reset that ends a stream. */
async function resetOf(
  client: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
): Promise<number | undefined> {
  const stream = client.request({ ':method': 'POST', ':path': '/', ...headers });
  await closeOf(stream);
  return stream.rstCode;
}

const errorNameOf = (answer: Answer): unknown => JSON.parse(answer.body).errorName;

/** Busy machines let clients end their refused streams late. */
const patient = { limits: { lingerMs: 10_000 } };

t.test('X-T1: HTTP/2 requests reach the handler as HTTP/1.1 ones do', async (t) => {
  const server = await startServer(t);
  const client = session(t, server);
  const stream = client.request(
    { ':method': 'POST', ':path': '/a//b/../%41?q', 'x-two': ['1', '2'], cookie: ['a', 'b'] },
    { waitForTrailers: true },
  );
  stream.on('wantTrailers', () => stream.sendTrailers({ trailer: 't' }));
  stream.end('abcde');
  const answer = await answerOf(stream);
  t.equal(answer.status, 200);
  t.equal(answer.headers['content-type'], 'application/json');
  t.equal(answer.headers['content-length'], String(answer.body.length));
  t.ok(answer.headers['date']);
  t.notOk(answer.headers['server']);
  const seen: Echo = JSON.parse(answer.body);
  t.match(seen, { method: 'POST', target: '/a//b/../%41?q', body: 'abcde', httpVersion: '2' });
  t.equal(seen.authority, `localhost:${server.port}`);
  t.strictSame(
    seen.headers.filter(([name]) => name === 'x-two'),
    [
      ['x-two', '1'],
      ['x-two', '2'],
    ],
  );
  t.notOk(
    seen.headers.some(([name]) => name.startsWith(':')),
    'no pseudo header',
  );
  t.notOk(
    seen.headers.some(([name]) => name === 'trailer'),
    'no trailer',
  );
});

t.test('X-T6, X-X1: what HTTP/2 can answer is answered in JSON', async (t) => {
  const server = await startServer(t, patient);
  const client = session(t, server);
  const authority = `localhost:${server.port}`;
  const fields = Object.fromEntries(
    Array.from({ length: testLimits.headerFieldsMax + 1 }, (_, i) => [`x-${i}`, 'y']),
  );
  const cases: [string, OutgoingHttpHeaders, number][] = [
    ['a host other than the authority', { ':authority': authority, host: 'example.com' }, 400],
    ['headers over the byte limit', { x: 'x'.repeat(testLimits.headerBytesMax) }, 400],
    ['more header fields than allowed', fields, 400],
    ['an unknown expectation', { expect: 'the-unexpected' }, 400],
    ['a declared length over the limit', { 'content-length': testLimits.bodyBytesMax + 1 }, 501],
  ];
  for (const [name, headers, status] of cases) {
    const withBody = status === 501 ? Buffer.alloc(testLimits.bodyBytesMax + 1) : undefined;
    const answer = await ask(client, headers, withBody);
    t.equal(answer.status, status, name);
    t.equal(xksErrorFault(answer.status, answer.headers['content-type'], answer.body), null, name);
  }
  t.equal(server.requests.length, 0, 'none reached the handler');
  t.equal(server.refusals.length, cases.length);
  t.equal((await ask(client, { host: authority.toUpperCase() })).status, 200, 'a host that says the same');
  t.equal((await ask(client, {})).status, 200, 'the connection is still good');
});

t.test('X-T6: what RFC 9113 calls malformed is reset, and the connection goes on', async (t) => {
  const server = await startServer(t);
  const client = session(t, server);
  t.equal(await resetOf(client, { ':path': '' }), constants.NGHTTP2_PROTOCOL_ERROR);
  t.equal(await resetOf(client, { ':path': 'no-slash' }), constants.NGHTTP2_PROTOCOL_ERROR);
  t.equal(await resetOf(client, { ':authority': 'a/b' }), constants.NGHTTP2_PROTOCOL_ERROR);
  t.equal(await resetOf(client, { x: 'x'.repeat(64 * 1024 - 200) }), constants.NGHTTP2_ENHANCE_YOUR_CALM);
  t.equal((await ask(client, {})).status, 200);
  t.equal(server.requests.length, 1);
});

t.test('X-T4: CONNECT gets 405 with Allow: POST', async (t) => {
  const server = await startServer(t);
  const client = session(t, server);
  const stream = client.request({ ':method': 'CONNECT', ':authority': 'example.com:443' });
  const answer = await answerOf(stream);
  t.equal(answer.status, 405);
  t.equal(answer.headers['allow'], 'POST');
  t.equal(errorNameOf(answer), 'UnsupportedOperationException');
});

t.test('X-T6: 64 KiB are taken, a byte more gets 501, and the connection goes on', async (t) => {
  const server = await startServer(t, patient);
  const client = session(t, server);
  const most = await ask(client, {}, Buffer.alloc(testLimits.bodyBytesMax, 'x'));
  t.equal(JSON.parse(most.body).bodyBytes, testLimits.bodyBytesMax);
  for (const bytes of [testLimits.bodyBytesMax + 1, 1_500_000]) {
    const answer = await ask(client, {}, Buffer.alloc(bytes));
    t.equal(answer.status, 501);
    t.equal(errorNameOf(answer), 'UnsupportedOperationException');
  }
  const stream = client.request({ ':method': 'POST', ':path': '/' });
  stream.on('error', () => {});
  const answer = answerOf(stream);
  const flood = (): void => {
    while (stream.writable && stream.write(Buffer.alloc(64 * 1024))) {
      // Until the stream's buffer is full.
    }
  };
  stream.on('drain', flood);
  flood();
  t.equal((await answer).status, 501, 'a body without end');
  t.equal((await ask(client, {}, 'ok')).status, 200);
});

t.test('X-T6: many bodies over the limit at once are all answered', async (t) => {
  const server = await startServer(t, patient);
  const clients = Array.from({ length: 4 }, () => session(t, server));
  for (let round = 0; round < 10; round += 1) {
    const answers = await Promise.all(
      clients.flatMap((client) => [
        ...Array.from({ length: 5 }, () => ask(client, {}, Buffer.alloc(70_000))),
        ...Array.from({ length: 5 }, () => ask(client, { 'content-length': 70_000 }, Buffer.alloc(70_000))),
        ask(client, {}, 'ok'),
      ]),
    );
    t.strictSame(new Set(answers.map(({ status }) => status)), new Set([501, 200]));
  }
});

t.test('a body that does not come in time gets 400, and the connection goes on', async (t) => {
  const server = await startServer(t, { limits: { bodyTimeoutMs: 500 } });
  const client = session(t, server);
  const stream = client.request({ ':method': 'POST', ':path': '/' });
  stream.write('half');
  const answer = await answerOf(stream);
  t.equal(answer.status, 400);
  t.equal(errorNameOf(answer), 'ValidationException');
  t.equal((await ask(client, {}, 'ok')).status, 200);
});

t.test('a body in single bytes ends its connection, before and after it was refused', async (t) => {
  const server = await startServer(t);
  const settings = frame(frameType.settings, 0, 0, Buffer.alloc(0));
  const post = (...more: readonly [string, string][]): Buffer =>
    literalHeaders([[':method', 'POST'], [':scheme', 'https'], [':path', '/'], [':authority', 'a'], ...more]);
  const tooLarge: [string, string] = ['content-length', String(testLimits.bodyBytesMax + 1)];
  for (const [head, pieces] of [
    [post(), testLimits.bodyPiecesMax + 1],
    [post(tooLarge), testLimits.discardPiecesMax + 1],
  ] as const) {
    const socket = await openTls(server, { ALPNProtocols: ['h2'] });
    const closed = untilClose(socket);
    const data = Array.from({ length: pieces }, () => frame(frameType.data, 0, 1, Buffer.from('x')));
    socket.write(Buffer.concat([clientPreface, settings, frame(frameType.headers, 4, 1, head), ...data]));
    await closed;
    t.match(server.refusals.at(-1), { status: 0, reason: 'A body came in too many pieces.' });
  }
  t.equal(server.refusals.length, 3, 'the second had its 501 before');
});

t.test('HEAD gets no body; Expect: 100-continue gets its 100', async (t) => {
  const server = await startServer(t);
  const client = session(t, server);
  const head = await ask(client, { ':method': 'HEAD' });
  t.equal(head.status, 200);
  t.equal(head.body, '');
  t.ok(Number(head.headers['content-length']) > 0);
  const refused = await ask(client, { ':method': 'HEAD', expect: 'the-unexpected' });
  t.equal(refused.status, 400);
  t.equal(refused.body, '');
  const stream = client.request({ ':method': 'POST', ':path': '/', expect: '100-continue' });
  const answer = answerOf(stream);
  await once(stream, 'continue');
  stream.end('ab');
  t.equal(JSON.parse((await answer).body).bodyBytes, 2);
});

t.test(
  'streams at a time are bounded, and those that were reset still count while they are worked on',
  async (t) => {
    const release: (() => void)[] = [];
    const server = await startServer(t, {
      limits: { exchangesPerConnectionMax: 2 },
      handler: async () => {
        await new Promise<void>((resolve) => release.push(resolve));
        return jsonAnswer({});
      },
    });
    const client = session(t, server);
    await once(client, 'remoteSettings');
    t.equal(client.remoteSettings.maxConcurrentStreams, 2);
    for (let i = 1; i <= 4; i += 1) {
      const stream = client.request({ ':method': 'POST', ':path': '/' }, { endStream: true });
      while (server.requests.length < i) await new Promise((resolve) => setImmediate(resolve));
      stream.close(constants.NGHTTP2_CANCEL);
      await closeOf(stream);
    }
    const refused = await ask(client, {});
    t.equal(refused.status, 429);
    t.equal(errorNameOf(refused), 'ThrottlingException');
    for (const go of release) go();
    const after = ask(client, {});
    while (release.length < 5) await new Promise((resolve) => setImmediate(resolve));
    for (const go of release) go();
    t.equal((await after).status, 200);
  },
);

t.test('raw frames: floods and nonsense end the connection, not the server', async (t) => {
  // After its own GOAWAY for a broken protocol, Node waits for the peer to close; our idle limits don't.
  const server = await startServer(t, { limits: { headersTimeoutMs: 500, keepAliveMs: 500 } });
  const settings = frame(frameType.settings, 0, 0, Buffer.alloc(0));
  const post = literalHeaders([
    [':method', 'POST'],
    [':scheme', 'https'],
    [':path', '/'],
    [':authority', 'a'],
  ]);
  const idPairs = (from: number, count: number): number[] =>
    Array.from({ length: count }, (_, i) => from + 2 * i);
  const cases: Record<string, Buffer[]> = {
    'no preface': [Buffer.from('POST / HTTP/1.1\r\nHost: a\r\n\r\n')],
    'a frame longer than allowed': [
      clientPreface,
      settings,
      frame(frameType.data, 0, 1, Buffer.alloc(20_000)),
    ],
    'data for a stream that never was': [
      clientPreface,
      settings,
      frame(frameType.data, 0, 5, Buffer.alloc(3)),
    ],
    'an even stream': [clientPreface, settings, frame(frameType.headers, 5, 2, post)],
    'headers that do not decode': [
      clientPreface,
      settings,
      frame(frameType.headers, 5, 1, Buffer.alloc(9, 0xff)),
    ],
    'a continuation of nothing': [clientPreface, settings, frame(frameType.continuation, 4, 1, post)],
    'a settings frame of a bad length': [clientPreface, frame(frameType.settings, 0, 0, Buffer.alloc(5))],
    'a window update of zero': [
      clientPreface,
      settings,
      frame(frameType.windowUpdate, 0, 0, Buffer.alloc(4)),
    ],
    'a push promise': [clientPreface, settings, frame(frameType.pushPromise, 4, 1, Buffer.alloc(8))],
    'continuations without end': [
      clientPreface,
      settings,
      frame(frameType.headers, 0, 1, post),
      ...Array.from({ length: 100 }, () =>
        frame(frameType.continuation, 0, 1, Buffer.from([0x00, 1, 120, 1, 120])),
      ),
    ],
    'rapid resets': [
      clientPreface,
      settings,
      ...idPairs(1, 5_000).flatMap((id) => [
        frame(frameType.headers, 4, id, post),
        frame(frameType.rstStream, 0, id, Buffer.from([0, 0, 0, 8])),
      ]),
    ],
  };
  for (const [name, frames] of Object.entries(cases)) {
    const socket = await openTls(server, { ALPNProtocols: ['h2'] });
    const closed = untilClose(socket);
    socket.write(Buffer.concat(frames));
    await closed;
    t.pass(`${name}: closed`);
  }
  t.equal((await ask(session(t, server), {})).status, 200, 'the server goes on');
});

t.test('a connection that asks nothing is closed, PINGs or not; an idle one later', async (t) => {
  const server = await startServer(t, { limits: { headersTimeoutMs: 1_000, keepAliveMs: 1_500 } });
  const silent = await openTls(server, { ALPNProtocols: ['h2'] });
  await untilClose(silent);
  const pinging = session(t, server);
  const ping = (): void => {
    if (!pinging.closed && !pinging.destroyed) pinging.ping(() => setImmediate(ping));
  };
  pinging.once('connect', ping);
  await ended(pinging);
  const idle = session(t, server);
  t.equal((await ask(idle, {})).status, 200);
  await ended(idle);
  t.equal(server.requests.length, 1);
});

t.test('an old connection is not left while another request is in flight, if it need not be', async (t) => {
  const release: (() => void)[] = [];
  const server = await startServer(t, {
    limits: { connectionAgeMaxMs: 0 },
    handler: async ({ target }) => {
      if (target === '/slow') await new Promise<void>((resolve) => release.push(resolve));
      return jsonAnswer({});
    },
  });
  const client = session(t, server);
  let left = false;
  client.once('goaway', () => {
    left = true;
  });
  const slow = ask(client, { ':path': '/slow' });
  while (release.length === 0) await new Promise((resolve) => setImmediate(resolve));
  t.equal((await ask(client, {})).status, 200);
  await new Promise<void>((resolve) => client.ping(() => resolve()));
  t.equal(left, false);
  t.equal((await ask(client, {})).status, 200);
  const closed = ended(client);
  for (const go of release) go();
  t.equal((await slow).status, 200);
  await closed;
  t.equal(left, true);
});

t.test('a session that ended by an error is noticed after its client has gone', async (t) => {
  const server = await startServer(t, { limits: { headersTimeoutMs: 500 } });
  const settings = frame(frameType.settings, 0, 0, Buffer.alloc(0));
  const request = literalHeaders([
    [':method', 'POST'],
    [':scheme', 'https'],
    [':path', '/'],
    [':authority', 'a'],
  ]);
  const undecodable = frame(frameType.headers, 5, 3, Buffer.alloc(9, 0xff));
  const socket = await openTls(server, { ALPNProtocols: ['h2'] });
  socket.write(Buffer.concat([clientPreface, settings, frame(frameType.headers, 5, 1, request)]));
  while (server.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
  socket.write(undecodable);
  const goaway = once(socket, 'data');
  await goaway;
  socket.destroy();
  while (server.server.connections() > 0) await new Promise((resolve) => setImmediate(resolve));
  t.equal(server.requests.length, 1);
});

t.test('an idle session is asked whether it lives, and kept', async (t) => {
  const server = await startServer(t, { limits: { headersTimeoutMs: 200 } });
  const client = session(t, server);
  t.equal((await ask(client, {})).status, 200);
  for (let i = 0; i < 3; i += 1) await once(client, 'ping');
  t.equal((await ask(client, {})).status, 200);
});

t.test('a peer that does not read its answer is cut off', async (t) => {
  const server = await startServer(t, { limits: { answerTimeoutMs: 50 } });
  const socket = await openTls(server, { ALPNProtocols: ['h2'] });
  const closed = untilClose(socket);
  // SETTINGS_INITIAL_WINDOW_SIZE = 0: not a byte of an answer may be sent.
  const noWindow = frame(frameType.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0]));
  const post = literalHeaders([
    [':method', 'POST'],
    [':scheme', 'https'],
    [':path', '/'],
    [':authority', 'a'],
  ]);
  socket.write(Buffer.concat([clientPreface, noWindow, frame(frameType.headers, 5, 1, post)]));
  await closed;
  t.equal(server.requests.length, 1);
});

t.test('a stream that is refused and never ends does not cost the others on its connection', async (t) => {
  const release: (() => void)[] = [];
  const server = await startServer(t, {
    limits: { answerTimeoutMs: 2_000 },
    handler: async ({ target }) => {
      if (target === '/slow') await new Promise<void>((resolve) => release.push(resolve));
      return jsonAnswer({});
    },
  });
  /** Declares a body that is too large, reads the refusal and does nothing more. */
  const stick = async (client: ClientHttp2Session): Promise<ClientHttp2Stream> => {
    const headers = { ':method': 'POST', ':path': '/', 'content-length': testLimits.bodyBytesMax + 1 };
    const stream = client.request(headers).resume();
    stream.on('error', () => {});
    const [answer] = await once(stream, 'response');
    t.equal(answer[':status'], 501);
    return stream;
  };
  const shared = session(t, server);
  const sharedEnded = ended(shared);
  const goaway = once(shared, 'goaway');
  const slow = [ask(shared, { ':path': '/slow' }), ask(shared, { ':path': '/slow' })];
  while (release.length < 2) await new Promise((resolve) => setImmediate(resolve));
  const cancelled = await stick(shared);
  await stick(shared);
  t.equal((await ask(shared, {})).status, 200, 'at first all goes on');
  t.equal((await goaway)[0], constants.NGHTTP2_NO_ERROR, 'then the client is asked to go elsewhere');
  const alone = session(t, server);
  const aloneEnded = ended(alone);
  await stick(alone);
  // Its time began after that of the shared connection's.
  await aloneEnded;
  t.notOk(shared.destroyed);
  cancelled.close(constants.NGHTTP2_CANCEL);
  await closeOf(cancelled);
  release[0]?.();
  t.equal((await slow[0])?.status, 200, 'what is in flight is finished');
  t.notOk(shared.destroyed);
  release[1]?.();
  t.equal((await slow[1])?.status, 200);
  await sharedEnded;
});

t.test('a client that leaves a refused stream as it is is asked to go elsewhere', async (t) => {
  const server = await startServer(t, { limits: { answerTimeoutMs: 600_000 } });
  const client = session(t, server);
  const goaway = once(client, 'goaway');
  const stream = client.request({ ':method': 'POST', ':path': '/', expect: 'the-unexpected' }).resume();
  const [answer] = await once(stream, 'response');
  t.equal(answer[':status'], 400);
  t.equal((await goaway)[0], constants.NGHTTP2_NO_ERROR);
});

t.test('an old connection is left with GOAWAY after an answer, and nothing in flight is lost', async (t) => {
  const server = await startServer(t, { limits: { connectionAgeMaxMs: 0 } });
  const client = session(t, server);
  const goaway = once(client, 'goaway');
  const answers = await Promise.all([ask(client, {}), ask(client, {}), ask(client, {})]);
  t.strictSame(
    answers.map(({ status }) => status),
    [200, 200, 200],
  );
  const [code] = await goaway;
  t.equal(code, constants.NGHTTP2_NO_ERROR);
  await ended(client);
});
