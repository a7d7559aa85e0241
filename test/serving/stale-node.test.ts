import t from 'tap';
import {
  decryptRequest,
  encryptRequest,
  metadataRequest,
  names,
  PipelineFixture,
} from '../support/pipeline-fixture.js';

/**
 * What a node may say by key state that may be out of date (replication.md, _A stale node must not lie_ and _The kill
 * switch contract_).
 */
const timeout = [503, 'DependencyTimeoutException'];
const staleMs = 2_001;

t.test('up to 2 s after the last confirmation, unknown is unknown', async (t) => {
  const fixture = new PipelineFixture();
  fixture.bootMs += staleMs - 1;
  const { status, json } = await fixture.onKey('nobody', 'metadata', metadataRequest);
  t.strictSame([status, json['errorName']], [404, 'KeyNotFoundException']);
});

t.test('a stale node does not say 404 or 401 of what it does not know', async (t) => {
  const fixture = new PipelineFixture();
  fixture.bootMs += staleMs;
  const answers = {
    key: await fixture.onKey('nobody', 'metadata', metadataRequest),
    'key to encrypt with': await fixture.onKey('nobody', 'encrypt', encryptRequest('x')),
    prefix: await fixture.call({ target: '/nobody/kms/xks/v1/health' }),
    credential: await fixture.call({ accessKeyId: 'AAAAAAAAAAAAAAAAAAAAAAAAA7' }),
  };
  for (const [what, { status, json }] of Object.entries(answers)) {
    t.strictSame([status, json['errorName']], timeout, `unknown ${what}`);
  }
});

t.test('a stale node serves what it knows, and refuses what it knows to be wrong', async (t) => {
  const fixture = new PipelineFixture();
  fixture.bootMs += staleMs;
  const encrypted = await fixture.onKey('key', 'encrypt', encryptRequest('x'));
  t.equal(encrypted.status, 200);
  t.equal((await fixture.onKey('key', 'decrypt', decryptRequest(encrypted.json))).status, 200);
  t.equal(
    (await fixture.call({ secretAccessKey: names.otherSecretAccessKey })).status,
    401,
    'a wrong signature',
  );
  t.equal(
    (await fixture.call({ accessKeyId: names.otherAccessKeyId })).status,
    401,
    "another key store's credential",
  );
  t.equal((await fixture.call({ target: '/one/nothing' })).status, 404, 'a path that no key store can have');
});

t.test('a node that may not serve says 503 to all, and the log says why', async (t) => {
  const fixture = new PipelineFixture();
  const reason = 'this node was removed from the cluster';
  fixture.freshness.standingChanged({ mayServe: false, reason, fleetSize: 1 });
  const { status, json } = await fixture.onKey('key', 'encrypt', encryptRequest('x'));
  t.strictSame([status, json['errorName']], timeout);
  t.equal(fixture.crypto.calls, 0);
  t.match(fixture.logger.last('request'), { note: reason });
});

t.test('on-isolation = stop: served until the bound, then 503 on every API of a key', async (t) => {
  const fixture = new PipelineFixture();
  fixture.stopInIsolation('one', 10_000);
  fixture.bootMs += 10_000;
  const encrypted = await fixture.onKey('key', 'encrypt', encryptRequest('x'));
  t.equal(encrypted.status, 200);
  fixture.bootMs += 1;
  for (const [action, body] of [
    ['encrypt', encryptRequest('x')],
    ['decrypt', decryptRequest(encrypted.json)],
    ['metadata', metadataRequest],
  ] as const) {
    const { status, json } = await fixture.onKey('key', action, body);
    t.strictSame([status, json['errorName']], timeout, action);
  }
  t.equal((await fixture.call({})).status, 200, 'GetHealthStatus tells of proxies and HSMs, and is true');
  t.equal(
    (await fixture.onAdopted('encrypt', encryptRequest('x'))).status,
    200,
    'a key store whose rule is to serve',
  );
  fixture.freshness.confirmed(fixture.bootMs);
  t.equal((await fixture.onKey('key', 'encrypt', encryptRequest('x'))).status, 200, 'a quorum again');
});

t.test('on-isolation = stop: checked again when the HSM has answered', async (t) => {
  const fixture = new PipelineFixture();
  fixture.stopInIsolation('one', 10_000);
  fixture.crypto.before = () => {
    fixture.bootMs += 10_001;
  };
  const { status, json } = await fixture.onKey('key', 'encrypt', encryptRequest('x'));
  t.strictSame([status, json['errorName']], timeout);
  t.equal(fixture.crypto.calls, 1, 'it was admitted');
});
