import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import t from 'tap';
import { clientCertificate, testCertificates } from '../support/certificates.js';
import { openTls, parseAnswers, untilClose } from '../support/raw-http.js';
import { startServer, type TestServer } from '../support/xks-server.js';

const request = 'POST /kms HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';

/** What `openssl s_client` says about a handshake, by exit status and output. */
function sClient(server: TestServer, ...args: string[]): Promise<{ ok: boolean; output: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      'openssl',
      ['s_client', '-connect', `127.0.0.1:${server.port}`, '-CAfile', server.certificates.caFile, ...args],
      (error, stdout, stderr) => resolve({ ok: error === null, output: stdout + stderr }),
    );
    child.stdin?.end();
  });
}

/** The code of the error that ends a handshake, or what ALPN chose. */
async function handshake(server: TestServer, ALPNProtocols: string[]): Promise<string | false | null> {
  const socket = connect({
    port: server.port,
    host: '127.0.0.1',
    servername: 'localhost',
    ca: server.certificates.ca,
    ALPNProtocols,
  });
  const outcome = await new Promise<string | false | null>((resolve) => {
    socket.once('secureConnect', () => resolve(socket.alpnProtocol));
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
  });
  socket.destroy();
  return outcome;
}

t.test('X-T1: ALPN chooses HTTP/2 where both can, else HTTP/1.1, and no third protocol', async (t) => {
  const server = await startServer(t);
  t.equal(await handshake(server, ['http/1.1', 'h2']), 'h2');
  t.equal(await handshake(server, ['http/1.1']), 'http/1.1');
  t.equal(await handshake(server, ['http/1.0']), 'http/1.0');
  t.equal(await handshake(server, ['spdy/3']), 'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL');
  const socket = await openTls(server);
  t.equal(socket.alpnProtocol, false);
  const received = untilClose(socket);
  socket.write(request);
  t.equal(parseAnswers(await received)[0]?.status, 200, 'no ALPN is HTTP/1.1');
});

