import { once } from 'node:events';
import { createServer, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/logger.js';
import { systemTimers } from '../../src/base/timers.js';
import { ArrivalClock } from '../../src/serving/http/arrival-clock.js';
import { Connection } from '../../src/serving/http/connection.js';
import type { HttpAnswer, HttpHandler, HttpRefusal } from '../../src/serving/http/exchange.js';
import { ExpressLane } from '../../src/serving/http/express-lane.js';
import { Front } from '../../src/serving/http/front.js';
import { Http1 } from '../../src/serving/http/http1.js';
import type { HttpLimits } from '../../src/serving/http/limits.js';
import { listen } from '../../src/serving/http/listen.js';
import { ReceivingBudget } from '../../src/serving/http/receiving-budget.js';
import { type TestCertificates, testCertificates } from '../support/certificates.js';
import { openTls, parseAnswers, untilClose } from '../support/raw-http.js';
import { echo, jsonAnswer, testLimits } from '../support/xks-server.js';

/** The lane in front of Node's server, and all that the test wants to see of them. */
interface Lanes {
  readonly port: number;
  readonly certificates: TestCertificates;
  readonly front: Front;
  readonly refusals: HttpRefusal[];
  /** In the order in which they came. */
  readonly connections: Connection[];
  /** The bytes with which each connection went to Node's server; afterwards they are wiped. */
  readonly left: { readonly text: string; readonly bytes: Buffer; readonly ended: boolean }[];
  /** All that a server socket read or wrote, as it is now. */
  readonly buffers: Buffer[];
  /** What arrived at each connection. */
  readonly arrived: string[];
}

/** A client's connection that the server knows of. */
async function connectTo(lanes: Lanes): Promise<TLSSocket> {
  const { length } = lanes.connections;
  const socket = await openTls(lanes);
  await until(() => lanes.connections.length > length);
  // Else a piece waits for the acknowledgement of the one before.
  return socket.setNoDelay();
}

async function openLanes(
  t: Test,
  { limits, handler = echo }: { limits?: Partial<HttpLimits>; handler?: HttpHandler } = {},
): Promise<Lanes> {
  const certificates = await testCertificates(t.testdir());
  const refusals: HttpRefusal[] = [];
  const connections: Connection[] = [];
  const left: Lanes['left'] = [];
  const buffers: Buffer[] = [];
  const arrived: string[] = [];
  const allLimits = { ...testLimits, restWaitMs: 600_000, ...limits };
  const front = new Front({
    limits: allLimits,
    clock: systemClock,
    arrivals: new ArrivalClock(systemClock, systemTimers, setImmediate),
    budget: new ReceivingBudget(allLimits.receivingBytesMax),
    handler,
    readiness: () => ({ ready: true }),
    onRefusal: (refused) => refusals.push(refused),
    logger: silentLogger,
  });
  const http1 = new Http1(front);
  const server = createServer({ cert: certificates.certificate, key: certificates.key });
  server.on('secureConnection', (socket: TLSSocket) => {
    socket.on('error', () => {});
    socket.allowHalfOpen = true;
    const connection = new Connection(socket, allLimits, systemClock, 0.5);
    connections.push(connection);
    const write = socket.write.bind(socket);
    Object.assign(socket, {
      write: (bytes: Buffer, done: () => void) => {
        buffers.push(bytes);
        return write(bytes, done);
      },
    });
    const index = arrived.push('') - 1;
    socket.on('data', (bytes: Buffer) => {
      buffers.push(bytes);
      arrived[index] += bytes.toString('latin1');
    });
    new ExpressLane(connection, front, {
      take: (taken, received) => {
        const { bytes, ended } = received;
        left.push({ text: bytes.toString('latin1'), bytes, ended });
        // Node's server is not overheard.
        socket.removeAllListeners('data');
        Object.assign(socket, { write });
        http1.take(taken, received);
      },
    }).start();
  });
  const port = await listen(server, { address: '127.0.0.1', port: 0 });
  t.teardown(() => {
    for (const { socket } of connections) socket.destroy();
    http1.close();
    server.close();
  });
  return { port, certificates, front, refusals, connections, left, buffers, arrived };
}

const requestOf = (body: string, { target = '/kms', field = '' } = {}): string =>
  `POST ${target} HTTP/1.1\r\nHost: a\r\n${field}Content-Length: ${body.length}\r\n\r\n${body}`;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

const bodiesOf = (answers: Buffer): unknown[] =>
  parseAnswers(answers).map(({ body }) => JSON.parse(body).body ?? JSON.parse(body).errorName);

const isWiped = (bytes: Buffer | undefined): boolean => bytes?.every((byte) => byte === 0) ?? false;

/** Sends each piece on the newest connection, once the lane has the one before or the connection is Node's. */
async function sendApart(lanes: Lanes, socket: TLSSocket, pieces: readonly string[]): Promise<void> {
  const index = lanes.connections.length - 1;
  const leftBefore = lanes.left.length;
  let sent = lanes.arrived[index] ?? '';
  for (const piece of pieces) {
    socket.write(piece);
    sent += piece;
    await until(() => lanes.arrived[index] === sent || lanes.left.length > leftBefore);
  }
}

t.test(
  'plain requests, whole or in a few pieces, are answered here, on a connection that is kept',
  async (t) => {
    const lanes = await openLanes(t);
    const socket = await connectTo(lanes);
    const received: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => received.push(chunk));
    const request = requestOf('hello');
    const headBytes = request.length - 5;
    const cuts = [
      [],
      [headBytes],
      [10],
      [headBytes - 2],
      [headBytes + 2],
      [3, 40],
      [20, headBytes, headBytes + 1],
    ];
    for (const [index, cut] of cuts.entries()) {
      const pieces = [0, ...cut].map((from, i) => request.slice(from, cut[i]));
      await sendApart(lanes, socket, pieces);
      await until(() => parseAnswers(Buffer.concat(received)).length === index + 1);
    }
    t.strictSame(
      bodiesOf(Buffer.concat(received)),
      cuts.map(() => 'hello'),
    );
    t.strictSame(lanes.left, [], 'none was for Node');
    t.equal(lanes.connections[0]?.requests, cuts.length);
    t.equal(lanes.connections[0]?.inFlight, 0);
    socket.destroy();
  },
);

