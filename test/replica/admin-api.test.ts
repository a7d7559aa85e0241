import t, { type Test } from 'tap';
import type { LogFields, Logger } from '../../src/base/logger.js';
import { err, type Result } from '../../src/base/result.js';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import { requestIdAt } from '../support/founded-cluster.js';
import { aesObject, FakeHsm } from './fake-hsm.js';
import { activeToken, type FakeServingProcess, readyReport } from './fake-serving-process.js';
import type { MemoryLog } from './memory-log.js';
import { caller, makeReplica, type ReplicaAtSeams, type SeamOptions } from './replica-at-seams.js';

interface Prepared extends ReplicaAtSeams {
  readonly fake: FakeHsm;
  readonly serving: FakeServingProcess;
}

/** One serving process with an HSM, a prepared token, a key store `store`. */
async function prepared(t: Test, options: SeamOptions = {}): Promise<Prepared> {
  const replica = await makeReplica(t, options);
  const fake = new FakeHsm();
  const serving = await replica.link({ onHsmRequest: fake.answer });
  must(await replica.run('hsm.prepare', {}));
  must(await replica.run('keystore.create', { name: 'store', regions: ['us-east-1'] }));
  return { ...replica, fake, serving };
}

function must<T, E>(result: Result<T, E>): T {
  if (!result.ok) throw new Error(JSON.stringify(result.error));
  return result.value;
}

const used = async (replica: Prepared, accessKeyId: string, atMs: number): Promise<void> => {
  replica.serving.report({ ...readyReport, credentialLastUsedMs: { [accessKeyId]: atMs } });
  const seen = async (): Promise<number | null> =>
    must(await replica.run('credential.list', {})).credentials.find(
      (candidate) => candidate.accessKeyId === accessKeyId,
    )?.lastUsedMs ?? null;
  while ((await seen()) !== atMs) await new Promise(setImmediate);
};

t.test('hsm prepare puts the token into key state once', async (t) => {
  const { run, log } = await makeReplica(t, { hsmWaitMs: 60_000 }).then(async (replica) => {
    await replica.link({ onHsmRequest: new FakeHsm().answer });
    return replica;
  });
  const [first] = must(await run('hsm.prepare', {})).tokens;
  t.equal(first?.change?.applied, true);
  t.same(first?.created, ['xksd-test', 'xksd-wrapping']);
  t.ok(log.machine.state.preparedToken('0001'));
  const [second] = must(await run('hsm.prepare', {})).tokens;
  t.equal(second?.change, null);
  t.equal(log.appliedIndex, 1);
});

t.test(
  'hsm prepare goes over every token, each with a change of its own, and says what failed',
  async (t) => {
    const replica = await makeReplica(t);
    const fakes = [new FakeHsm(), new FakeHsm('0002'), new FakeHsm('0003')];
    let isSecondAway = true;
    await replica.link({
      onHsmRequest: (request) => {
        const { id } = request;
        if (request.op !== 'prepare-token') throw new Error(request.op);
        const fake = fakes[request.place];
        if (fake === undefined) return { id, ok: false, code: 'no-such-token', message: 'none' };
        if (request.place === 1 && isSecondAway) {
          return { id, ok: false, code: 'token-unavailable', message: 'second: not logged in' };
        }
        return fake.answer({ ...request, place: 0 });
      },
    });
    const first = must(await replica.run('hsm.prepare', {}));
    t.match(first, {
      tokens: [
        { serial: '0001', change: { applied: true } },
        { serial: '0003', change: { applied: true } },
      ],
      failed: ['second: not logged in'],
    });
    isSecondAway = false;
    const second = must(await replica.run('hsm.prepare', {}));
    t.match(second, {
      tokens: [{ change: null }, { serial: '0002', change: {} }, { change: null }],
      failed: [],
    });
    t.equal(replica.log.appliedIndex, 3);
  },
);

t.test('hsm prepare ends although no answer says which token is the last', async (t) => {
  const replica = await makeReplica(t);
  let asked = 0;
  await replica.link({
    onHsmRequest: ({ id }) => {
      asked += 1;
      return { id, ok: false, code: 'failed', message: 'key state has not arrived yet' };
    },
  });
  t.match(await replica.run('hsm.prepare', {}), { ok: false, error: { code: 'failed' } });
  t.equal(asked, 10, 'once for each token that a node may have');
});

