import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/logger.js';
import { loadNativeBinding } from '../../src/base/native.js';
import type { HttpHandler } from '../../src/serving/http/exchange.js';
import { createHealthServer } from '../../src/serving/http/health-server.js';
import { createXksServer } from '../../src/serving/http/server.js';
import { testCertificates } from '../support/certificates.js';
import {
  openTls,
  parseAnswers,
  type RawAnswer,
  sendRaw,
  untilClose,
  xksErrorFault,
} from '../support/raw-http.js';
import { echo, jsonAnswer, startServer, type TestServer, testLimits } from '../support/xks-server.js';

/** A plain request takes the express lane; without a length the same one is for Node's server. */
const lanes = { 'Node’s server': '', 'the express lane': 'Content-Length: 0\r\n' } as const;

const postBy = (lengthField: string, target = '/kms'): string =>
  `POST ${target} HTTP/1.1\r\nHost: a\r\n${lengthField}\r\n`;

const post = postBy('');

/** What curl prints for a request: status, HTTP version, body. */
function curl(
  server: TestServer,
  ...args: string[]
): Promise<{ status: string; version: string; body: string }> {
  return new Promise((resolve, reject) => {
    execFile(
      'curl',
      [
        '--silent',
        '--cacert',
        server.certificates.caFile,
        '--write-out',
        '\n%{http_code} %{http_version}',
        ...args,
      ],
      (error, stdout) => {
        if (error !== null) return reject(error);
        const end = stdout.lastIndexOf('\n');
        const [status = '', version = ''] = stdout.slice(end + 1).split(' ');
        resolve({ status, version, body: stdout.slice(0, end) });
      },
    );
  });
}

t.test(
  'X-T1, X-T6: curl over HTTP/1.1 and HTTP/2: an answer, a body too large, a health check',
  async (t) => {
    const server = await startServer(t);
    const url = `https://localhost:${server.port}`;
    const large = join(server.certificates.directory, 'large.bin');
    await writeFile(large, 'x'.repeat(1_500_000));
    for (const [option, version] of [
      ['--http1.0', '1.1'],
      ['--http1.1', '1.1'],
      ['--http2', '2'],
    ] as const) {
      const answer = await curl(server, option, '--data', 'abc', `${url}/kms`);
      t.strictSame([answer.status, answer.version], ['200', version]);
      t.equal(JSON.parse(answer.body).body, 'abc');
      const refused = await curl(server, option, '--data-binary', `@${large}`, `${url}/kms`);
      t.equal(refused.status, '501');
      t.equal(JSON.parse(refused.body).errorName, 'UnsupportedOperationException');
      t.equal((await curl(server, option, `${url}/ping`)).body, '{"status":"ready"}');
      t.equal((await curl(server, option, '--head', `${url}/`)).status, '200');
    }
  },
);

t.test('X-H4: load balancers hear ready or not on the XKS port, unsigned, and no more', async (t) => {
  let ready = true;
  const server = await startServer(t, { ready: () => ready });
  const ask = (method: string, path: string): Promise<RawAnswer[]> =>
    sendRaw(server, `${method} ${path} HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n\r\n`);
  for (const path of ['/', '/ping', '/healthz']) {
    ready = true;
    const [yes] = await ask('GET', path);
    t.strictSame([yes?.status, yes?.body], [200, '{"status":"ready"}']);
    ready = false;
    const [no] = await ask('GET', path);
    t.strictSame([no?.status, no?.body], [503, '{"status":"not ready"}']);
    t.equal(no?.headers['content-type'], 'application/json');
  }
  t.equal(server.requests.length, 0);
  await ask('POST', '/ping');
  await ask('GET', '/ping?x');
  t.strictSame(
    server.requests.map(({ method, target }) => [method, target]),
    [
      ['POST', '/ping'],
      ['GET', '/ping?x'],
    ],
    'anything else is the handler’s',
  );
});