t.test('anything unusual goes to Node with all of its bytes, after what was answered before', async (t) => {
  const lanes = await openLanes(t);
  const plain = requestOf('one');
  const closing = requestOf('two', { field: 'Connection: close\r\n' });
  const chunked =
    'POST /kms HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\ntwo\r\n0\r\n\r\n';
  const cases: Record<string, readonly [before: readonly string[], unusual: readonly string[], number]> = {
    'a connection that ends': [[], [closing], 1],
    'a chunked body': [[], [chunked], 1],
    'the same after a plain one': [[plain], [closing], 2],
    'a second request right behind': [[], [plain + closing], 2],
    'a second request right behind the pieces': [[], [plain.slice(0, 50), plain.slice(50) + closing], 2],
    'a GET': [[plain], ['GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'], 2],
    'HTTP/1.0': [[], ['POST / HTTP/1.0\r\n\r\n'], 1],
    'no HTTP': [[plain], ['nonsense\r\n\r\n'], 2],
    'too many pieces': [[], ['P', 'O', 'S', 'T', closing.slice(4)], 1],
  };
  for (const [name, [before, unusual, count]] of Object.entries(cases)) {
    lanes.left.splice(0);
    const socket = await connectTo(lanes);
    const received = untilClose(socket);
    for (const request of before) {
      socket.write(request);
      await once(socket, 'data');
    }
    if (unusual.length === 1) socket.write(unusual[0] ?? '');
    else {
      await sendApart(lanes, socket, unusual.slice(0, -1));
      socket.write(unusual.at(-1) ?? '');
    }
    t.equal(parseAnswers(await received).length, count, name);
    t.equal(lanes.left.length, 1, `${name}: it went to Node`);
    t.ok(unusual.join('').startsWith(lanes.left[0]?.text ?? '-'), `${name}: from its first byte`);
    t.ok(isWiped(lanes.left[0]?.bytes), `${name}: no copy is left`);
  }
});