t.test('X-T2: TLS 1.2 and 1.3, and only the suites that KMS speaks', async (t) => {
  const server = await startServer(t);
  const accepted: [string, string[]][] = [
    ['TLS_AES_256_GCM_SHA384', ['-tls1_3']],
    ['TLS_AES_256_GCM_SHA384', ['-tls1_3', '-ciphersuites', 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384']],
    ['TLS_CHACHA20_POLY1305_SHA256', ['-tls1_3', '-ciphersuites', 'TLS_CHACHA20_POLY1305_SHA256']],
    ['ECDHE-ECDSA-AES256-GCM-SHA384', ['-tls1_2']],
  ];
  for (const [suite, args] of accepted) {
    const { ok, output } = await sClient(server, ...args, '-verify_return_error');
    t.ok(ok, args.join(' '));
    t.match(output, `Cipher is ${suite}`);
  }
  for (const args of [
    ['-tls1_3', '-ciphersuites', 'TLS_AES_128_GCM_SHA256'],
    ['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES128-GCM-SHA256'],
    ['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES256-SHA384'],
    ['-tls1_2', '-cipher', 'ECDHE-ECDSA-CHACHA20-POLY1305'],
    ['-tls1_1', '-cipher', 'ALL:@SECLEVEL=0'],
    ['-tls1', '-cipher', 'ALL:@SECLEVEL=0'],
  ]) {
    t.notOk((await sClient(server, ...args)).ok, args.join(' '));
  }
});

t.test('X-T2: with an RSA certificate, TLS 1.2 speaks ECDHE-RSA-AES256-GCM-SHA384', async (t) => {
  const certificates = await testCertificates(t.testdir(), 'rsa');
  const server = await startServer(t, { certificates });
  const { ok, output } = await sClient(server, '-tls1_2', '-verify_return_error');
  t.ok(ok);
  t.match(output, 'Cipher is ECDHE-RSA-AES256-GCM-SHA384');
});

t.test(
  'X-T3: a client certificate of the right CA and subject is let in, no other reaches HTTP',
  async (t) => {
    const certificates = await testCertificates(t.testdir({}));
    const strangers = await testCertificates(`${certificates.directory}/strangers`);
    const subject = 'cks.kms.eu-north-1.amazonaws.com';
    const server = await startServer(t, { certificates, mtls: { ca: certificates.ca, subject } });
    const right = await clientCertificate(certificates, 'right', subject);
    const clients = {
      'another subject': await clientCertificate(certificates, 'other', 'cks.kms.us-east-1.amazonaws.com'),
      'a subject that only starts alike': await clientCertificate(
        certificates,
        'longer',
        `${subject}.example`,
      ),
      'another CA': await clientCertificate(strangers, 'stranger', subject),
      'no certificate': null,
      'a server certificate': { certificate: certificates.certificate, key: certificates.key },
    };
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const socket = await openTls(server, { cert: right.certificate, key: right.key, maxVersion: version });
      if (version === 'TLSv1.2') t.equal(socket.getTLSTicket(), undefined, 'no ticket to resume by');
      const received = untilClose(socket);
      socket.write(request);
      t.equal(parseAnswers(await received)[0]?.status, 200, `${version}: let in`);
      const reached = server.requests.length;
      for (const [name, client] of Object.entries(clients)) {
        const refused = server.refusals.length;
        const bytes = await refusedBytes(server, {
          maxVersion: version,
          ...(client === null ? {} : { cert: client.certificate, key: client.key }),
        });
        t.equal(bytes, 0, `${version}, ${name}: not a byte of HTTP comes back`);
        t.equal(server.refusals.length, refused + 1, `${version}, ${name}: counted`);
        t.equal(server.refusals.at(-1)?.status, 0);
        if (client === null) t.equal(server.refusals.at(-1)?.reason, 'The client showed no certificate.');
      }
      t.equal(server.requests.length, reached);
    }
  },
);

/** Sends a request along with the handshake; returns how many bytes of an answer came before the end. */
async function refusedBytes(server: TestServer, options: Parameters<typeof openTls>[1]): Promise<number> {
  const socket: TLSSocket = connect({
    port: server.port,
    host: '127.0.0.1',
    servername: 'localhost',
    ca: server.certificates.ca,
    ...options,
  });
  socket.write(request);
  return (await untilClose(socket)).byteLength;
}

t.test('X-T3: a session of before cannot be resumed to get around the certificate', async (t) => {
  const certificates = await testCertificates(t.testdir());
  const server = await startServer(t, { certificates, mtls: { ca: certificates.ca, subject: 'kms' } });
  const { certificate, key } = await clientCertificate(certificates, 'kms', 'kms');
  const socket = await openTls(server, { cert: certificate, key });
  let session: Buffer | undefined;
  socket.on('session', (offered) => {
    session = offered;
  });
  const received = untilClose(socket);
  socket.write(request);
  await received;
  const again = await openTls(server, { cert: certificate, key, ...(session ? { session } : {}) });
  t.equal(again.isSessionReused(), false);
  again.destroy();
});

t.test('a new certificate serves new connections, and the old ones go on', async (t) => {
  const server = await startServer(t);
  const before = await openTls(server);
  const renewed = await testCertificates(`${server.certificates.directory}/renewed`);
  server.server.setCertificate({ certificate: renewed.certificate, key: renewed.key });
  const after = await openTls(server, { ca: renewed.ca });
  t.not(after.getPeerCertificate().serialNumber, before.getPeerCertificate().serialNumber);
  const received = untilClose(before);
  before.write(request);
  t.equal(parseAnswers(await received)[0]?.status, 200);
  after.destroy();
  t.throws(() => server.server.setCertificate({ certificate: 'nonsense', key: 'nonsense' }));
  const still = await openTls(server, { ca: renewed.ca });
  still.destroy();
});

t.test('a handshake that does not come to an end is given up', async (t) => {
  const server = await startServer(t, { limits: { handshakeTimeoutMs: 50 } });
  const socket = connectTcp(server.port, '127.0.0.1');
  socket.on('error', () => {}).resume();
  await once(socket, 'close');
  t.match(server.refusals[0]?.reason, /handshake/);
});
