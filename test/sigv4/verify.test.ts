import { createHash, createHmac } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { loadNativeBinding } from '../../src/base/native.js';
import { authorizationLimits } from '../../src/sigv4/authorization.js';
import type { SignedRequest } from '../../src/sigv4/canonical-request.js';
import { signRequest } from '../../src/sigv4/sign.js';
import { checkSignature } from '../../src/sigv4/signature-check.js';
import { SigningKeyCache } from '../../src/sigv4/signing-key.js';
import { clockSkewMaxMs, type VerificationContext, verifyRequest } from '../../src/sigv4/verify.js';
import { authenticationFailed, errorBody } from '../../src/xks/errors.js';

const service = 'kms-xks-proxy';
const accessKeyId = 'AAAAABBBBBCCCCCDDDDD234567';
const secret = Buffer.from('0123456789012345678901234567890123456789/+=');
const nowMs = Date.UTC(2024, 1, 29, 23, 58, 0);
const authority = 'xks.example.com';

const unsigned: SignedRequest = {
  method: 'POST',
  target: '/p/kms/xks/v1/keys/k/encrypt',
  authority,
  headers: [
    ['host', authority],
    ['content-type', 'application/json'],
    ['x-note', 'as it is'],
  ],
  body: Buffer.from('{"a":1}'),
};

type Changes = Partial<Parameters<typeof signRequest>[1]>;
function sign(request: SignedRequest = unsigned, changes: Changes = {}): SignedRequest {
  const context = { nowMs, region: 'eu-west-1', service, accessKeyId, secretAccessKey: secret, ...changes };
  return { ...request, headers: [...request.headers, ...signRequest(request, context)] };
}

const native = loadNativeBinding();

/** By Node's cryptography and by the addon, which must agree. */
function verify(request: SignedRequest, changes: Partial<VerificationContext> = {}) {
  const [byNode, byAddon] = [checkSignature, native.checkSigV4Signature].map((check) =>
    verifyRequest(request, {
      nowMs,
      service,
      regions: ['us-east-1', 'eu-west-1'],
      secretFor: (id) => (id === accessKeyId ? secret : null),
      signingKeys: new SigningKeyCache(),
      checkSignature: check,
      ...changes,
    }),
  );
  if (byNode === undefined || !isDeepStrictEqual(byNode, byAddon)) {
    throw new Error(`they differ: ${JSON.stringify([byNode, byAddon])}`);
  }
  return byNode;
}

const reasonOf = (result: ReturnType<typeof verify>): string =>
  result.ok ? 'accepted' : result.error.reason;
const header = (request: SignedRequest, name: string): string =>
  request.headers.find(([given]) => given === name)?.[1] ?? '';
const withHeader = (request: SignedRequest, name: string, value: string): SignedRequest => ({
  ...request,
  headers: request.headers.map((given) => (given[0] === name ? [name, value] : given)),
});
const without = (request: SignedRequest, name: string): SignedRequest => ({
  ...request,
  headers: request.headers.filter(([given]) => given !== name),
});
const editAuthorization = (edit: (value: string) => string, request = sign()): SignedRequest =>
  withHeader(request, 'authorization', edit(header(request, 'authorization')));

/** A signature worked out by the book, over any headers and with any signing key. */
function signedByTheBook(
  headers: readonly (readonly [string, string])[],
  signingKey?: Uint8Array,
): SignedRequest {
  const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');
  const hmac = (key: Uint8Array | string, data: string): Buffer =>
    createHmac('sha256', key).update(data).digest();
  const amzDate = '20240229T235800Z';
  const scope = `20240229/eu-west-1/${service}/aws4_request`;
  const signed = [...headers, ['x-amz-date', amzDate] as const];
  const lines = signed.map(([name, value]) => `${name}:${value}\n`).join('');
  const signedHeaders = signed.map(([name]) => name).join(';');
  const canonical = `POST\n${unsigned.target}\n\n${lines}\n${signedHeaders}\n${sha256(unsigned.body)}`;
  const derived = scope
    .split('/')
    .reduce((key: Uint8Array | string, part) => hmac(key, part), `AWS4${secret}`);
  const toSign = `AWS4-HMAC-SHA256\n${amzDate}\n${scope}\n${sha256(Buffer.from(canonical, 'latin1'))}`;
  const signature = hmac(signingKey ?? derived, toSign).toString('hex');
  return {
    ...unsigned,
    headers: [
      ...signed.filter(([name]) => !name.startsWith(':')),
      [
        'authorization',
        `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${signedHeaders}, Signature=${signature}`,
      ],
    ],
  };
}