t.test('the rest of a request is not waited for here', async (t) => {
  const lanes = await openLanes(t, { limits: { restWaitMs: 20 } });
  const socket = await connectTo(lanes);
  const request = requestOf('hello', { target: '/slow' });
  for (const cut of [30, request.length - 2]) {
    const answered = connectTo(lanes).then(async (slow) => {
      slow.write(request.slice(0, cut));
      const before = lanes.left.length;
      await until(() => lanes.left.length > before);
      slow.write(request.slice(cut));
      const [chunk] = (await once(slow, 'data')) as [Buffer];
      slow.destroy();
      return chunk;
    });
    t.strictSame(bodiesOf(await answered), ['hello']);
  }
  t.strictSame(
    lanes.left.map(({ text, ended }) => [text, ended]),
    [
      [request.slice(0, 30), false],
      [request.slice(0, -2), false],
    ],
  );
  socket.destroy();
});

t.test('no client can tell the lanes apart: their answers are the same bytes', async (t) => {
  const answers: Record<string, HttpAnswer> = {
    '/stranger': jsonAnswer({ a: 'é' }),
    '/authentic': { ...jsonAnswer({}), authenticated: true },
    '/secret': { ...jsonAnswer({ plaintext: 'eHh4' }), authenticated: true, secret: true },
    '/method': { ...jsonAnswer({}, 405), headers: { allow: 'POST' } },
    '/empty': { status: 200, body: new Uint8Array(0) },
    ...Object.fromEntries([400, 401, 403, 404, 429, 500, 501, 503].map((n) => [`/${n}`, jsonAnswer({}, n)])),
  };
  for (const closing of [false, true]) {
    const lanes = await openLanes(t, {
      limits: closing ? { connectionAgeMaxMs: 0 } : {},
      handler: async ({ target }) => {
        const answer = answers[target] ?? jsonAnswer({}, 404);
        return { ...answer, body: Buffer.from(answer.body) };
      },
    });
    for (const target of Object.keys(answers)) {
      const texts: string[] = [];
      for (const field of ['', 'TE: trailers\r\n']) {
        const socket = await connectTo(lanes);
        socket.write(requestOf('{}', { target, field }));
        const [chunk] = (await once(socket, 'data')) as [Buffer];
        texts.push(chunk.toString('latin1').replace(/(\r\nDate: ).{29}\r\n/, '$1…\r\n'));
        socket.destroy();
      }
      t.match(texts[0], /\r\nDate: …\r\n/);
      t.equal(texts[0], texts[1], target);
    }
    t.equal(lanes.left.length, Object.keys(answers).length, 'each was answered once in either lane');
  }
});

t.test('X-T5: a request that comes before its turn is answered in turn, and its time runs', async (t) => {
  const release: (() => void)[] = [];
  const receivedAtMs: number[] = [];
  const lanes = await openLanes(t, {
    handler: async (request) => {
      receivedAtMs.push(request.receivedAtMs);
      await new Promise<void>((resolve) => release.push(resolve));
      return echo(request);
    },
  });
  const socket = await connectTo(lanes);
  const received = untilClose(socket);
  socket.write(requestOf('one'));
  await until(() => release.length === 1);
  socket.write(requestOf('two'));
  await until(() => lanes.connections[0]?.socket.isPaused() ?? false);
  const arrivedBeforeMs = systemClock.monotonicMs();
  // What does not fit into the first of them is read when its turn comes.
  socket.write(requestOf('three') + requestOf('four', { field: 'Connection: close\r\n' }));
  for (let i = 0; i < 10; i += 1) await turn();
  t.equal(release.length, 1, 'one at a time');
  release[0]?.();
  await until(() => release.length === 2);
  t.ok((receivedAtMs[1] ?? Number.POSITIVE_INFINITY) <= arrivedBeforeMs);
  t.strictSame(lanes.left, []);
  release[1]?.();
  await until(() => release.length === 4);
  t.equal(lanes.left.length, 1, 'two at once are for Node');
  release[3]?.();
  release[2]?.();
  t.strictSame(bodiesOf(await received), ['one', 'two', 'three', 'four']);
  const other = await connectTo(lanes);
  const otherReceived = untilClose(other);
  other.write(requestOf('five'));
  await until(() => release.length === 5);
  other.write(requestOf('six') + requestOf('seven', { field: 'Connection: close\r\n' }));
  await until(() => lanes.connections[1]?.socket.isPaused() ?? false);
  const readBeforeMs = systemClock.monotonicMs();
  await until(() => systemClock.monotonicMs() > readBeforeMs);
  release[4]?.();
  await until(() => release.length === 7);
  t.ok(Math.max(...receivedAtMs.slice(5)) <= readBeforeMs, 'nor does time stand still for what goes to Node');
  for (const go of release) go();
  t.strictSame(bodiesOf(await otherReceived), ['five', 'six', 'seven']);
});