t.test('hsm test asks every process, and says which did not answer', async (t) => {
  const replica = await makeReplica(t);
  t.match(await replica.run('hsm.test', {}), { ok: false, error: { code: 'no-serving-process' } });
  const fake = new FakeHsm();
  await replica.link({ slot: 1, onHsmRequest: fake.answer });
  await replica.link({
    slot: 2,
    onHsmRequest: ({ id }) => ({ id, ok: false, code: 'failed', message: 'a bug of xksd' }),
  });
  t.match(must(await replica.run('hsm.test', {})), {
    tests: [{ process: 'serving-1', outcome: 'passed', tookMs: 1.25 }],
    failed: ['serving-2: a bug of xksd'],
  });
});

t.test('hsm probe asks every process in turn, and hands on which token is accepted', async (t) => {
  const replica = await makeReplica(t);
  t.match(await replica.run('hsm.probe', { accept: null }), { error: { code: 'no-serving-process' } });
  const fakes = [new FakeHsm(), new FakeHsm()];
  for (const [place, fake] of fakes.entries()) {
    await replica.link({ slot: place + 1, onHsmRequest: fake.answer });
  }
  await replica.link({
    slot: 3,
    onHsmRequest: ({ id }) => ({ id, ok: false, code: 'failed', message: 'no token has the serial "0001"' }),
  });
  t.match(must(await replica.run('hsm.probe', { accept: '0001' })), {
    probes: [
      { process: 'serving-1', verdict: 'accepted', cases: [{ what: 'decrypt: a wrong tag' }] },
      { process: 'serving-2', verdict: 'accepted' },
    ],
    failed: ['serving-3: no token has the serial "0001"'],
  });
  for (const fake of fakes) t.match(fake.requests, [{ op: 'probe-tokens', accept: '0001' }]);
});

t.test('hsm probe says once what several processes say', async (t) => {
  const replica = await makeReplica(t);
  for (const slot of [1, 2]) {
    await replica.link({
      slot,
      onHsmRequest: ({ id }) => ({
        id,
        ok: false,
        code: 'failed',
        message: 'no token has the serial "nope"',
      }),
    });
  }
  t.match(await replica.run('hsm.probe', { accept: 'nope' }), {
    error: { code: 'failed', message: 'serving-1, serving-2: no token has the serial "nope"' },
  });
});

t.test('key add: warned of tokens without the key, refused where one has another', async (t) => {
  const { run, fake } = await prepared(t);
  fake.objects.push(aesObject({ objectId: 'ab', label: 'spread' }), aesObject({ objectId: 'cd' }));
  fake.onTokens = [
    { token: 'one', holds: 'yes', reason: null },
    { token: 'two', holds: 'no', reason: null },
    { token: 'three', holds: 'unknown', reason: 'the PIN is wrong' },
  ];
  const added = must(await run('key.add', { keyStore: 'store', externalKeyId: 'spread', objectId: 'ab' }));
  t.match(added.warnings, [/not on two/, /on three is not known: the PIN is wrong/]);
  fake.onTokens = [
    { token: 'one', holds: 'yes', reason: null },
    { token: 'two', holds: 'another', reason: null },
  ];
  t.match(await run('key.add', { keyStore: 'store', externalKeyId: 'other', objectId: 'cd' }), {
    ok: false,
    error: { code: 'object-unsuitable', message: /another key on two/ },
  });
});

t.test('key generate passes on which token alone shall hold the key', async (t) => {
  const { run, fake } = await prepared(t);
  must(await run('key.generate', { keyStore: 'store', externalKeyId: 'k', singleToken: '0001' }));
  t.match(
    fake.requests.find(({ op }) => op === 'generate-key'),
    { singleToken: '0001' },
  );
});

