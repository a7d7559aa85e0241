import { createHash } from 'node:crypto';
import t from 'tap';
import { witnessAad } from '../../src/hsm/witness.js';
import { frameAad } from '../../src/xks/gcm-aad.js';
import {
  decryptRequest,
  encryptRequest,
  healthRequest,
  keyMetadata,
  metadataRequest,
  names,
  PipelineFixture,
  tokenStatus,
} from '../support/pipeline-fixture.js';

const secret = 'a very secret plaintext that no log may hold';
const base64 = (bytes: Uint8Array | string): string => Buffer.from(bytes).toString('base64');
const bytesOf = (text: unknown): Buffer => Buffer.from(String(text), 'base64');
const cdivAsked = { ciphertextDataIntegrityValueAlgorithm: 'SHA_256' };
const aad = base64('project=nile');

t.test('X-E2, X-D2: what is encrypted decrypts', async (t) => {
  const fixture = new PipelineFixture();
  for (const plaintext of ['', secret, Buffer.alloc(4_300, 7)]) {
    const encrypted = await fixture.onKey('key', 'encrypt', encryptRequest(plaintext));
    t.equal(encrypted.status, 200);
    const { json } = encrypted;
    t.equal(bytesOf(json['ciphertext']).byteLength, plaintext.length, 'as long as the plaintext');
    t.equal(bytesOf(json['initializationVector']).byteLength, 12);
    t.equal(bytesOf(json['authenticationTag']).byteLength, 16);
    t.notOk('ciphertextDataIntegrityValue' in json, 'not asked for');
    const decrypted = await fixture.onKey('key', 'decrypt', decryptRequest(json));
    t.strictSame(decrypted.json, { plaintext: base64(plaintext) });
  }
});

t.test('X-E1: 8,192 bytes of AAD', async (t) => {
  const fixture = new PipelineFixture();
  const additionalAuthenticatedData = base64(Buffer.alloc(8_192, 1));
  const { json } = await fixture.onKey(
    'key',
    'encrypt',
    encryptRequest(secret, { additionalAuthenticatedData }),
  );
  const decrypted = await fixture.onKey(
    'key',
    'decrypt',
    decryptRequest(json, { additionalAuthenticatedData }),
  );
  t.equal(decrypted.status, 200);
  t.equal(
    (await fixture.onKey('key', 'decrypt', decryptRequest(json))).json['errorName'],
    'InvalidCiphertextException',
  );
});

t.test('X-E2a: the metadata is 01 and the key version', async (t) => {
  const fixture = new PipelineFixture();
  const { json } = await fixture.onKey('key', 'encrypt', encryptRequest(secret));
  t.equal(bytesOf(json['ciphertextMetadata']).toString('hex'), '0100000001');
});

t.test(
  'X-E2a: metadata of an unknown format or version is a bad ciphertext, without asking the HSM',
  async (t) => {
    const fixture = new PipelineFixture();
    const { json } = await fixture.onKey('key', 'encrypt', encryptRequest(secret));
    const calls = fixture.crypto.calls;
    for (const metadata of [
      '',
      '01',
      '0000000001',
      '0200000001',
      '0100000000',
      '0100000002',
      '010000000100',
    ]) {
      const ciphertextMetadata = Buffer.from(metadata, 'hex').toString('base64');
      const answer = await fixture.onKey('key', 'decrypt', decryptRequest(json, { ciphertextMetadata }));
      t.strictSame([answer.status, answer.json['errorName']], [400, 'InvalidCiphertextException'], metadata);
    }
    t.equal(fixture.crypto.calls, calls);
  },
);

t.test('X-E2a: a version that a stale node does not know is 503', async (t) => {
  const fixture = new PipelineFixture();
  const { json } = await fixture.onKey('key', 'encrypt', encryptRequest(secret));
  fixture.bootMs += 2_001;
  const call = (metadata: string) => {
    const ciphertextMetadata = Buffer.from(metadata, 'hex').toString('base64');
    return fixture.onKey('key', 'decrypt', decryptRequest(json, { ciphertextMetadata }));
  };
  const unknown = await call('0100000002');
  t.strictSame([unknown.status, unknown.json['errorName']], [503, 'DependencyTimeoutException']);
  t.equal((await call('0100000001')).status, 200, 'what it knows it serves');
  t.equal((await call('0200000001')).status, 400, 'no key state would make sense of another format');
});

