import t from 'tap';
import type { HttpAnswer, HttpRequest } from '../../src/serving/http/exchange.js';
import {
  type Call,
  decryptRequest,
  encryptRequest,
  metadataRequest,
  names,
  PipelineFixture,
} from '../support/pipeline-fixture.js';

/**
 * What can be wrong with one and the same Encrypt, in the order of the pipeline (architecture.md, One request). Each
 * step's fault is shown together with all faults of the steps after it, so that it must win over them.
 */
interface Step {
  readonly name: string;
  readonly call?: (call: Call) => Call;
  readonly fixture?: (fixture: PipelineFixture) => void;
  readonly expected: readonly [status: number, errorName: string];
}

const target = `/${names.prefix}/kms/xks/v1/keys/encrypt-only/encrypt`;

const steps: readonly Step[] = [
  {
    name: 'X-U4: a path that nobody serves',
    call: (call) => ({ ...call, target: '/kms/xks/v2/health' }),
    expected: [404, 'InvalidUriPathException'],
  },
  {
    name: 'X-T4: a method other than POST, before authentication',
    call: (call) => ({ ...call, method: 'GET' }),
    expected: [405, 'UnsupportedOperationException'],
  },
  {
    name: 'no key state yet',
    fixture: (fixture) => {
      fixture.state = null;
    },
    expected: [503, 'DependencyTimeoutException'],
  },
  {
    name: 'X-U4: an unknown prefix, signed or not',
    call: (call) => ({ ...call, target: target.replace(names.prefix, 'nobody') }),
    expected: [404, 'InvalidUriPathException'],
  },
  {
    name: 'no cluster secret: never 401',
    fixture: (fixture) => fixture.secrets.wipe(),
    expected: [503, 'DependencyTimeoutException'],
  },
  {
    name: 'X-A5: a bad signature, before the body is looked at',
    call: (call) => ({ ...call, secretAccessKey: names.otherSecretAccessKey }),
    expected: [401, 'AuthenticationFailedException'],
  },
  {
    name: 'X-E1: a malformed body',
    call: (call) => ({ ...call, body: '{"plaintext":' }),
    expected: [400, 'ValidationException'],
  },
  {
    name: 'not looked at in time',
    call: (call) => ({ ...call, receivedAtMs: -151 }),
    expected: [429, 'ThrottlingException'],
  },
  {
    name: 'a disabled key store',
    fixture: (fixture) => fixture.apply({ type: 'keystore.disable', name: 'one' }),
    expected: [400, 'InvalidStateException'],
  },
  {
    name: 'a disabled key',
    fixture: (fixture) =>
      fixture.apply({ type: 'key.disable', keyStore: 'one', externalKeyId: 'encrypt-only' }),
    expected: [400, 'InvalidStateException'],
  },
  {
    name: 'X-E4: a key that cannot decrypt, asked for an integrity value',
    call: (call) => ({
      ...call,
      body:
        typeof call.body === 'string'
          ? call.body
          : encryptRequest('secret', { ciphertextDataIntegrityValueAlgorithm: 'SHA_256' }),
    }),
    expected: [400, 'InvalidKeyUsageException'],
  },
  {
    name: 'a failing HSM',
    fixture: (fixture) => {
      fixture.crypto.failure = { kind: 'failed', rv: 'CKR_DEVICE_ERROR', functionName: 'C_Encrypt' };
    },
    expected: [500, 'InternalException'],
  },
];