t.test('key stores are created, listed, shown, disabled and enabled', async (t) => {
  const { run } = await prepared(t);
  const created = must(
    await run('keystore.create', { name: 'second', regions: ['eu-west-1'], uriPathPrefix: '/a/b/' }),
  );
  t.match(created, {
    keyStore: { name: 'second', uriPathPrefix: 'a/b', uriPath: '/a/b/kms/xks/v1', status: 'ENABLED' },
    change: { applied: true, unconfirmed: [] },
  });
  const listed = must(await run('keystore.list', {}));
  t.same(
    listed.keyStores.map(({ name }) => name),
    ['second', 'store'],
  );
  t.equal(must(await run('keystore.disable', { name: 'second' })).keyStore.status, 'DISABLED');
  t.equal(must(await run('keystore.enable', { name: 'second' })).keyStore.status, 'ENABLED');
  t.match(await run('keystore.show', { name: 'third' }), {
    ok: false,
    error: {
      code: 'not-found',
      message: 'there is no key store "third" (xksctl keystore list)',
    },
  });
  t.match(await run('keystore.create', { name: 'second', regions: ['eu-west-1'] }), {
    ok: false,
    error: { code: 'already-exists' },
  });
});

t.test('a grant on a revision that is past is refused', async (t) => {
  const { run } = await prepared(t);
  const seen = must(await run('keystore.show', { name: 'store' })).keyStore.revision;
  must(await run('keystore.disable', { name: 'store' }));
  t.match(await run('keystore.enable', { name: 'store', revision: seen }), {
    ok: false,
    error: { code: 'conflict' },
  });
  t.equal(must(await run('keystore.show', { name: 'store' })).keyStore.status, 'DISABLED');
});

/** Makes the cluster one that carries requests out once. */
async function found(log: MemoryLog): Promise<void> {
  const envelope = { requestId: caller().requestId, atMs: Date.now(), by: '' };
  const founding = { memberId: 'm', address: 'a:1', format: 2 };
  await log.propose(
    encodeCommand({ ...envelope, type: 'cluster.init', clusterId: 'c', nodeName: 'node-1', ...founding }),
  );
}

t.test(
  'a credential asked for twice under one request id is made once, and its secret shown once',
  async (t) => {
    const { run, log, now } = await prepared(t);
    await found(log);
    const requestId = requestIdAt(now.wallMs, 1);
    const { credential } = must(await run('credential.create', { keyStore: 'store' }, requestId));
    const again = await run('credential.create', { keyStore: 'store' }, requestId);
    t.match(again, {
      ok: false,
      error: {
        code: 'already-exists',
        message: new RegExp(
          `created ${credential.accessKeyId} before; its secret can't be shown again.*retire`,
        ),
      },
    });
    t.equal(log.machine.state.counts().credentials, 1);
    must(await run('credential.retire', { accessKeyId: credential.accessKeyId, force: true }));
    t.match(await run('credential.create', { keyStore: 'store' }, requestId), {
      ok: false,
      error: { message: /created a credential before, which was retired since/ },
    });
    t.match(await run('credential.create', { keyStore: 'store' }, requestIdAt(1)), {
      ok: false,
      error: { code: 'expired', message: /whether it was executed is not known any more/ },
    });
  },
);

t.test('a credential comes with its secret, once, and without it afterwards', async (t) => {
  const { run, fake, log } = await prepared(t);
  const created = must(await run('credential.create', { keyStore: 'store' }));
  const { accessKeyId } = created.credential;
  t.equal(created.secretAccessKey, fake.secrets.get(accessKeyId));
  t.equal(created.uriPath, '/store/kms/xks/v1');
  const shown = JSON.stringify([
    must(await run('credential.list', {})),
    must(await run('keystore.show', { name: 'store' })),
    must(await run('status', {})),
  ]);
  t.notOk(shown.includes(created.secretAccessKey));
  const state = Buffer.concat([...log.machine.snapshot()]).toString('latin1');
  t.notOk(state.includes(created.secretAccessKey), 'nor does key state hold it');
  t.match(await run('credential.create', { keyStore: 'none' }), { ok: false, error: { code: 'not-found' } });
});

t.test('the last credential of a key store is retired by force only (X-A4)', async (t) => {
  const { run, log } = await prepared(t);
  const { accessKeyId } = must(await run('credential.create', { keyStore: 'store' })).credential;
  t.match(await run('credential.retire', { accessKeyId }), {
    ok: false,
    error: { code: 'refused', message: /last credential of key store "store".*--force/ },
  });
  t.ok(log.machine.state.credential(accessKeyId));
  must(await run('credential.retire', { accessKeyId, force: true }));
  t.equal(log.machine.state.credential(accessKeyId), null);
  t.match(await run('credential.retire', { accessKeyId, force: true }), {
    ok: false,
    error: { code: 'not-found' },
  });
});