async function plain(
  port: number,
  method: string,
  path: string,
): Promise<{ status: number; body: string; allow: unknown }> {
  const req = request({ port, host: '127.0.0.1', method, path, agent: false });
  req.end();
  const [res] = await once(req, 'response');
  const chunks: Buffer[] = [];
  for await (const chunk of res) chunks.push(chunk);
  return { status: res.statusCode, body: Buffer.concat(chunks).toString(), allow: res.headers.allow };
}

t.test('X-H4: the health listener says why not', async (t) => {
  let ready = true;
  const health = createHealthServer({
    on: { address: '127.0.0.1', port: 0 },
    readiness: () => ({ ready, reason: ready ? '' : 'no usable token' }),
  });
  const port = await health.listen();
  t.teardown(() => health.close());
  for (const path of ['/', '/ping', '/healthz']) {
    ready = true;
    t.match(await plain(port, 'GET', path), { status: 200, body: '{"status":"ready"}' });
    t.match(await plain(port, 'HEAD', path), { status: 200, body: '' });
    ready = false;
    t.match(await plain(port, 'GET', path), {
      status: 503,
      body: '{"status":"not ready","reason":"no usable token"}',
    });
  }
  const post = await plain(port, 'POST', '/ping');
  t.match(post, { status: 405, allow: 'GET, HEAD' });
  t.equal(xksErrorFault(405, 'application/json', post.body), null);
  const elsewhere = await plain(port, 'GET', '/metrics');
  t.equal(elsewhere.status, 404);
  t.equal(xksErrorFault(404, 'application/json', elsewhere.body), null);
  const socket = connectTcp(port, '127.0.0.1');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => {});
  socket.write('nonsense\r\n\r\n');
  await once(socket, 'close');
  const [answer] = parseAnswers(Buffer.concat(chunks));
  t.equal(xksErrorFault(answer?.status ?? 0, answer?.headers['content-type'], answer?.body ?? ''), null);
});

t.test('X-H4: the health listener cannot be filled with connections that ask nothing', async (t) => {
  const health = createHealthServer({
    on: { address: '127.0.0.1', port: 0 },
    readiness: () => ({ ready: true, reason: '' }),
  });
  const port = await health.listen();
  t.teardown(() => health.close());
  const open = async (): Promise<Socket> => {
    const socket = connectTcp(port, '127.0.0.1').on('error', () => {});
    await once(socket, 'connect');
    return socket.resume();
  };
  const first = await open();
  const asking = await open();
  for (let i = 2; i < 256; i += 1) await open();
  const asked = once(asking, 'data');
  asking.write('GET /ping HTTP/1.1\r\nHost: a\r\n\r\n');
  await asked;
  for (let i = 0; i < 3; i += 1) t.match(await plain(port, 'GET', '/ping'), { status: 200 });
  t.ok(first.destroyed, 'the longest silent one has made room, at once');
  for (let i = 0; i < 3; i += 1) await open();
  const again = once(asking, 'data');
  asking.write('GET /ping HTTP/1.1\r\nHost: a\r\n\r\n');
  const [answer] = await again;
  t.match(String(answer), /^HTTP\/1\.1 200/, 'one that asks is not the first to go');
});

t.test('X-H4: a connection to the health listener that asks nothing in time is closed', async (t) => {
  const health = createHealthServer({
    on: { address: '127.0.0.1', port: 0 },
    readiness: () => ({ ready: true, reason: '' }),
  });
  const port = await health.listen();
  t.teardown(() => health.close());
  const silent = connectTcp(port, '127.0.0.1').on('error', () => {});
  const slow = connectTcp(port, '127.0.0.1').on('error', () => {});
  slow.write('GET /ping HT');
  const kept = connectTcp(port, '127.0.0.1').on('error', () => {});
  kept.write('GET /ping HTTP/1.1\r\nHost: a\r\n\r\n');
  for (const socket of [silent, slow, kept]) socket.resume();
  await Promise.all([silent, slow, kept].map((socket) => once(socket, 'close')));
  t.pass('all were closed');
});