t.test('X-E3: the AAD is framed together with the metadata', async (t) => {
  const fixture = new PipelineFixture();
  const { json } = await fixture.onKey(
    'key',
    'encrypt',
    encryptRequest(secret, { additionalAuthenticatedData: aad }),
  );
  const metadata = bytesOf(json['ciphertextMetadata']);
  t.strictSame(
    Buffer.from(fixture.crypto.encrypts[0]?.gcmAad ?? []).toString('latin1'),
    `\0\x0cproject=nile\x05\x01\0\0\0\x01`,
  );
  const withoutMetadata = decryptRequest({ ...json }, { additionalAuthenticatedData: aad });
  delete (withoutMetadata as Record<string, unknown>)['ciphertextMetadata'];
  t.equal((await fixture.onKey('key', 'decrypt', withoutMetadata)).status, 400, 'metadata dropped');
  t.strictSame(
    Buffer.from(fixture.crypto.decrypts.at(-1)?.gcmAad ?? []).toString('latin1'),
    '\0\x0cproject=nile\0',
    'the same layout with length 0',
  );
  const framed = base64(frameAad(bytesOf(aad), metadata));
  const moved = { ...withoutMetadata, additionalAuthenticatedData: framed };
  t.equal((await fixture.onKey('key', 'decrypt', moved)).status, 400, 'metadata moved into the AAD');
});

t.test('X-E3: what an adopted key store brought along is decrypted under the AAD as it is', async (t) => {
  const fixture = new PipelineFixture();
  const objectId = Buffer.from('adopted/key').toString('hex');
  const key = { objectId: objectId as never, witness: null };
  const foreign = async (gcmAad: Uint8Array) => {
    const operation = { key, plaintext: Buffer.from(secret), gcmAad, integrityPrefix: null, verify: false };
    const encrypted = await fixture.crypto.encrypt(operation);
    if (!encrypted.ok) throw new Error('no encryption');
    const { ciphertext, iv, tag } = encrypted.value;
    return {
      ciphertext: base64(ciphertext),
      initializationVector: base64(iv),
      authenticationTag: base64(tag),
    };
  };
  const brought = await foreign(bytesOf(aad));
  const decrypted = await fixture.onAdopted(
    'decrypt',
    decryptRequest(brought, { additionalAuthenticatedData: aad }),
  );
  t.strictSame(decrypted.json, { plaintext: base64(secret) });

  const own = await fixture.onAdopted(
    'encrypt',
    encryptRequest(secret, { additionalAuthenticatedData: aad }),
  );
  const ownDecrypt = decryptRequest(own.json, { additionalAuthenticatedData: aad });
  t.strictSame((await fixture.onAdopted('decrypt', ownDecrypt)).json, { plaintext: base64(secret) });

  const calls = fixture.crypto.calls;
  const witness = await foreign(witnessAad);
  const refused = await fixture.onAdopted(
    'decrypt',
    decryptRequest(witness, { additionalAuthenticatedData: base64(witnessAad) }),
  );
  t.equal(refused.json['errorName'], 'InvalidCiphertextException', 'no witness is decrypted for a caller');
  t.equal(fixture.crypto.calls, calls + 1, 'the HSM made the witness and was not asked again');
});

t.test('X-E4: the integrity value covers aad, metadata, iv, ciphertext and tag', async (t) => {
  const fixture = new PipelineFixture();
  const more = { ...cdivAsked, additionalAuthenticatedData: aad };
  const { json } = await fixture.onKey('key', 'encrypt', encryptRequest(secret, more));
  const covered = ['ciphertextMetadata', 'initializationVector', 'ciphertext', 'authenticationTag'];
  const hash = createHash('sha256').update(bytesOf(aad));
  for (const field of covered) hash.update(bytesOf(json[field]));
  t.equal(json['ciphertextDataIntegrityValue'], hash.digest('base64'));
});