for (const [index, step] of steps.entries()) {
  t.test(`${step.name}: comes before all that follows`, async (t) => {
    const fixture = new PipelineFixture();
    let call: Call = { target, body: encryptRequest('secret') };
    // The last fault of a kind to be set is the one to be seen: from the end to this step.
    for (const later of steps.slice(index).reverse()) {
      call = later.call?.(call) ?? call;
      later.fixture?.(fixture);
    }
    const answer = await fixture.call(call);
    t.strictSame([answer.status, answer.json['errorName']], step.expected);
    t.equal(fixture.observations.length, 1, 'counted once');
    t.equal(fixture.observations[0]?.exception, step.expected[1]);
    t.equal(fixture.logger.lines.filter(({ message }) => message === 'request').length, 1, 'logged once');
    if (step.name !== 'a failing HSM') t.equal(fixture.crypto.calls, 0, 'the HSM was not asked');
  });
}

t.test('without any fault it is answered', async (t) => {
  const answer = await new PipelineFixture().call({ target, body: encryptRequest('secret') });
  t.equal(answer.status, 200);
});

t.test('X-T4: 405 goes with Allow: POST', async (t) => {
  const answer = await new PipelineFixture().call({ method: 'GET', signed: false });
  t.equal(answer.status, 405);
  t.strictSame(answer.headers, { allow: 'POST' });
});

t.test('X-A3: all authentication failures are the same answer, byte for byte', async (t) => {
  const fixture = new PipelineFixture();
  const without = (name: string) => (request: HttpRequest) => ({
    ...request,
    headers: request.headers.filter(([header]) => header !== name),
  });
  const calls: Readonly<Record<string, Call>> = {
    unsigned: { signed: false },
    'unknown access key': { accessKeyId: 'ZZZZZZZZZZZZZZZZZZZZZZZZZZ' },
    'a credential of another prefix': {
      accessKeyId: names.otherAccessKeyId,
      secretAccessKey: names.otherSecretAccessKey,
    },
    'wrong secret': { secretAccessKey: names.otherSecretAccessKey },
    'another Region': { region: 'us-east-1' },
    'too old': { skewMs: -5 * 60_000 - 1_000 },
    'too new': { skewMs: 5 * 60_000 + 1_000 },
    'no date': { tamper: without('x-amz-date') },
    'body changed': { tamper: (request) => ({ ...request, body: Buffer.from('{}') }) },
    'path changed': {
      tamper: (request) => ({ ...request, target: `/${names.prefix}/kms/xks/v1/keys/key/encrypt` }),
    },
    'key that does not exist': {
      target: `/${names.prefix}/kms/xks/v1/keys/no-such-key/encrypt`,
      secretAccessKey: names.otherSecretAccessKey,
    },
    'disabled key store': {
      target: '/other/kms/xks/v1/health',
      secretAccessKey: names.secretAccessKey,
    },
  };
  fixture.apply({ type: 'keystore.disable', name: 'other' });
  const seen = new Set<string>();
  for (const [name, call] of Object.entries(calls)) {
    const answer = await fixture.handler(fixture.request(call));
    seen.add(JSON.stringify({ ...answer, body: Buffer.from(answer.body).toString('hex') }));
    t.equal(answer.status, 401, name);
    t.ok(fixture.logger.last('request')?.['authFailure'], `${name}: the log says why`);
  }
  t.equal(seen.size, 1);
  t.equal(fixture.authFailures.length, Object.keys(calls).length, 'counted by reason');
  t.strictSame(fixture.used, [], 'no credential was used');
});

t.test('X-A3: a secret that was sealed for another cluster is our fault, not the caller’s', async (t) => {
  const fixture = new PipelineFixture();
  fixture.secrets.install(new Uint8Array(32).fill(9));
  const answer = await fixture.call();
  t.strictSame([answer.status, answer.json['errorName']], [500, 'InternalException']);
});