t.test(
  'a client that closes its side and still reads gets its answers, an unfinished request 400',
  async (t) => {
    const lanes = await openLanes(t, {
      handler: async (request) => {
        await turn();
        return echo(request);
      },
    });
    for (const [bytes, expected] of [
      [requestOf('a'), ['a']],
      [requestOf('abc').slice(0, -1), ['ValidationException']],
      [requestOf('abc').slice(0, 30), ['ValidationException']],
      ['', []],
    ] as const) {
      const socket = await connectTo(lanes);
      const received = untilClose(socket);
      socket.end(bytes);
      t.strictSame(bodiesOf(await received), expected);
    }
    t.strictSame(
      lanes.left.map(({ ended }) => ended),
      [true, true],
      'the unfinished ones went to Node',
    );
  },
);

t.test(
  'a client that leaves in the middle leaves nothing behind, and a late answer goes nowhere',
  async (t) => {
    const bodies: Buffer[] = [];
    const release: (() => void)[] = [];
    const lanes = await openLanes(t, {
      handler: async () => {
        await new Promise<void>((resolve) => release.push(resolve));
        const body = Buffer.from('a secret');
        bodies.push(body);
        return { status: 200, body, secret: true };
      },
    });
    const socket = await connectTo(lanes);
    socket.write(requestOf('abc'));
    await until(() => release.length === 1);
    const [connection] = lanes.connections;
    t.equal(connection?.inFlight, 1);
    socket.write(requestOf('a data key'));
    await until(() => lanes.buffers.length === 2);
    connection?.socket.destroy();
    await until(() => connection?.inFlight === 0);
    release[0]?.();
    await until(() => bodies.length === 1 && isWiped(bodies[0]));
    t.equal(connection?.inFlight, 0, 'it is not counted twice');
    t.ok(isWiped(lanes.buffers[1]), 'nor is what came before its turn left');
    socket.destroy();
  },
);

t.test('X-D2: of a request that comes behind the last answer nothing is left', async (t) => {
  for (const isAskedToClose of ['before it comes', 'afterwards']) {
    const release: (() => void)[] = [];
    const lanes = await openLanes(t, {
      handler: async () => {
        await new Promise<void>((resolve) => release.push(resolve));
        return jsonAnswer({});
      },
    });
    const socket = await connectTo(lanes);
    socket.resume();
    socket.write(requestOf('abc'));
    await until(() => release.length === 1);
    const [connection] = lanes.connections;
    if (isAskedToClose === 'before it comes') connection?.closePolitely();
    socket.write(requestOf('a data key'));
    await until(() => lanes.buffers.length === 2);
    if (isAskedToClose === 'afterwards') connection?.closePolitely();
    release[0]?.();
    await once(socket, 'end');
    t.ok(isWiped(lanes.buffers[1]), isAskedToClose);
    socket.destroy();
  }
});

t.test('X-D2: of a secret nothing is left once it was sent, nor of a body in pieces', async (t) => {
  const bodies: Buffer[] = [];
  const lanes = await openLanes(t, {
    handler: async (request) => {
      const body = Buffer.from(`{"body":"${Buffer.from(request.body).toString()}"}`);
      request.body.fill(0);
      bodies.push(body);
      return { status: 200, body, secret: true };
    },
  });
  const socket = await connectTo(lanes);
  const answered = once(socket, 'data');
  const request = requestOf('a data key');
  await sendApart(lanes, socket, [request.slice(0, -5), request.slice(-5, -2), request.slice(-2)]);
  const [answer] = (await answered) as [Buffer];
  t.strictSame(bodiesOf(answer), ['a data key']);
  t.ok(isWiped(bodies[0]), 'the body as soon as it is copied');
  await until(() => lanes.connections[0]?.inFlight === 0);
  t.equal(lanes.buffers.length, 4, 'three were read, one was written');
  t.ok(lanes.buffers.every(isWiped), 'and nothing is left of them');
  const kept = await openLanes(t);
  const other = await connectTo(kept);
  other.write(request);
  await once(other, 'data');
  await until(() => kept.connections[0]?.inFlight === 0);
  t.notOk(isWiped(kept.buffers[1]), 'what is no secret stays');
  for (const each of [socket, other]) each.destroy();
});