t.test('X-E4: verified whenever the key can decrypt, by the usage pinned in key state', async (t) => {
  const fixture = new PipelineFixture();
  await fixture.onKey('key', 'encrypt', encryptRequest(secret));
  await fixture.onKey('key', 'encrypt', encryptRequest(secret, cdivAsked));
  await fixture.onKey('encrypt-only', 'encrypt', encryptRequest(secret));
  t.strictSame(
    fixture.crypto.encrypts.map(({ verify, integrityPrefix }) => [verify, integrityPrefix !== null]),
    [
      [true, false],
      [true, true],
      [false, false],
    ],
  );
});

t.test('X-E4: what a key may not do is an InvalidKeyUsageException, and the HSM is not asked', async (t) => {
  const fixture = new PipelineFixture();
  const encrypted = await fixture.onKey('key', 'encrypt', encryptRequest(secret));
  const calls = fixture.crypto.calls;
  const body = decryptRequest(encrypted.json);
  for (const [key, action, request] of [
    ['encrypt-only', 'encrypt', encryptRequest(secret, cdivAsked)],
    ['encrypt-only', 'decrypt', body],
    ['decrypt-only', 'encrypt', encryptRequest(secret)],
    ['impotent', 'encrypt', encryptRequest(secret)],
    ['impotent', 'decrypt', body],
  ] as const) {
    const answer = await fixture.onKey(key, action, request);
    t.strictSame(
      [answer.status, answer.json['errorName']],
      [400, 'InvalidKeyUsageException'],
      `${key} ${action}`,
    );
  }
  t.equal(fixture.crypto.calls, calls);
  t.equal((await fixture.onKey('encrypt-only', 'encrypt', encryptRequest(secret))).status, 200);
});

t.test('X-D2: a changed ciphertext, iv, tag or AAD is an InvalidCiphertextException', async (t) => {
  const fixture = new PipelineFixture();
  const { json } = await fixture.onKey('key', 'encrypt', encryptRequest(secret));
  for (const field of ['ciphertext', 'initializationVector', 'authenticationTag']) {
    const changed = bytesOf(json[field]);
    changed[0] = (changed[0] ?? 0) ^ 1;
    const answer = await fixture.onKey('key', 'decrypt', decryptRequest(json, { [field]: base64(changed) }));
    t.strictSame([answer.status, answer.json['errorName']], [400, 'InvalidCiphertextException'], field);
  }
  const other = await fixture.onKey(
    'key',
    'decrypt',
    decryptRequest(json, { additionalAuthenticatedData: aad }),
  );
  t.equal(other.json['errorName'], 'InvalidCiphertextException');
});

t.test('X-K1, X-K2: metadata of every key, a disabled one too', async (t) => {
  const fixture = new PipelineFixture();
  const metadata = async (key: string) => (await fixture.onKey(key, 'metadata', metadataRequest)).json;
  t.strictSame(await metadata('key'), {
    keySpec: 'AES_256',
    keyUsage: ['ENCRYPT', 'DECRYPT'],
    keyStatus: 'ENABLED',
  });
  t.match(await metadata('impotent'), { keyUsage: ['SIGN', 'VERIFY'] });
  t.match(await metadata('no-such-key'), { errorName: 'KeyNotFoundException' });
  fixture.apply({ type: 'key.disable', keyStore: 'one', externalKeyId: 'key' });
  t.match(await metadata('key'), { keyStatus: 'DISABLED' });
  t.match((await fixture.onKey('key', 'encrypt', encryptRequest(secret))).json, {
    errorName: 'InvalidStateException',
  });
  t.equal(fixture.crypto.calls, 0);
});

t.test('X-K1: metadata is answered while the HSM is down', async (t) => {
  const fixture = new PipelineFixture();
  fixture.crypto.failure = { kind: 'token-unavailable', rv: null, functionName: null };
  t.equal((await fixture.onKey('key', 'metadata', metadataRequest)).status, 200);
});

t.test('a key of another key store is not found', async (t) => {
  const fixture = new PipelineFixture();
  const answer = await fixture.call({
    target: '/other/kms/xks/v1/keys/key/encrypt',
    accessKeyId: names.otherAccessKeyId,
    secretAccessKey: names.otherSecretAccessKey,
    body: encryptRequest(secret),
  });
  t.strictSame([answer.status, answer.json['errorName']], [404, 'KeyNotFoundException']);
});