t.test('a credential used within 15 minutes is retired by force only, an idle one freely', async (t) => {
  const replica = await prepared(t);
  const { run, now } = replica;
  const { accessKeyId } = must(await run('credential.create', { keyStore: 'store' })).credential;
  must(await run('credential.create', { keyStore: 'store' }));
  await used(replica, accessKeyId, now.wallMs);
  now.wallMs += 15 * 60_000 - 1;
  t.match(await run('credential.retire', { accessKeyId }), {
    ok: false,
    error: { code: 'refused', message: /was last used at .*900 s ago.*--force/ },
  });
  now.wallMs += 1;
  const retired = must(await run('credential.retire', { accessKeyId }));
  t.ok(retired.credential.lastUsedMs, 'says when it was last used');
});

t.test('of the last two credentials only one is retired, however close the commands come', async (t) => {
  const { run, log } = await prepared(t);
  const propose = log.propose.bind(log);
  // A disk takes its time.
  log.propose = async (command) => {
    await new Promise(setImmediate);
    return propose(command);
  };
  const first = must(await run('credential.create', { keyStore: 'store' })).credential;
  const second = must(await run('credential.create', { keyStore: 'store' })).credential;
  const results = await Promise.all([
    run('credential.retire', { accessKeyId: first.accessKeyId }),
    run('credential.retire', { accessKeyId: second.accessKeyId }),
  ]);
  t.same(
    results.map(({ ok }) => ok),
    [true, false],
  );
  t.equal([...log.machine.state.credentials('store')].length, 1);
});

t.test('a generated key lies on the token under a label that names it', async (t) => {
  const { run, fake } = await prepared(t);
  const answer = must(
    await run('key.generate', { keyStore: 'store', externalKeyId: 'one', description: 'd' }),
  );
  const object = fake.objects.find(({ label }) => label.startsWith('xksd/store/one/'));
  t.match(answer, {
    key: { externalKeyId: 'one', status: 'ENABLED', usage: ['ENCRYPT', 'DECRYPT'], description: 'd' },
    warnings: [],
    change: { applied: true },
  });
  t.equal(answer.key.versions[0]?.objectId, object?.objectId);
  t.equal(answer.key.versions[0]?.verified, true);
});

t.test('a key asked for twice under one request id is one key, on one object', async (t) => {
  const { run, fake, log } = await prepared(t);
  await found(log);
  const before = fake.objects.length;
  const { requestId } = caller();
  const first = must(await run('key.generate', { keyStore: 'store' }, requestId));
  const again = must(await run('key.generate', { keyStore: 'store' }, requestId));
  t.equal(fake.objects.length, before + 1);
  t.strictSame(again.key, first.key);
  t.strictSame([first.change.repeated, again.change.repeated], [false, true]);
  t.equal(again.change.index, first.change.index);
});

t.test('a key whose object was made before the outcome got lost takes that object', async (t) => {
  const { run, fake, log } = await prepared(t);
  await found(log);
  const propose = log.propose.bind(log);
  log.propose = async () => err({ kind: 'unknown', reason: 'the leader ended' });
  const { requestId } = caller();
  const lost = await run('key.generate', { keyStore: 'store', externalKeyId: 'one' }, requestId);
  t.match(lost, {
    ok: false,
    error: { code: 'outcome-unknown', message: new RegExp(`--request-id ${requestId}`) },
  });
  log.propose = propose;
  const objects = fake.objects.length;
  const { key } = must(await run('key.generate', { keyStore: 'store', externalKeyId: 'one' }, requestId));
  t.equal(fake.objects.length, objects);
  t.equal(key.versions[0]?.objectId, fake.objects.find(({ label }) => label.endsWith(requestId))?.objectId);
});