t.test('X-A1: what we sign we verify, and a second time with the cached signing key', async (t) => {
  const signingKeys = new SigningKeyCache();
  t.same(verify(sign(), { signingKeys }), { ok: true, value: { accessKeyId } });
  t.equal(signingKeys.size, 1);
  t.same(verify(sign(), { signingKeys }), { ok: true, value: { accessKeyId } });
  t.equal(signingKeys.size, 1);
});

t.test('X-A1: any change of one byte in what is signed is refused', async (t) => {
  const signed = sign();
  const signingKeys = new SigningKeyCache();
  t.ok(verify(signed, { signingKeys }).ok);
  const bump = (text: string, at: number): string =>
    text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ 1) + text.slice(at + 1);
  const mutants: SignedRequest[] = [];
  for (let at = 0; at < signed.method.length; at++)
    mutants.push({ ...signed, method: bump(signed.method, at) });
  for (let at = 0; at < signed.target.length; at++)
    mutants.push({ ...signed, target: bump(signed.target, at) });
  for (let at = 0; at < authority.length; at++) {
    const other = bump(authority, at);
    mutants.push({ ...withHeader(signed, 'host', other), authority: other });
  }
  for (let at = 0; at < signed.body.byteLength; at++) {
    const body = Buffer.from(signed.body);
    body[at] = (body[at] ?? 0) ^ 1;
    mutants.push({ ...signed, body });
  }
  for (const name of ['content-type', 'x-note', 'x-amz-date', 'authorization']) {
    const value = header(signed, name);
    for (let at = 0; at < value.length; at++) mutants.push(withHeader(signed, name, bump(value, at)));
  }
  mutants.push({ ...signed, body: signed.body.subarray(0, -1) }, { ...signed, body: new Uint8Array(0) });
  t.same(
    mutants.filter((mutant) => verify(mutant, { signingKeys }).ok),
    [],
  );
  t.ok(mutants.length > 300, `${mutants.length} changes`);
});

t.test('X-A1: one Authorization header, well formed', async (t) => {
  const signed = sign();
  const value = header(signed, 'authorization');
  t.equal(reasonOf(verify(without(signed, 'authorization'))), 'missing-authorization');
  t.equal(
    reasonOf(verify({ ...signed, headers: [...signed.headers, ['authorization', value]] })),
    'duplicate-authorization',
  );
  const [credential = '', headers = '', signature = ''] = value.split(', ');
  const malformed = [
    '',
    'Basic dXNlcjpwYXNz',
    value.replace('AWS4-HMAC-SHA256', 'AWS4-HMAC-SHA1'),
    value.replace('AWS4-HMAC-SHA256', 'aws4-hmac-sha256'),
    value.replace('AWS4-HMAC-SHA256 ', 'AWS4-HMAC-SHA256,'),
    value.replace('aws4_request', 'aws4_reques'),
    value.replace('/eu-west-1/', '/eu-west-1//'),
    value.replace('/20240229/', '/2024-02-29/'),
    value.replace(/[0-9a-f]{64}$/, (hex) => hex.toUpperCase()),
    value.replace(/[0-9a-f]$/, ''),
    `${value}0`,
    `${value},`,
    `${value} `,
    ` ${value}`,
    `${value}, Signature=${'0'.repeat(64)}`,
    `${credential}, ${signature}, ${headers}`,
    value.replace('SignedHeaders=', 'SignedHeaders=;'),
    value.replace(';host', ';host;'),
    value.replace(';host', ';;host'),
    value.replace('content-type;host', 'host;content-type'),
    value.replace(';host', ';host;host'),
    value.replace(';host', ';Host'),
    value.replace(';host', ';ho st'),
    value.replace('content-type', ':path;content-type'),
    value.replace('SignedHeaders=', `SignedHeaders=${'a'.repeat(authorizationLimits.charactersMax)};`),
    value.replace(
      /SignedHeaders=[^,]+/,
      `SignedHeaders=${Array.from({ length: authorizationLimits.signedHeadersMax + 1 }, (_, at) => `h${100 + at}`).join(';')}`,
    ),
  ];
  for (const text of malformed) {
    t.equal(
      reasonOf(verify(withHeader(signed, 'authorization', text))),
      'malformed-authorization',
      text.slice(0, 300),
    );
  }
});

t.test('X-A1: the spacing that AWS signers differ in is accepted', async (t) => {
  t.equal(reasonOf(verify(editAuthorization((value) => value.replaceAll(', ', ',')))), 'accepted');
  t.equal(reasonOf(verify(editAuthorization((value) => value.replace('256 C', '256  C')))), 'accepted');
});

