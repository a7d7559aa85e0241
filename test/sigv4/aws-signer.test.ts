import { createHash, createHmac } from 'node:crypto';
import { SignatureV4 } from '@smithy/signature-v4';
import t from 'tap';
import type { SignedRequest } from '../../src/sigv4/canonical-request.js';
import { signRequest } from '../../src/sigv4/sign.js';
import { checkSignature } from '../../src/sigv4/signature-check.js';
import { SigningKeyCache } from '../../src/sigv4/signing-key.js';
import { verifyRequest } from '../../src/sigv4/verify.js';
import { SeededRandom } from '../support/seeded-random.js';

class NodeSha256 {
  readonly #hash;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', bytesOf(secret));
  }

  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(bytesOf(data));
  }

  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }
}

function bytesOf(data: string | ArrayBuffer | ArrayBufferView): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data);
  return ArrayBuffer.isView(data)
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data);
}

const lowerCase = 'abcdefghijklmnopqrstuvwxyz';
const upperCase = lowerCase.toUpperCase();
const service = 'kms-xks-proxy';

/** A request of the shapes that X-U1 allows, with some more headers to sign. */
function randomRequest(random: SeededRandom): SignedRequest {
  const segments = Array.from({ length: random.integer(3) }, () =>
    random.text(1 + random.integer(12), `${lowerCase}${upperCase}0123456789-_`),
  );
  const keyId = random.text(1 + random.integer(40), `${lowerCase}${upperCase}0123456789-_`);
  const operation = random.pick([
    'health',
    `keys/${keyId}/metadata`,
    `keys/${keyId}/encrypt`,
    `keys/${keyId}/decrypt`,
  ]);
  const authority = random.pick(['xks.example.com', 'xks.example.com:8443', '127.0.0.1:443', '[::1]:8443']);
  const headers = new Map<string, string>([['host', authority]]);
  if (random.integer(2) === 0) headers.set('content-type', 'application/json');
  for (let count = random.integer(4); count > 0; count--) {
    headers.set(
      `x-${random.text(1 + random.integer(10), `${lowerCase}0123456789-`)}`,
      random.text(1 + random.integer(40), `${lowerCase}${upperCase}  \t,;="'/+%&`),
    );
  }
  return {
    method: 'POST',
    target: `/${[...segments, 'kms/xks/v1', operation].join('/')}`,
    authority,
    headers: [...headers],
    body: random.bytes(random.integer(600)),
  };
}

t.test("X-A1: what AWS's own signer signs is verified, over 400 seeded requests", async (t) => {
  const random = new SeededRandom(20_240_515);
  const signingKeys = new SigningKeyCache();
  for (let round = 0; round < 400; round++) {
    const region = random.pick(['us-east-1', 'eu-central-1', 'ap-southeast-2']);
    const accessKeyId = random.text(20 + random.integer(11), `${upperCase}234567`);
    const secretAccessKey = random.text(43 + random.integer(22), `${lowerCase}${upperCase}0123456789/+=`);
    const nowMs = Date.UTC(
      2024,
      random.integer(12),
      1 + random.integer(28),
      random.integer(24),
      0,
      random.integer(60),
    );
    const request = randomRequest(random);
    const signer = new SignatureV4({
      credentials: { accessKeyId, secretAccessKey },
      region,
      service,
      sha256: NodeSha256,
      applyChecksum: false,
    });
    const signed = await signer.sign(
      {
        method: request.method,
        protocol: 'https:',
        hostname: 'unused',
        path: request.target,
        query: {},
        headers: Object.fromEntries(request.headers),
        body: request.body,
      },
      { signingDate: new Date(nowMs) },
    );
    const context = {
      nowMs: nowMs + random.integer(600_001) - 300_000,
      service,
      regions: [region],
      secretFor: (id: string) => (id === accessKeyId ? Buffer.from(secretAccessKey) : null),
      signingKeys,
      checkSignature,
    };
    const received = { ...request, headers: Object.entries(signed.headers) };
    const result = verifyRequest(received, context);
    t.same(result, { ok: true, value: { accessKeyId } }, JSON.stringify(received.headers));

    // Ours signs what AWS's signs: the same headers, so the same signature.
    const ours = signRequest(request, {
      nowMs,
      region,
      service,
      accessKeyId,
      secretAccessKey: Buffer.from(secretAccessKey),
    });
    t.same(new Map(ours).get('authorization'), signed.headers['authorization'], `round ${round}`);
  }
  t.equal(signingKeys.size, 400);
});