t.test('an external key id that is not given is a random UUID (X-U3)', async (t) => {
  const { run } = await prepared(t);
  const one = must(await run('key.generate', { keyStore: 'store' })).key.externalKeyId;
  const two = must(await run('key.generate', { keyStore: 'store' })).key.externalKeyId;
  t.match(one, /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  t.not(one, two);
});

t.test('a name that cannot be had is refused before the token makes anything', async (t) => {
  const { run, fake } = await prepared(t);
  must(await run('key.generate', { keyStore: 'store', externalKeyId: 'one' }));
  const before = fake.objects.length;
  const refused = async (
    request: { keyStore: string; externalKeyId: string; description?: string },
    code: string,
  ) => t.match(await run('key.generate', request), { ok: false, error: { code } }, JSON.stringify(request));
  await refused({ keyStore: 'store', externalKeyId: 'one' }, 'already-exists');
  await refused({ keyStore: 'none', externalKeyId: 'two' }, 'not-found');
  await refused({ keyStore: 'store', externalKeyId: 'a/b' }, 'invalid');
  await refused({ keyStore: 'store', externalKeyId: '..' }, 'invalid');
  await refused({ keyStore: 'store', externalKeyId: 'two', description: 'x'.repeat(300) }, 'invalid');
  t.equal(fake.objects.length, before);
});

t.test('an object that was made for nothing is named', async (t) => {
  const { run, fake, log } = await prepared(t);
  const propose = log.propose.bind(log);
  log.propose = async (command) => {
    // Another operator takes the name while the token works.
    log.propose = propose;
    must(await run('key.generate', { keyStore: 'store', externalKeyId: 'one' }));
    return propose(command);
  };
  const { requestId } = caller();
  const refused = await run('key.generate', { keyStore: 'store', externalKeyId: 'one' }, requestId);
  const left = fake.objects.find(({ label }) => label === `xksd/store/one/${requestId}`);
  t.match(refused, {
    ok: false,
    error: { code: 'already-exists', message: new RegExp(`${left?.objectId}.* was left on the token`) },
  });
});

t.test('a key on the token is added by id or by label', async (t) => {
  const { run, fake } = await prepared(t);
  const object = aesObject({ label: 'theirs' });
  const other = aesObject({ label: 'other' });
  fake.objects.push(object, other);
  const byLabel = must(
    await run('key.add', { keyStore: 'store', externalKeyId: 'by-label', objectLabel: 'theirs' }),
  );
  t.equal(byLabel.key.versions[0]?.objectId, object.objectId);
  t.same(byLabel.warnings, []);
  const byId = must(
    await run('key.add', {
      keyStore: 'store',
      externalKeyId: 'by-id',
      objectId: other.objectId.toUpperCase(),
    }),
  );
  t.equal(byId.key.versions[0]?.objectId, other.objectId);
});

t.test('an object that cannot be a key of KMS is refused (X-K1)', async (t) => {
  const { run, fake, log } = await prepared(t);
  fake.objects.push(
    aesObject({ label: 'short', keyBits: 128 }),
    aesObject({ label: 'rsa', keyType: 'CKK_RSA', keyBits: 2048 }),
    aesObject({ label: 'silent', keyBits: null }),
    aesObject({ label: 'twins' }),
    aesObject({ label: 'twins' }),
    aesObject({ label: 'taken' }),
  );
  must(await run('key.add', { keyStore: 'store', externalKeyId: 'taken', objectLabel: 'taken' }));
  const index = log.appliedIndex;
  const refused = async (objectLabel: string, code: string, message: RegExp): Promise<void> => {
    t.match(await run('key.add', { keyStore: 'store', objectLabel }), {
      ok: false,
      error: { code, message },
    });
  };
  await refused('short', 'object-unsuitable', /AES key of 128 bits; KMS takes AES keys of 256 bits only/);
  await refused('rsa', 'object-unsuitable', /CKK_RSA/);
  await refused('silent', 'object-unsuitable', /does not say how long/);
  await refused('twins', 'object-ambiguous', /2 objects twins/);
  await refused('missing', 'object-not-found', /no object missing/);
  await refused('taken', 'conflict', /in use already/);
  await refused('xksd-test', 'conflict', /in use already/);
  await refused('xksd-wrapping', 'conflict', /in use already/);
  t.equal(log.appliedIndex, index, 'nothing was changed');
});

t.test('an object of partial use or weak protection is taken with a warning', async (t) => {
  const { run, fake } = await prepared(t);
  fake.objects.push(
    aesObject({ label: 'one-way', usage: ['ENCRYPT'] }),
    aesObject({ label: 'weak', extractable: true, sensitive: false }),
  );
  const oneWay = must(await run('key.add', { keyStore: 'store', objectLabel: 'one-way' }));
  t.match(oneWay.warnings, [
    /lacks CKA_DECRYPT: every decrypt with it fails, and KMS makes no KMS key on it/,
  ]);
  t.equal(oneWay.key.versions[0]?.verified, false);
  t.match(must(await run('key.add', { keyStore: 'store', objectLabel: 'weak' })).warnings, [
    /CKA_EXTRACTABLE/,
    /CKA_SENSITIVE/,
  ]);
});

t.test('keys are listed in pages', async (t) => {
  const { run, log } = await prepared(t);
  const { encodeCommand } = await import('../../src/keystate/command-codec.js');
  for (let count = 0; count < 1_001; count += 1) {
    await log.propose(
      encodeCommand({
        type: 'key.create',
        keyStore: 'store',
        externalKeyId: `key-${String(count).padStart(4, '0')}`,
        objectId: count.toString(16).padStart(32, '0'),
        witness: null,
        checkValue: null,
        usage: [],
        description: '',
        requestId: `request-${count}`,
        atMs: 0,
        by: 'test',
      }),
    );
  }
  const first = must(await run('key.list', { keyStore: 'store' }));
  t.equal(first.keys.length, 1_000);
  t.equal(first.next, 'key-0999');
  const second = must(await run('key.list', { keyStore: 'store', after: 'key-0999' }));
  t.same(
    second.keys.map(({ externalKeyId }) => externalKeyId),
    ['key-1000'],
  );
  t.equal(second.next, null);
});

t.test('a disable says which serving process has not applied it', async (t) => {
  const { run, serving, publication } = await prepared(t, { acknowledgementTimeoutMs: 20 });
  must(await run('key.generate', { keyStore: 'store', externalKeyId: 'one' }));
  // Its acknowledgement may come after the 20 ms.
  while (publication.links().some(({ appliedIndex }) => appliedIndex < 3))
    await new Promise((resolve) => setImmediate(resolve));
  serving.silent = true;
  const answer = must(await run('key.disable', { keyStore: 'store', externalKeyId: 'one' }));
  t.equal(answer.key.status, 'DISABLED');
  t.match(answer.change, {
    applied: false,
    unconfirmed: [{ process: 'serving-1', pid: process.pid, connected: true }],
  });
  const status = must(await run('status', {}));
  t.match(status.degraded.join('\n'), /serving-1 has applied index 3, the replica 4/);
});

t.test('status tells what wants a look, and nothing else', async (t) => {
  const replica = await makeReplica(t);
  replica.fleet.configured = 2;
  t.same(must(await replica.run('status', {})).degraded, [
    'no serving process is ready: this node serves no request',
    '0 of 2 serving processes are connected',
  ]);
  const reason = 'no usable token (fake: the PIN was refused)';
  const ill = { ...activeToken, state: 'UNAVAILABLE', reason: 'the PIN was refused' } as const;
  const early = await Promise.all([1, 2].map((slot) => replica.link({ slot })));
  const unheard = must(await replica.run('status', {}));
  t.strictSame(
    unheard.serving.map(({ ready }) => ready),
    [null, null],
    'a replica that has just started does not know',
  );
  t.same(unheard.degraded, ['serving-1, serving-2: not heard of since the replica started']);
  for (const serving of early) {
    serving.report({ ...readyReport, readiness: { ready: false, reason }, tokens: [ill] });
  }
  while (must(await replica.run('status', {})).tokens.length === 0) await new Promise(setImmediate);
  t.same(
    must(await replica.run('status', {})).degraded,
    [
      'no serving process is ready: this node serves no request',
      `serving-1, serving-2: not ready: ${reason}`,
      'token fake is UNAVAILABLE',
    ],
    'each reason once, and no advice that cannot be followed',
  );
  const fake = new FakeHsm();
  for (const slot of [1, 2]) {
    const serving = await replica.link({ slot, onHsmRequest: fake.answer });
    serving.report(readyReport);
  }
  must(await replica.run('hsm.prepare', {}));
  while (must(await replica.run('status', {})).serving.some(({ ready }) => !ready)) {
    await new Promise(setImmediate);
  }
  const status = must(await replica.run('status', {}));
  t.same(status.degraded, []);
  t.equal(status.tokens.length, 1, 'a token that two processes use is one token');
});

t.test('a login goes from process to process and stops at the first refusal', async (t) => {
  const replica = await makeReplica(t);
  const asked: number[] = [];
  for (const slot of [1, 2]) {
    await replica.link({
      slot,
      onHsmRequest: ({ id, op }) => {
        if (op === 'retry-login') asked.push(slot);
        return { id, ok: false, code: 'token-unavailable', message: 'CKR_PIN_INCORRECT' };
      },
    });
  }
  t.match(await replica.run('hsm.login', {}), {
    ok: false,
    error: { message: 'serving-1: CKR_PIN_INCORRECT' },
  });
  t.same(asked, [1], 'each attempt counts on the HSM');
});

t.test(
  'a login that failed on one of several tokens is told with the others, and goes no further',
  async (t) => {
    const replica = await makeReplica(t);
    const asked: number[] = [];
    const silent = {
      ...activeToken,
      serial: 'b',
      state: 'UNAVAILABLE',
      reason: 'it does not answer',
    } as const;
    for (const slot of [1, 2, 3]) {
      await replica.link({
        slot,
        onHsmRequest: ({ id }) => {
          asked.push(slot);
          return { id, ok: true, value: { tokens: [activeToken, silent] } };
        },
      });
    }
    t.match(must(await replica.run('hsm.login', {})), {
      processes: [
        { process: 'serving-1', token: { state: 'ACTIVE' } },
        { process: 'serving-1', token: { serial: 'b', reason: 'it does not answer' } },
      ],
      notAsked: ['serving-2', 'serving-3'],
    });
    t.same(asked, [1]);
  },
);

t.test('only the first process that logs in forgets what the token refused', async (t) => {
  const replica = await makeReplica(t);
  const asked: unknown[] = [];
  for (const slot of [1, 2]) {
    const fake = new FakeHsm();
    await replica.link({
      slot,
      onHsmRequest: (request) => {
        if (request.op === 'retry-login') asked.push([slot, request.forgive]);
        return fake.answer(request);
      },
    });
  }
  must(await replica.run('hsm.login', {}));
  t.same(asked, [
    [1, true],
    [2, false],
  ]);
});

t.test('a change is logged with who asked, and its secret never', async (t) => {
  const lines: { readonly message: string; readonly fields: LogFields }[] = [];
  const note = (message: string, fields: LogFields = {}): void => void lines.push({ message, fields });
  const logger: Logger = { debug: note, info: note, warn: note, error: note, child: () => logger };
  const { run } = await prepared(t, { logger });
  const { secretAccessKey } = must(await run('credential.create', { keyStore: 'store' }));
  const line = lines.find(({ fields }) => fields['command'] === 'credential.create');
  t.match(line, { message: 'key state changed', fields: { by: 'uid=0', keyStore: 'store' } });
  t.notOk(JSON.stringify(lines).includes(secretAccessKey));
});

t.test('a malformed or unknown command is answered, not obeyed', async (t) => {
  const { api, log } = await makeReplica(t);
  const run = (command: string, body: unknown) => api.run(command, body, { ...caller(), uid: null });
  t.match(await run('keystore.destroy', {}), { ok: false, error: { code: 'unknown-command' } });
  t.match(await run('constructor', {}), { ok: false, error: { code: 'unknown-command' } });
  for (const body of [
    null,
    [],
    1,
    { name: 1, regions: ['x'] },
    { name: 'a' },
    { name: 'a', regions: ['x'], extra: 1 },
  ]) {
    t.match(await run('keystore.create', body), { ok: false, error: { code: 'bad-request' } });
  }
  t.match(await run('key.add', { keyStore: 'a', objectId: 'aa', objectLabel: 'b' }), {
    ok: false,
    error: { code: 'bad-request', message: /exactly one/ },
  });
  t.equal(log.appliedIndex, 0);
});