t.test('X-A1: host and x-amz-date must be signed', async (t) => {
  const unsign = (name: string) =>
    editAuthorization((value) => value.replace(new RegExp(`;${name}(?=[;,])`), ''));
  t.equal(reasonOf(verify(unsign('host'))), 'unsigned-host');
  t.equal(reasonOf(verify(unsign('x-amz-date'))), 'unsigned-date');
  const dated = sign({
    ...unsigned,
    headers: [...unsigned.headers, ['date', 'Thu, 29 Feb 2024 23:58:00 GMT']],
  });
  t.equal(
    reasonOf(verify(editAuthorization((value) => value.replace(';x-amz-date', ''), dated))),
    'unsigned-date',
    'date does not stand in for x-amz-date',
  );
});

t.test('X-A1: only what is signed counts', async (t) => {
  const signed = sign();
  t.ok(verify({ ...signed, headers: [...signed.headers, ['x-forwarded-for', '10.0.0.1']] }).ok);
  t.ok(
    verify({ ...signed, headers: [...signed.headers].reverse() }).ok,
    'the order of headers does not matter',
  );
  const minimal = sign({ ...unsigned, headers: [['host', authority]] });
  t.match(header(minimal, 'authorization'), /SignedHeaders=host;x-amz-date,/);
  t.ok(verify(minimal).ok);
});

t.test('X-A1: a signed header that is missing or arrives twice is refused', async (t) => {
  const signed = sign();
  for (const name of ['content-type', 'x-note', 'x-amz-date']) {
    t.match(verify(without(signed, name)), {
      ok: false,
      error: { reason: 'missing-signed-header', detail: name },
    });
    const twice = { ...signed, headers: [...signed.headers, [name, header(signed, name)] as const] };
    t.match(verify(twice), { ok: false, error: { reason: 'duplicate-signed-header', detail: name } });
  }
});

t.test('X-A1: on HTTP/2 host and :authority both mean the received authority', async (t) => {
  const http2 = without(unsigned, 'host');
  const signed = sign(http2);
  t.ok(verify(signed).ok, 'signed as host');
  const asAuthority = signedByTheBook([[':authority', authority]]);
  t.match(header(asAuthority, 'authorization'), /SignedHeaders=:authority;x-amz-date,/);
  t.ok(verify(asAuthority).ok, 'signed as :authority');
  t.ok(verify({ ...asAuthority, headers: [['host', authority], ...asAuthority.headers] }).ok);
  t.equal(reasonOf(verify({ ...asAuthority, authority: 'other.example.com' })), 'signature-mismatch');

  const pseudo = signRequest(
    { ...http2, headers: [[':authority', authority], ...http2.headers] },
    { nowMs, region: 'eu-west-1', service, accessKeyId, secretAccessKey: secret },
  );
  const both = { ...http2, headers: [...http2.headers, ...pseudo] };
  t.match(header(both, 'authorization'), /SignedHeaders=:authority;content-type;host;/);
  t.ok(verify(both).ok);
  t.ok(verify({ ...both, headers: [...both.headers, ['host', authority]] }).ok, 'a host that agrees');
  t.equal(
    reasonOf(verify({ ...both, headers: [...both.headers, ['host', 'other.example.com']] })),
    'ambiguous-host',
  );
  t.equal(reasonOf(verify({ ...both, authority: 'other.example.com' })), 'signature-mismatch');
  t.equal(reasonOf(verify({ ...both, authority: null })), 'missing-signed-header');
  const twoHosts: SignedRequest = {
    ...both,
    headers: [...both.headers, ['host', authority], ['host', authority]],
  };
  t.equal(reasonOf(verify(twoHosts)), 'duplicate-signed-header');
});

t.test('X-A1: values are trimmed and their white space collapsed, as AWS does', async (t) => {
  const spaced = sign(withHeader(unsigned, 'x-note', 'as it is'));
  for (const value of ['  as it is', 'as   it is ', 'as\tit \t is']) {
    t.ok(verify(withHeader(spaced, 'x-note', value)).ok, JSON.stringify(value));
  }
  t.notOk(verify(withHeader(spaced, 'x-note', 'asit is')).ok);
});

t.test('X-A1: bytes above ASCII are hashed as received', async (t) => {
  const latin = signedByTheBook([
    ['host', authority],
    ['x-a', 'caf\u00e9'],
  ]);
  t.ok(verify(latin).ok);
  t.notOk(verify(withHeader(latin, 'x-a', 'caf\u00c3\u00a9')).ok);
});

