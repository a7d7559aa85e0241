import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { createServer as createHttp2Server, type ServerHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { Driver } from '../../bench/driver/driver.js';
import type { LoadResult } from '../../bench/driver/load-run.js';
import type { HttpVersion } from '../../bench/driver/prepared-requests.js';
import type { Verification } from '../../bench/driver/protocol.js';

/** What the stand-in for a proxy does with a request: its status and body, and whether it closes then. */
interface Reply {
  readonly status: number;
  readonly body: object;
  readonly close?: boolean;
}
type Proxy = (operation: string, body: Readonly<Record<string, string>>, sequence: number) => Reply;

const bytes = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64');

/** "Encrypts" by handing back the plaintext, with an integrity value that is right. */
const honest: Proxy = (operation, body) => {
  if (operation === 'decrypt') return { status: 200, body: { plaintext: body['ciphertext'] } };
  const [iv, tag] = [Buffer.alloc(12, 1), Buffer.alloc(16, 2)];
  const ciphertext = bytes(body['plaintext']);
  const cdiv = createHash('sha256')
    .update(bytes(body['additionalAuthenticatedData']))
    .update(iv)
    .update(ciphertext)
    .update(tag);
  return {
    status: 200,
    body: {
      ciphertext: body['plaintext'],
      initializationVector: iv.toString('base64'),
      authenticationTag: tag.toString('base64'),
      ciphertextDataIntegrityValue: cdiv.digest('base64'),
    },
  };
};

/** Requests that prepare a driver: an encrypt for each that is decrypted later. */
const preparing = 512;

async function textOf(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

async function serve(t: Test, http: HttpVersion, proxy: Proxy): Promise<string> {
  let sequence = 0;
  const reply = (path: string, text: string): Reply =>
    proxy(path.split('/').at(-1) ?? '', JSON.parse(text), sequence++ - preparing);
  if (http === '1.1') {
    const server = createServer((req: IncomingMessage, res) => {
      void textOf(req).then((text) => {
        const { status, body, close } = reply(req.url ?? '', text);
        const answer = JSON.stringify(body);
        const headers = {
          'content-length': Buffer.byteLength(answer),
          ...(close && { connection: 'close' }),
        };
        res.writeHead(status, headers).end(answer);
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.teardown(() => {
      server.closeAllConnections();
      server.close();
    });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
  const server = createHttp2Server();
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => sessions.add(session));
  server.on('stream', (stream, headers) => {
    void textOf(stream).then((text) => {
      const { status, body, close } = reply(String(headers[':path']), text);
      stream.respond({ ':status': status, 'content-type': 'application/json' });
      stream.end(JSON.stringify(body));
      if (close) stream.session?.close();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

interface Run {
  readonly load: LoadResult;
  readonly verification: Verification;
}

async function drive(t: Test, http: HttpVersion, proxy: Proxy, requests = 300): Promise<Run> {
  const driver = await prepare(t, http, await serve(t, http, proxy));
  const load = await driver.run({ kind: 'open', rate: requests * 5, seconds: 0.2 });
  return { load, verification: await driver.verify() };
}

async function prepare(t: Test, http: HttpVersion, url: string): Promise<Driver> {
  const { driver } = await Driver.prepare({
    urls: [url],
    ca: null,
    http,
    connections: 4,
    streams: http === '2' ? 3 : 1,
    access: {
      uriPathPrefix: 'a/prefix',
      keyId: 'key',
      region: 'us-east-1',
      accessKeyId: 'AAAAAAAAAAAAAAAAAAAAAAAAA2',
      secretAccessKey: 'secret',
    },
    bodies: { plaintextBytes: 32, aadBytes: 20, cdiv: true },
    encryptShare: 0.5,
  });
  t.teardown(() => driver.close());
  return driver;
}

for (const http of ['1.1', '2'] as const) {
  t.test(`HTTP/${http}: every request is answered, counted and looked at`, async (t) => {
    const { load, verification } = await drive(t, http, honest);
    t.match(load, { scheduled: 300, sent: 300, answered: 300, dropped: 0, failures: {} });
    t.equal(
      load.latency.counts.reduce((sum, [, count]) => sum + count, 0),
      300,
    );
    t.ok(verification.verified > 10, `${verification.verified} samples`);
    t.equal(verification.wrong, 0);
  });

  t.test(`HTTP/${http}: errors go by their names, and are no latencies`, async (t) => {
    const { load } = await drive(t, http, (operation, body, sequence) =>
      sequence >= 0 && sequence < 300 && sequence % 10 === 0
        ? { status: 503, body: { errorName: 'DependencyTimeoutException' } }
        : honest(operation, body, sequence),
    );
    t.strictSame(load.failures, { '503 DependencyTimeoutException': 30 });
    t.equal(load.answered, 270);
  });

  t.test(`HTTP/${http}: a connection that the server ends is made anew`, async (t) => {
    const { load } = await drive(t, http, (operation, body, sequence) => ({
      ...honest(operation, body, sequence),
      close: sequence >= 0 && sequence % 20 === 19,
    }));
    t.match(load, { answered: 300, failures: {} });
  });

  t.test(`HTTP/${http}: another plaintext is a failure, whatever the status`, async (t) => {
    const { load } = await drive(t, http, (operation, body, sequence) =>
      operation === 'decrypt'
        ? { status: 200, body: { plaintext: 'AAAA' } }
        : honest(operation, body, sequence),
    );
    t.strictSame(load.failures, { 'decrypt gave another plaintext': 150 });
  });
}

t.test('an integrity value that is another is found in the samples', async (t) => {
  const { verification } = await drive(t, '1.1', (operation, body, sequence) => {
    const reply = honest(operation, body, sequence);
    return operation === 'encrypt'
      ? { ...reply, body: { ...reply.body, ciphertextDataIntegrityValue: 'AAAA' } }
      : reply;
  });
  t.match(verification, { verified: 0, firstFault: /integrity value/ });
});

t.test('a ciphertext that can’t be decrypted is found in the samples', async (t) => {
  const { load, verification } = await drive(t, '1.1', (operation, body, sequence) =>
    operation === 'decrypt' && sequence >= 300
      ? { status: 400, body: { errorName: 'InvalidCiphertextException' } }
      : honest(operation, body, sequence),
  );
  t.strictSame(load.failures, {});
  t.match(verification, { verified: 0, firstFault: /InvalidCiphertextException/ });
});

t.test('a sample that is refused for want of time is tried again', async (t) => {
  let refused = 0;
  const { verification } = await drive(t, '1.1', (operation, body, sequence) => {
    if (operation !== 'decrypt' || sequence < 300 || refused === 4) return honest(operation, body, sequence);
    refused += 1;
    return { status: refused % 2 === 0 ? 429 : 503, body: { errorName: 'X' } };
  });
  t.equal(verification.wrong, 0);
  t.equal(refused, 4);
});

t.test('a proxy that refuses is named at once', async (t) => {
  await t.rejects(
    drive(t, '1.1', () => ({ status: 401, body: { errorName: 'AuthenticationFailedException' } })),
    { message: 'an encrypt was answered 401 AuthenticationFailedException' },
  );
});

t.test('what is answered after its run has ended is no other run’s', async (t) => {
  let asked = 0;
  const held: (() => void)[] = [];
  const server = createServer((req, res) => {
    void textOf(req).then((text) => {
      const { body } = honest(req.url?.split('/').at(-1) ?? '', JSON.parse(text), 0);
      const answer = (): void => void res.end(JSON.stringify(body));
      // Of the first run all but one, which stay away until the second one has begun.
      asked += 1;
      if (asked > preparing + 1 && asked <= preparing + 4) held.push(answer);
      else {
        answer();
        if (asked > preparing + 4) for (const late of held.splice(0)) late();
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const driver = await prepare(t, '1.1', `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const first = await driver.run({ kind: 'open', rate: 20, seconds: 0.2 }, 50);
  t.match(first, { scheduled: 4, answered: 1, failures: { 'no answer within 0.05 s': 3 } });
  const second = await driver.run({ kind: 'open', rate: 100, seconds: 0.2 });
  t.match(second, { scheduled: 20, answered: 20, failures: {} });
  t.equal(
    second.latency.counts.reduce((sum, [, count]) => sum + count, 0),
    20,
  );
});
