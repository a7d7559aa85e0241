import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import t from 'tap';
import type { SignedRequest } from '../../src/sigv4/canonical-request.js';
import { checkSignature } from '../../src/sigv4/signature-check.js';
import { SigningKeyCache } from '../../src/sigv4/signing-key.js';
import { verifyRequest } from '../../src/sigv4/verify.js';

const accessKeyId = 'BETWEEN2TENAND3TENCHARACTERS';
const secretAccessKey = 'Zy5/0+PleaseDoNotUse0This+Secret/0f46Letters0=';
const target = '/some/prefix/kms/xks/v1/keys/key_1.a-b/encrypt';

/** Takes one HTTP/1.1 request as it comes off the wire. */
function received(socket: Socket): Promise<SignedRequest> {
  return new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    socket.on('error', reject);
    socket.on('data', (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      const headEnd = bytes.indexOf('\r\n\r\n');
      if (headEnd === -1) return;
      const [requestLine = '', ...lines] = bytes.toString('latin1', 0, headEnd).split('\r\n');
      const headers = lines.map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
      });
      const header = new Map(headers);
      const body = bytes.subarray(headEnd + 4);
      if (body.byteLength < Number(header.get('content-length') ?? 0)) return;
      const [method = '', path = ''] = requestLine.split(' ');
      resolve({ method, target: path, authority: header.get('host') ?? null, headers, body });
      socket.end('HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
    });
  });
}

/** Runs `curl --aws-sigv4` against a listener and returns what arrived. */
async function curl(...curlArguments: string[]): Promise<SignedRequest> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const connected = once(server, 'connection').then(([socket]) => received(socket as Socket));
  const child = spawn(
    'curl',
    [
      '--silent',
      '--noproxy',
      '*',
      '--aws-sigv4',
      'aws:amz:us-east-1:kms-xks-proxy',
      '--user',
      `${accessKeyId}:${secretAccessKey}`,
      ...curlArguments,
      `http://127.0.0.1:${port}${target}`,
    ],
    { stdio: 'ignore' },
  );
  const [request] = await Promise.all([connected, once(child, 'close')]);
  server.close();
  await once(server, 'close');
  return request;
}

const verify = (request: SignedRequest, secret = secretAccessKey) =>
  verifyRequest(request, {
    nowMs: Date.now(),
    service: 'kms-xks-proxy',
    regions: ['eu-west-1', 'us-east-1'],
    secretFor: (id) => (id === accessKeyId ? Buffer.from(secret) : null),
    signingKeys: new SigningKeyCache(),
    checkSignature,
  });

const json = '{"requestMetadata": {"kmsOperation": "Encrypt — ünïcode"}}';
const body = ['--data-binary', json];
const accepted: Readonly<Record<string, readonly string[]>> = {
  'no header of its own': body,
  'a content type': ['-H', 'Content-Type:application/json', ...body],
  'several headers, spaces in a value': [
    '-H',
    'Content-Type: application/json',
    '-H',
    'X-Custom:   a   b  ',
    ...body,
  ],
  'a host of its own': ['-H', 'Host: xks.example.com', ...body],
  'x-amz-content-sha256': [
    '-H',
    `x-amz-content-sha256: ${createHash('sha256').update(json).digest('hex')}`,
    ...body,
  ],
  'a long body': ['--data-binary', `{"plaintext":"${'A'.repeat(20_000)}"}`],
  'no body': ['-X', 'POST'],
};

for (const [name, curlArguments] of Object.entries(accepted)) {
  t.test(`X-A1: curl --aws-sigv4 with ${name} is verified`, async (t) => {
    const request = await curl(...curlArguments);
    t.equal(request.target, target);
    t.same(verify(request), { ok: true, value: { accessKeyId } });
    t.match(verify(request, `${secretAccessKey}x`), { ok: false, error: { reason: 'signature-mismatch' } });
    t.match(
      verify({ ...request, body: Buffer.concat([request.body, Buffer.from(' ')]) }),
      { ok: false, error: { reason: 'signature-mismatch' } },
      'and covers the body',
    );
  });
}

t.test(
  'X-A1: the payload hash is that of the received bytes, whatever x-amz-content-sha256 says',
  async (t) => {
    // curl signs the header's value in place of the hash.
    for (const value of ['UNSIGNED-PAYLOAD', createHash('sha256').update('{}').digest('hex')]) {
      const request = await curl('-H', `x-amz-content-sha256: ${value}`, ...body);
      t.match(verify(request), { ok: false, error: { reason: 'signature-mismatch' } }, value);
    }
  },
);

t.test('X-A3: curl with a date of last week is refused for its date alone', async (t) => {
  // Given as a header, curl's date arrives twice (curl 7.88), which is one of the things that X-A1 refuses.
  const request = await curl('-H', 'X-Amz-Date: 20201010T101010Z', ...body);
  const [date, ...others] = request.headers.filter(([name]) => name === 'x-amz-date');
  const once = { ...request, headers: request.headers.filter((header) => !others.includes(header)) };
  t.equal(date?.[1], '20201010T101010Z');
  t.match(verify(once), { ok: false, error: { reason: 'date-skew' } });
  const then = { nowMs: Date.UTC(2020, 9, 10, 10, 10, 10), service: 'kms-xks-proxy', regions: ['us-east-1'] };
  const secretFor = () => Buffer.from(secretAccessKey);
  const signingKeys = new SigningKeyCache();
  t.ok(verifyRequest(once, { ...then, secretFor, signingKeys, checkSignature }).ok);
});