for (const [lane, lengthField] of Object.entries(lanes)) {
  const post = postBy(lengthField);
  t.test(
    `draining: not ready, still accepting, each answer the last on its connection, then closed, by ${lane}`,
    async (t) => {
      const release: (() => void)[] = [];
      const server = await startServer(t, {
        handler: async ({ target }) => {
          if (target === '/slow') await new Promise<void>((resolve) => release.push(resolve));
          return jsonAnswer({ target });
        },
      });
      const kept = await openTls(server);
      kept.write(post);
      await once(kept, 'data');
      const idle = await openTls(server);
      const idleClosed = untilClose(idle);
      const slow = await openTls(server);
      const slowReceived = untilClose(slow);
      slow.write(postBy(lengthField, '/slow'));
      while (release.length === 0) await new Promise((resolve) => setImmediate(resolve));

      const drained = server.server.drain(60_000);
      const [check] = await sendRaw(server, 'GET /ping HTTP/1.1\r\nHost: a\r\n\r\n');
      t.equal(check?.status, 503, 'load balancers send nobody here any more');
      const [fresh] = await sendRaw(server, post);
      t.strictSame(
        [fresh?.status, fresh?.headers['connection']],
        [200, 'close'],
        'a new connection is still served',
      );
      const keptReceived = untilClose(kept);
      kept.write(post);
      t.equal(parseAnswers(await keptReceived)[0]?.headers['connection'], 'close');
      const http2 = connectHttp2(`https://localhost:${server.port}`, { ca: server.certificates.ca });
      http2.on('error', () => {});
      const goaway = once(http2, 'goaway');
      const stream = http2.request({ ':method': 'POST', ':path': '/kms' });
      stream.end();
      const [headers] = await once(stream, 'response');
      t.equal(headers[':status'], 200);
      stream.resume();
      await goaway;

      const hurried = server.server.drain(0);
      t.equal((await idleClosed).byteLength, 0, 'an idle connection is closed');
      await t.rejects(openTls(server), { code: 'ECONNREFUSED' }, 'nothing is accepted any more');
      for (const go of release) go();
      t.equal(parseAnswers(await slowReceived)[0]?.status, 200, 'what was in flight is finished');
      await Promise.all([drained, hurried]);
      t.equal(server.server.connections(), 0);
    },
  );

  t.test(`draining: what does not finish is cut off, by ${lane}`, async (t) => {
    const server = await startServer(t, { limits: { finishMs: 50 }, handler: () => new Promise(() => {}) });
    const stuck = await openTls(server);
    const received = untilClose(stuck);
    stuck.write(post);
    while (server.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
    await server.server.drain(0);
    t.equal((await received).byteLength, 0);
  });
}

/** Answers as the pipeline does: `/authentic` stands for what has a good signature. */
const authenticating: HttpHandler = async (request) => ({
  ...jsonAnswer({}),
  ...(request.target === '/authentic' && { authenticated: true }),
});

/** Asks on a connection that is kept. */
async function askOn(socket: TLSSocket, target: string, lengthField = ''): Promise<RawAnswer | undefined> {
  socket.write(postBy(lengthField, target));
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  return parseAnswers(chunk)[0];
}

for (const [lane, lengthField] of Object.entries(lanes)) {
  t.test(
    `one connection more than allowed: the longest silent of those not authentic goes, by ${lane}`,
    async (t) => {
      const server = await startServer(t, { limits: { connectionsMax: 3 }, handler: authenticating });
      const authentic = await openTls(server);
      t.equal((await askOn(authentic, '/authentic', lengthField))?.status, 200);
      const active = await openTls(server);
      const idle = await openTls(server);
      const idleReceived = untilClose(idle);
      t.equal((await askOn(active, '/', lengthField))?.status, 200);
      const fourth = await openTls(server);
      t.equal((await idleReceived).byteLength, 0, 'the idle one is closed');
      t.match(server.refusals, [{ status: 0, reason: 'The connection limit is reached.' }]);
      t.equal((await askOn(fourth, '/', lengthField))?.status, 200);
      const activeReceived = untilClose(active);
      const fifth = await openTls(server);
      await activeReceived;
      t.equal(
        (await askOn(fifth, '/', lengthField))?.status,
        200,
        'then the one that asked, but was not authentic',
      );
      t.equal((await askOn(authentic, '/', lengthField))?.status, 200, 'the authentic one stays');
      for (const socket of [authentic, fourth, fifth]) socket.destroy();
      while (server.server.connections() > 0) await new Promise((resolve) => setImmediate(resolve));
    },
  );

  t.test(`a newcomer is turned away when all others are authentic, by ${lane}`, async (t) => {
    const server = await startServer(t, { limits: { connectionsMax: 2 }, handler: authenticating });
    const sockets = [await openTls(server), await openTls(server)];
    for (const socket of sockets) await askOn(socket, '/authentic', lengthField);
    await t.rejects(openTls(server));
    t.match(server.refusals, [{ status: 0, reason: 'The connection limit is reached.' }]);
    for (const socket of sockets) t.equal((await askOn(socket, '/', lengthField))?.status, 200);
    const [one, two] = sockets;
    one?.destroy();
    while (server.server.connections() > 1) await new Promise((resolve) => setImmediate(resolve));
    const third = await openTls(server);
    t.equal((await askOn(third, '/', lengthField))?.status, 200, 'there is room again');
    two?.destroy();
    third.destroy();
  });
}

for (const [lane, lengthField] of Object.entries(lanes)) {
  t.test(`leaving: nothing is accepted, each answer is the last on its connection, by ${lane}`, async (t) => {
    const server = await startServer(t, { handler: async () => jsonAnswer({}) });
    const busy = await openTls(server);
    const idle = await openTls(server);
    const checking = await openTls(server);
    for (const socket of [busy, idle, checking]) {
      socket.write(postBy(lengthField));
      await once(socket, 'data');
    }
    const left = server.server.leave(2_000);
    await t.rejects(openTls(server), { code: 'ECONNREFUSED' }, 'others accept');
    const checked = untilClose(checking);
    checking.write('GET /ping HTTP/1.1\r\nHost: a\r\n\r\n');
    t.equal(parseAnswers(await checked)[0]?.status, 200, 'load balancers hear nothing of it');
    const idleClosed = untilClose(idle).then(() => 'idle');
    const received = untilClose(busy);
    busy.write(postBy(lengthField));
    const answered = received.then((bytes) => {
      t.strictSame(
        parseAnswers(bytes).map(({ status, headers }) => [status, headers['connection']]),
        [[200, 'close']],
        'a request on a connection from before is answered',
      );
      return 'busy';
    });
    t.equal(await Promise.race([answered, idleClosed]), 'busy');
    await idleClosed;
    await left;
    t.equal(server.server.connections(), 0);
  });
}

t.test('leaving: a client whose handshake is not done is served, too', async (t) => {
  const server = await startServer(t, { handler: async () => jsonAnswer({}) });
  const tcp = connectTcp(server.port, '127.0.0.1');
  const busy = await openTls(server);
  const left = server.server.leave(30_000);
  const lastClosed = untilClose(busy);
  busy.write(post);
  await lastClosed;
  const late = connectTls({ socket: tcp, servername: 'localhost', ca: server.certificates.ca });
  await once(late, 'secureConnect');
  const received = untilClose(late);
  late.write(post);
  t.equal(parseAnswers(await received)[0]?.status, 200);
  await left;
});

t.test('a connection that has not begun its handshake does not keep the server from closing', async (t) => {
  const server = await startServer(t, { limits: { handshakeTimeoutMs: 60_000 } });
  const silent = connectTcp(server.port, '127.0.0.1');
  silent.on('error', () => {});
  const closed = once(silent, 'close');
  await openTls(server);
  await server.server.drain(0);
  await closed;
  t.pass('closed by the server');
});

t.test('handshakes that never begin keep nobody out', async (t) => {
  const server = await startServer(t, { limits: { connectionsMax: 2 } });
  const silent = await Promise.all(
    Array.from({ length: 5 }, async () => {
      const socket = connectTcp(server.port, '127.0.0.1').on('error', () => {});
      await once(socket, 'connect');
      return socket;
    }),
  );
  const honest = await openTls(server);
  t.equal((await askOn(honest, '/'))?.status, 200);
  for (const socket of [honest, ...silent]) socket.destroy();
});

for (const [lane, lengthField] of Object.entries(lanes)) {
  t.test(`a connection without an authentic request is not kept for long, by ${lane}`, async (t) => {
    const server = await startServer(t, {
      limits: { strangerKeepAliveMs: 200 },
      handler: authenticating,
    });
    const authentic = await openTls(server);
    const kept = await askOn(authentic, '/authentic', lengthField);
    t.equal(kept?.headers['keep-alive'], 'timeout=60');
    const http2 = connectHttp2(`https://localhost:${server.port}`, { ca: server.certificates.ca });
    http2.on('error', () => {});
    t.teardown(() => http2.destroy());
    const ask2 = async (client: ClientHttp2Session, path: string): Promise<unknown> => {
      const stream = client.request({ ':method': 'POST', ':path': path }, { endStream: true });
      const [headers] = await once(stream.resume(), 'response');
      return headers[':status'];
    };
    t.equal(await ask2(http2, '/authentic'), 200);

    const stranger = await openTls(server);
    const strangerClosed = untilClose(stranger);
    const answer = await askOn(stranger, '/', lengthField);
    t.strictSame(
      [answer?.headers['connection'], answer?.headers['keep-alive']],
      ['keep-alive', 'timeout=0'],
      'it is not promised more than it gets',
    );
    const stranger2 = connectHttp2(`https://localhost:${server.port}`, { ca: server.certificates.ca });
    stranger2.on('error', () => {});
    const stranger2Closed = new Promise<void>((resolve) => stranger2.once('close', () => resolve()));
    t.equal(await ask2(stranger2, '/'), 200);
    await Promise.all([strangerClosed, stranger2Closed]);
    t.equal((await askOn(authentic, '/', lengthField))?.status, 200, 'the authentic ones stay');
    t.equal(await ask2(http2, '/'), 200);
    authentic.destroy();
  });

  t.test(
    `an old HTTP/1.1 connection is left with Connection: close, an idle one closed, by ${lane}`,
    async (t) => {
      const old = await startServer(t, { limits: { connectionAgeMaxMs: 0 } });
      const [answer] = await sendRaw(old, postBy(lengthField));
      t.strictSame([answer?.status, answer?.headers['connection']], [200, 'close']);
      const patient = await startServer(t, { limits: { keepAliveMs: 50 }, certificates: old.certificates });
      const [kept] = await sendRaw(patient, postBy(lengthField));
      t.strictSame([kept?.status, kept?.headers['connection']], [200, 'keep-alive']);
    },
  );
}

t.test('listens on a descriptor that it inherited', async (t) => {
  const native = loadNativeBinding();
  const fd = native.bindTcp('127.0.0.1', 0, 16);
  const port = native.boundPort(fd);
  const certificates = await testCertificates(t.testdir());
  const server = createXksServer({
    on: { fd },
    tls: { certificate: certificates.certificate, key: certificates.key, mtls: null },
    handler: echo,
    readiness: () => ({ ready: true }),
    limits: testLimits,
    clock: systemClock,
    logger: silentLogger,
    onRefusal: () => {},
  });
  t.teardown(() => server.close());
  t.equal(await server.listen(), port);
  const [answer] = await sendRaw(
    { port, certificates },
    post.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'),
  );
  t.equal(answer?.status, 200);
});

t.test('an address that is taken is an error, not a crash', async (t) => {
  const taken = await startServer(t);
  const second = createHealthServer({
    on: { address: '127.0.0.1', port: taken.port },
    readiness: () => ({ ready: true, reason: '' }),
  });
  await t.rejects(second.listen(), { code: 'EADDRINUSE' });
});