t.test('a body that is held gives way: 429 for the one that began first', async (t) => {
  const lanes = await openLanes(t, { limits: { receivingBytesMax: 20_000 } });
  const open = async (): Promise<{ socket: TLSSocket; received: Promise<Buffer> }> => {
    const socket = await connectTo(lanes);
    return { socket, received: untilClose(socket) };
  };
  const part = requestOf('x'.repeat(15_000)).slice(0, -1_000);
  const slow = await open();
  slow.socket.write(part);
  await until(() => lanes.arrived[0] === part);
  const quick = await open();
  quick.socket.write(part);
  await until(() => lanes.arrived[1] === part);
  t.strictSame(bodiesOf(await slow.received), ['ThrottlingException']);
  t.match(lanes.refusals, [{ status: 429 }]);
  quick.socket.write('x'.repeat(1_000));
  const [answer] = (await once(quick.socket, 'data')) as [Buffer];
  t.strictSame(bodiesOf(answer), ['x'.repeat(15_000)], 'whoever is quick is served');
  quick.socket.destroy();
  const next = await open();
  await sendApart(lanes, next.socket, [part, 'x'.repeat(1_000)]);
  await until(() => lanes.connections[2]?.requests === 1);
  t.equal(lanes.refusals.length, 1, 'whoever was served makes room');
  next.socket.destroy();
  t.strictSame(lanes.left, []);
});

t.test('a connection that asks nothing, or nothing any more, is closed', async (t) => {
  const quick = await openLanes(t, { limits: { headersTimeoutMs: 50 } });
  t.equal((await untilClose(await connectTo(quick))).length, 0, 'never asked');
  const lanes = await openLanes(t, {
    limits: { strangerKeepAliveMs: 80, keepAliveMs: 120 },
    handler: async ({ target }) => ({
      ...jsonAnswer({}),
      ...(target === '/authentic' && { authenticated: true }),
    }),
  });
  for (const target of ['/', '/authentic']) {
    const idle = await connectTo(lanes);
    const received = untilClose(idle);
    idle.write(requestOf('', { target }));
    t.equal(parseAnswers(await received).length, 1, target);
  }
  t.strictSame([...quick.left, ...lanes.left], []);
});

t.test('a client that does not read its answer is cut off', async (t) => {
  const lanes = await openLanes(t, {
    limits: { answerTimeoutMs: 100 },
    handler: async () => ({ status: 200, body: Buffer.alloc(32 * 1024 * 1024, 'x') }),
  });
  const deaf = await connectTo(lanes);
  deaf.on('error', () => {});
  deaf.pause();
  deaf.write(requestOf(''));
  const [connection] = lanes.connections;
  await until(() => connection?.socket.destroyed ?? false);
  await until(() => connection?.inFlight === 0);
  t.strictSame(lanes.left, []);
  deaf.destroy();
});

t.test(
  'asked to close politely: idle at once, after its answer, and what is held is not forgotten',
  async (t) => {
    const release: (() => void)[] = [];
    const lanes = await openLanes(t, {
      handler: async (request) => {
        await new Promise<void>((resolve) => release.push(resolve));
        return echo(request);
      },
    });
    const idle = await connectTo(lanes);
    const idleReceived = untilClose(idle);
    await until(() => lanes.connections.length === 1);
    const asking = await connectTo(lanes);
    const askingReceived = untilClose(asking);
    asking.write(requestOf('asked'));
    await until(() => release.length === 1);
    const halfway = await connectTo(lanes);
    const halfwayReceived = untilClose(halfway);
    const request = requestOf('halfway');
    await sendApart(lanes, halfway, [request.slice(0, -3)]);
    const beginning = await connectTo(lanes);
    const beginningReceived = untilClose(beginning);
    await sendApart(lanes, beginning, ['POST / HT']);
    lanes.front.startDraining();
    for (const connection of lanes.connections) connection.closePolitely();
    t.equal((await idleReceived).length, 0);
    t.equal((await beginningReceived).length, 0, 'there is no request yet');
    asking.write('this is too late');
    release[0]?.();
    const [answer] = parseAnswers(await askingReceived);
    t.strictSame([answer?.status, answer?.headers['connection']], [200, 'close']);
    halfway.write(request.slice(-3));
    await until(() => release.length === 2);
    release[1]?.();
    t.strictSame(bodiesOf(await halfwayReceived), ['halfway']);
  },
);