t.test('a disabled key store refuses every API', async (t) => {
  const fixture = new PipelineFixture();
  fixture.apply({ type: 'keystore.disable', name: 'one' });
  const answers = [
    await fixture.call(),
    await fixture.onKey('key', 'metadata', metadataRequest),
    await fixture.onKey('key', 'encrypt', encryptRequest(secret)),
    await fixture.onKey('no-such-key', 'metadata', metadataRequest),
  ];
  for (const { status, json } of answers) {
    t.strictSame([status, json['errorName']], [400, 'InvalidStateException']);
  }
});

t.test('what is disabled while the HSM works gets no answer made with it', async (t) => {
  const fixture = new PipelineFixture();
  const { json } = await fixture.onKey('key', 'encrypt', encryptRequest(secret));
  const changes = [
    () => fixture.apply({ type: 'key.disable', keyStore: 'one', externalKeyId: 'key' }),
    () => fixture.apply({ type: 'keystore.disable', name: 'one' }),
    () => fixture.apply({ type: 'credential.retire', keyStore: 'one', accessKeyId: names.accessKeyId }),
  ];
  const revision = () => fixture.state?.appliedIndex ?? 0;
  const undo = [
    () => fixture.apply({ type: 'key.enable', keyStore: 'one', externalKeyId: 'key', revision: revision() }),
    () => fixture.apply({ type: 'keystore.enable', name: 'one', revision: revision() }),
    () => {},
  ];
  const expected = ['InvalidStateException', 'InvalidStateException', 'AuthenticationFailedException'];
  for (const [index, change] of changes.entries()) {
    let done = false;
    fixture.crypto.before = () => {
      if (!done) change();
      done = true;
    };
    const refused = await fixture.onKey('key', 'decrypt', decryptRequest(json));
    t.equal(refused.json['errorName'], expected[index]);
    t.notMatch(refused.text, base64(secret));
    undo[index]?.();
  }
  t.equal(fixture.crypto.decrypts.length, 3, 'the HSM did work each time');
});

t.test('X-H1, X-H2: health tells who we are and how the tokens do', async (t) => {
  const fixture = new PipelineFixture();
  t.strictSame((await fixture.call()).json, {
    xksProxyFleetSize: 1,
    xksProxyVendor: 'xksd',
    xksProxyModel: 'xksd 9.9.9',
    ekmVendor: 'Example Corp',
    ekmFleetDetails: [{ id: '0123456789abcdef', model: 'Model X', healthStatus: 'ACTIVE' }],
  });
  t.equal(fixture.crypto.calls, 0, 'X-H3: from what is known');
});

t.test('X-H3: 200 with the truth when the HSM is down, outside overload control', async (t) => {
  const fixture = new PipelineFixture({ inFlightMax: 0 });
  fixture.tokens = [
    tokenStatus({ serial: null, label: null, model: null, manufacturer: null, state: 'UNAVAILABLE' }),
  ];
  const { status, json } = await fixture.call({ receivedAtMs: -10_000 });
  t.equal(status, 200);
  t.strictSame(json['ekmFleetDetails'], [
    { id: 'pkcs11:token=soft', model: 'unknown', healthStatus: 'UNAVAILABLE' },
  ]);
});

t.test('X-H3: of more than ten tokens the ten worst', async (t) => {
  const fixture = new PipelineFixture();
  const states = ['ACTIVE', 'DEGRADED', 'UNAVAILABLE'] as const;
  fixture.tokens = Array.from({ length: 15 }, (_, i) =>
    tokenStatus({ serial: `${i}`, state: states[i % 3] ?? 'ACTIVE' }),
  );
  const { json } = await fixture.call();
  const shown = (json['ekmFleetDetails'] as { healthStatus: string }[]).map(
    ({ healthStatus }) => healthStatus,
  );
  t.strictSame(shown, [...Array(5).fill('UNAVAILABLE'), ...Array(5).fill('DEGRADED')]);
});