t.test('X-A3: five minutes either way, no more', async (t) => {
  for (const skew of [0, clockSkewMaxMs, -clockSkewMaxMs]) {
    t.ok(verify(sign(), { nowMs: nowMs - skew }).ok, String(skew));
  }
  for (const skew of [clockSkewMaxMs + 1, -clockSkewMaxMs - 1, 86_400_000, -86_400_000]) {
    t.match(verify(sign(), { nowMs: nowMs - skew }), {
      ok: false,
      error: { reason: 'date-skew', clockSkewMs: skew, accessKeyId },
    });
  }
  t.ok(
    verify(sign(), { nowMs: nowMs + 3 * 60_000 }).ok,
    'over midnight the scope keeps the date of x-amz-date',
  );
});

t.test('X-A3: a date that is none is refused', async (t) => {
  for (const date of [
    '',
    '20240229',
    '20240230T000000Z',
    '20240229T250000Z',
    '2024-02-29T23:58:00Z',
    '20240229T235800z',
  ]) {
    t.equal(reasonOf(verify(withHeader(sign(), 'x-amz-date', date))), 'malformed-date', date);
  }
});

t.test('X-A3: date, region and service of the scope must be ours', async (t) => {
  const otherDate = editAuthorization((value) => value.replace('/20240229/', '/20240228/'));
  t.match(verify(otherDate), {
    ok: false,
    error: { reason: 'scope-mismatch', detail: '20240228/eu-west-1/kms-xks-proxy' },
  });
  t.equal(reasonOf(verify(sign(unsigned, { region: 'us-west-2' }))), 'scope-mismatch');
  t.equal(reasonOf(verify(sign(unsigned, { service: 'kms' }))), 'scope-mismatch');
  t.ok(verify(sign(unsigned, { region: 'us-east-1' })).ok, 'any of the Regions of the key store');
});

t.test('X-A3: an access key id that is unknown here is refused, a cached signing key or not', async (t) => {
  const signingKeys = new SigningKeyCache();
  t.ok(verify(sign(), { signingKeys }).ok);
  t.match(verify(sign(), { signingKeys, secretFor: () => null }), {
    ok: false,
    error: { reason: 'unknown-access-key', accessKeyId },
  });
  const nobodys = sign(unsigned, { secretAccessKey: new Uint8Array(44) });
  t.equal(
    reasonOf(verify(nobodys, { secretFor: () => null })),
    'unknown-access-key',
    'the stand-in opens nothing',
  );
  const zeroes = signedByTheBook([['host', authority]], new Uint8Array(32));
  t.equal(reasonOf(verify(zeroes)), 'signature-mismatch', 'nor does its signing key');
  t.equal(reasonOf(verify(zeroes, { secretFor: () => null })), 'unknown-access-key');
  t.ok(verify(signedByTheBook([['host', authority]])).ok);
});

t.test('X-A3: only a success enters the cache', async (t) => {
  const signingKeys = new SigningKeyCache();
  const wrongSecret = sign(unsigned, { secretAccessKey: Buffer.from('x'.repeat(43)) });
  t.equal(reasonOf(verify(wrongSecret, { signingKeys })), 'signature-mismatch');
  t.equal(reasonOf(verify(sign(), { signingKeys, secretFor: () => null })), 'unknown-access-key');
  t.equal(signingKeys.size, 0);
});

t.test('X-A4: a credential that is forgotten no longer counts, a new secret counts at once', async (t) => {
  const signingKeys = new SigningKeyCache();
  const renewed = Buffer.from('renewed'.padEnd(43, 'x'));
  t.ok(verify(sign(), { signingKeys }).ok);
  t.ok(verify(sign(unsigned, { secretAccessKey: renewed }), { signingKeys, secretFor: () => renewed }).ok);
  signingKeys.forget(accessKeyId);
  t.equal(signingKeys.size, 0);
  t.equal(reasonOf(verify(sign(), { signingKeys, secretFor: () => renewed })), 'signature-mismatch');
});

t.test('X-A3: every failure has the same answer, byte for byte', async (t) => {
  const failures = [
    verify(without(sign(), 'authorization')),
    verify(editAuthorization(() => 'nonsense')),
    verify(sign(unsigned, { region: 'us-west-2' })),
    verify(sign(), { nowMs: 0 }),
    verify(sign(), { secretFor: () => null }),
    verify(sign(unsigned, { secretAccessKey: Buffer.from('wrong') })),
  ];
  t.equal(new Set(failures.map(reasonOf)).size, failures.length);
  t.same(
    [...new Set(failures.map(() => `${authenticationFailed.status} ${errorBody(authenticationFailed)}`))],
    ['401 {"errorName":"AuthenticationFailedException","errorMessage":"The request is not authenticated."}'],
  );
  t.ok(Object.isFrozen(authenticationFailed));
});