t.test('X-A4: several credentials work at once, and a retired one no more', async (t) => {
  const fixture = new PipelineFixture();
  const second = { accessKeyId: 'DDDDDDDDDDDDDDDDDDDDDDDDD5', secretAccessKey: names.otherSecretAccessKey };
  t.equal((await fixture.call(second)).status, 401, 'not yet');
  fixture.addCredential('one', second.accessKeyId, second.secretAccessKey);
  t.equal((await fixture.call(second)).status, 200);
  t.equal((await fixture.call()).status, 200);
  fixture.apply({ type: 'credential.retire', keyStore: 'one', accessKeyId: names.accessKeyId });
  t.equal((await fixture.call()).status, 401);
  t.equal((await fixture.call(second)).status, 200);
  t.strictSame(fixture.used, [second.accessKeyId, names.accessKeyId, second.accessKeyId]);
});

t.test('X-X1: a bug inside answers 500 in JSON, and the log says where', async (t) => {
  const fixture = new PipelineFixture();
  fixture.crypto.before = () => {
    throw new TypeError('a bug');
  };
  const answer = await fixture.onKey('key', 'encrypt', encryptRequest('secret'));
  t.strictSame([answer.status, answer.json['errorName']], [500, 'InternalException']);
  t.notMatch(answer.text, /a bug/, 'the caller is not told');
  const logged = fixture.logger.last('a bug ended a request')?.['error'];
  t.ok(logged instanceof TypeError);
  t.equal((await fixture.call()).status, 200, 'the next one is served');
});

t.test('X-X1: error messages are printable ASCII below 512 characters', async (t) => {
  const fixture = new PipelineFixture();
  fixture.crypto.failure = { kind: 'failed', rv: `CKR_\u00e9${'X'.repeat(600)}`, functionName: 'C_Encrypt' };
  const { json } = await fixture.onKey('key', 'encrypt', encryptRequest('secret'));
  t.match(json['errorMessage'], /^[\x20-\x7e]{1,511}$/);
});

t.test(
  'X-L2: whatever the answer, the body of the request is wiped, and the server is told what to wipe',
  async (t) => {
    const fixture = new PipelineFixture();
    const keys = `/${names.prefix}/kms/xks/v1/keys`;
    const { json } = await fixture.onKey('key', 'encrypt', encryptRequest('secret'));
    const calls: [string, Call, number, HttpAnswer['authenticated'], HttpAnswer['secret']][] = [
      ['health', {}, 200, true, undefined],
      ['metadata', { target: `${keys}/key/metadata`, body: metadataRequest }, 200, true, undefined],
      ['encrypt', { target: `${keys}/key/encrypt`, body: encryptRequest('x') }, 200, true, undefined],
      ['decrypt', { target: `${keys}/key/decrypt`, body: decryptRequest(json) }, 200, true, true],
      ['no key', { target: `${keys}/none/decrypt`, body: decryptRequest(json) }, 404, true, undefined],
      ['broken', { target: `${keys}/key/decrypt`, body: 'not JSON' }, 400, true, undefined],
      ['no path', { target: '/nowhere', body: encryptRequest('x') }, 404, undefined, undefined],
      [
        'forged',
        { target: `${keys}/key/encrypt`, body: encryptRequest('x'), secretAccessKey: 'x'.repeat(44) },
        401,
        undefined,
        undefined,
      ],
    ];
    for (const [name, call, status, authenticated, secret] of calls) {
      const request = fixture.request(call);
      const answer = await fixture.handler(request);
      t.strictSame(
        [answer.status, answer.authenticated, answer.secret],
        [status, authenticated, secret],
        name,
      );
      t.ok(
        request.body.every((byte) => byte === 0),
        `${name}: wiped`,
      );
    }
  },
);

t.test('X-A4: a credential that is retired while the HSM works vouches for no connection', async (t) => {
  const fixture = new PipelineFixture();
  fixture.crypto.before = () => {
    fixture.apply({ type: 'credential.retire', keyStore: 'one', accessKeyId: names.accessKeyId });
  };
  const target = `/${names.prefix}/kms/xks/v1/keys/key/encrypt`;
  const answer = await fixture.handler(fixture.request({ target, body: encryptRequest('x') }));
  t.strictSame([answer.status, answer.authenticated], [401, undefined]);
});