t.test('X-M2, X-L2: all metadata is logged, with operation, key, HSM, duration and outcome', async (t) => {
  const fixture = new PipelineFixture();
  const requestMetadata = { ...keyMetadata, kmsOperation: 'Unheard-of', novelty: 'x', kmsViaService: 'ebs' };
  fixture.crypto.before = () => fixture.time.advance(12.5);
  const answer = await fixture.onKey('key', 'encrypt', { ...encryptRequest(secret), requestMetadata });
  t.equal(answer.status, 200);
  t.match(fixture.logger.last('request'), {
    operation: 'Encrypt',
    keyStore: 'one',
    externalKeyId: 'key',
    outcome: 'ok',
    status: 200,
    durationMs: 12.5,
    hsm: '0123456789abcdef',
    hsmMs: 12.5,
    accessKeyId: names.accessKeyId,
    requestMetadata,
    remoteAddress: '192.0.2.1',
  });
  t.strictSame(fixture.observations, [
    { operation: 'Encrypt', keyStore: 'one', exception: '', errorType: '', durationSeconds: 0.0125 },
  ]);
});

t.test('a path that no key store serves is logged as it came, and only such a path', async (t) => {
  const fixture = new PipelineFixture();
  const target = '/nobody/kms/xks/v1/health';
  await fixture.call({ target, body: healthRequest });
  t.match(fixture.logger.last('request'), { operation: 'GetHealthStatus', keyStore: null, target });
  await fixture.call({ body: healthRequest });
  t.notMatch(fixture.logger.last('request'), { target: String });
});

t.test('X-L2: no log holds a plaintext, a secret or an Authorization header', async (t) => {
  const fixture = new PipelineFixture();
  const { json } = await fixture.onKey('key', 'encrypt', encryptRequest(secret));
  await fixture.onKey('key', 'decrypt', decryptRequest(json));
  await fixture.onKey('key', 'encrypt', `{"plaintext": "${base64(secret)}"`);
  await fixture.onKey('key', 'encrypt', { ...encryptRequest(secret), encryptionAlgorithm: secret });
  await fixture.onKey('no-such-key', 'encrypt', encryptRequest(secret));
  await fixture.call({ secretAccessKey: names.otherSecretAccessKey, body: encryptRequest(secret) });
  fixture.crypto.failure = { kind: 'failed', rv: 'CKR_GENERAL_ERROR', functionName: 'C_Encrypt' };
  await fixture.onKey('key', 'encrypt', encryptRequest(secret));
  const text = fixture.logger.text();
  t.equal(fixture.logger.lines.length, 7);
  for (const forbidden of [
    secret,
    base64(secret),
    names.secretAccessKey,
    names.otherSecretAccessKey,
    'AWS4-HMAC-SHA256',
    'Signature=',
  ]) {
    t.notOk(text.includes(forbidden), forbidden);
  }
});

t.test('plaintexts are wiped: of the request, of the HSM’s answer', async (t) => {
  const fixture = new PipelineFixture();
  const encryptTarget = `/${names.prefix}/kms/xks/v1/keys/key/encrypt`;
  const request = fixture.request({ target: encryptTarget, body: encryptRequest(secret) });
  const plaintexts: Uint8Array[] = [];
  const { encrypt } = fixture.crypto;
  fixture.crypto.encrypt = (operation) => {
    plaintexts.push(operation.plaintext);
    return encrypt.call(fixture.crypto, operation);
  };
  const answer = await fixture.handler(request);
  t.ok(request.body.every((byte) => byte === 0));
  const { decrypt } = fixture.crypto;
  fixture.crypto.decrypt = async (operation) => {
    const result = await decrypt.call(fixture.crypto, operation);
    if (result.ok) plaintexts.push(result.value);
    return result;
  };
  const json = JSON.parse(Buffer.from(answer.body).toString());
  const decrypted = await fixture.onKey('key', 'decrypt', decryptRequest(json));
  t.strictSame(decrypted.json, { plaintext: base64(secret) });
  t.equal(plaintexts.length, 2);
  t.ok(plaintexts.every((plaintext) => plaintext.every((byte) => byte === 0)));
});

t.test('X-M1: health needs no ARN, the key APIs do', async (t) => {
  const fixture = new PipelineFixture();
  t.equal((await fixture.call({ body: healthRequest })).status, 200);
  const bare = { ...encryptRequest(secret), ...healthRequest };
  t.equal((await fixture.onKey('key', 'encrypt', bare)).json['errorName'], 'ValidationException');
});
