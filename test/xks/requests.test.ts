import t from 'tap';
import { encodeBase64 } from '../../src/base/bytes.js';
import { requestMetadataLogFields } from '../../src/xks/request-metadata.js';
import {
  parseDecryptRequest,
  parseEncryptRequest,
  parseGetHealthStatusRequest,
  parseGetKeyMetadataRequest,
  requestLimits,
} from '../../src/xks/requests.js';
import { notSaid } from '../support/request-metadata.js';

const healthMetadata = {
  kmsRequestId: '4112f4d6-db54-4af4-ae30-c55a22a8dfae',
  kmsOperation: 'KmsHealthCheck',
};
const keyMetadata = { ...healthMetadata, awsPrincipalArn: 'arn:aws:iam::123456789012:user/Alice' };
const requestMetadata = {
  ...keyMetadata,
  kmsKeyArn: 'arn:aws:kms:us-east-2:123456789012:/key/1234abcd-12ab-34cd-56ef-1234567890ab',
};
const parsedMetadata = { ...notSaid, ...requestMetadata };
const aad = 'cHJvamVjdD1uaWxlLGRlcGFydG1lbnQ9bWFya2V0aW5n';

const encryptFields = {
  requestMetadata,
  additionalAuthenticatedData: aad,
  plaintext: 'SGVsbG8gV29ybGQh',
  encryptionAlgorithm: 'AES_GCM',
  ciphertextDataIntegrityValueAlgorithm: 'SHA_256',
};
const decryptFields = {
  requestMetadata,
  additionalAuthenticatedData: aad,
  encryptionAlgorithm: 'AES_GCM',
  ciphertext: 'ghxkK1txeDNn3q8Y',
  ciphertextMetadata: 'a2V5X3ZlcnNpb249MQ==',
  initializationVector: 'HMrlRw85cAJUd5Ax',
  authenticationTag: 'vBxN2ncH1oEkR8WVXpmyYQ==',
};

const json = (fields: object): Buffer => Buffer.from(JSON.stringify(fields));
const without = (fields: object, name: string): object =>
  Object.fromEntries(Object.entries(fields).filter(([given]) => given !== name));
const base64OfLength = (length: number): string => encodeBase64(new Uint8Array(length).fill(0xa5));
const encrypt = (changes: object) => parseEncryptRequest(json({ ...encryptFields, ...changes }));
const decrypt = (changes: object) => parseDecryptRequest(json({ ...decryptFields, ...changes }));
const refusal = (errorName: string, status = 400) => ({ ok: false, error: { errorName, status } });
const validation = refusal('ValidationException');

const notBase64 = [
  'A',
  'AA',
  'AAA',
  'AA=',
  'QQ',
  'QQ=',
  'QR==',
  'QUE',
  'QUF=',
  'QQ==QQ==',
  'Q Q=',
  'QQ==\n',
  'Q-_=',
  '====',
  'ä',
];
const optional = [
  'additionalAuthenticatedData',
  'ciphertextDataIntegrityValueAlgorithm',
  'ciphertextMetadata',
];
const notStrings = [1, true, {}, [], ['QQ=='], null];

t.test('X-E1: an Encrypt request', async (t) => {
  t.same(encrypt({}), {
    ok: true,
    value: {
      requestMetadata: parsedMetadata,
      plaintext: Buffer.from('Hello World!'),
      aad: Buffer.from('project=nile,department=marketing'),
      integrityAsked: true,
    },
  });
  const least = without(
    without(encryptFields, 'additionalAuthenticatedData'),
    'ciphertextDataIntegrityValueAlgorithm',
  );
  t.match(parseEncryptRequest(json(least)), {
    ok: true,
    value: { aad: new Uint8Array(0), integrityAsked: false },
  });
});

t.test('X-E1, X-D1: an optional field that is null is absent, as in requestMetadata', async (t) => {
  const nothing = { additionalAuthenticatedData: null, ciphertextDataIntegrityValueAlgorithm: null };
  t.match(encrypt(nothing), { ok: true, value: { aad: new Uint8Array(0), integrityAsked: false } });
  t.match(decrypt({ additionalAuthenticatedData: null, ciphertextMetadata: null }), {
    ok: true,
    value: { aad: new Uint8Array(0), ciphertextMetadata: null },
  });
});

t.test('X-E1: fields that nobody knows yet are passed over (X-M2)', async (t) => {
  t.ok(encrypt({ somethingNew: { deep: [1] }, ciphertext: 5 }).ok);
  t.ok(decrypt({ plaintext: 5 }).ok);
});

t.test('X-E1: what is missing or malformed is a ValidationException', async (t) => {
  for (const name of ['requestMetadata', 'plaintext', 'encryptionAlgorithm']) {
    t.match(parseEncryptRequest(json(without(encryptFields, name))), validation, name);
  }
  for (const value of notStrings) {
    for (const name of Object.keys(encryptFields)) {
      if (value === null && optional.includes(name)) continue;
      if (name === 'requestMetadata' && typeof value === 'object' && value !== null && !Array.isArray(value))
        continue;
      t.match(encrypt({ [name]: value }), validation, `${name}: ${JSON.stringify(value)}`);
    }
  }
  for (const value of ['', 'AES_GCM_256', 'aes_gcm', 'AES_GCM '])
    t.match(encrypt({ encryptionAlgorithm: value }), validation);
  for (const value of ['', 'SHA_512', 'sha_256']) {
    t.match(encrypt({ ciphertextDataIntegrityValueAlgorithm: value }), validation);
  }
  for (const value of notBase64) {
    t.match(encrypt({ plaintext: value }), validation, JSON.stringify(value));
    t.match(encrypt({ additionalAuthenticatedData: value }), validation, JSON.stringify(value));
  }
  t.match(parseEncryptRequest(Buffer.from('{"requestMetadata":')), validation);
  t.match(parseEncryptRequest(Buffer.alloc(0)), validation);
});

t.test('X-E1: an empty plaintext is one of zero bytes', async (t) => {
  t.match(encrypt({ plaintext: '' }), { ok: true, value: { plaintext: new Uint8Array(0) } });
  t.match(decrypt({ ciphertext: '' }), { ok: true, value: { ciphertext: new Uint8Array(0) } });
});

t.test('X-E1, X-D1: 4,300 bytes of plaintext and 8,192 of AAD are accepted together', async (t) => {
  const long = { additionalAuthenticatedData: base64OfLength(8_192) };
  t.ok(encrypt({ ...long, plaintext: base64OfLength(4_300) }).ok);
  t.ok(decrypt({ ...long, ciphertext: base64OfLength(4_300) }).ok);
});

t.test('X-E5: more than our limits is 501 UnsupportedOperationException', async (t) => {
  const { plaintextBytesMax, aadBytesMax } = requestLimits;
  const unsupported = refusal('UnsupportedOperationException', 501);
  t.ok(encrypt({ plaintext: base64OfLength(plaintextBytesMax) }).ok);
  t.ok(encrypt({ additionalAuthenticatedData: base64OfLength(aadBytesMax) }).ok);
  t.match(encrypt({ plaintext: base64OfLength(plaintextBytesMax + 1) }), unsupported);
  t.match(encrypt({ additionalAuthenticatedData: base64OfLength(aadBytesMax + 1) }), unsupported);
  t.match(decrypt({ ciphertext: base64OfLength(plaintextBytesMax + 1) }), unsupported);
  t.match(decrypt({ additionalAuthenticatedData: base64OfLength(aadBytesMax + 1) }), unsupported);
  t.ok(aadBytesMax <= 0xffff, 'what X-E3 can frame');
});

t.test('X-D1: a Decrypt request', async (t) => {
  t.same(decrypt({}), {
    ok: true,
    value: {
      requestMetadata: parsedMetadata,
      ciphertext: Buffer.from('821c642b5b71783367deaf18', 'hex'),
      iv: Buffer.from('1ccae5470f39700254779031', 'hex'),
      tag: Buffer.from('bc1c4dda7707d6812447c5955e99b261', 'hex'),
      aad: Buffer.from('project=nile,department=marketing'),
      ciphertextMetadata: Buffer.from('key_version=1'),
    },
  });
  const least = without(without(decryptFields, 'additionalAuthenticatedData'), 'ciphertextMetadata');
  t.match(parseDecryptRequest(json(least)), {
    ok: true,
    value: { aad: new Uint8Array(0), ciphertextMetadata: null },
  });
  t.match(decrypt({ ciphertextMetadata: '' }), {
    ok: true,
    value: { ciphertextMetadata: new Uint8Array(0) },
  });
});

t.test('X-D2: missing, not Base64, unknown algorithm: ValidationException', async (t) => {
  for (const name of [
    'requestMetadata',
    'ciphertext',
    'initializationVector',
    'authenticationTag',
    'encryptionAlgorithm',
  ]) {
    t.match(parseDecryptRequest(json(without(decryptFields, name))), validation, name);
  }
  for (const name of Object.keys(decryptFields).filter((name) => name !== 'requestMetadata')) {
    for (const value of notStrings.filter((each) => each !== null || !optional.includes(name)))
      t.match(decrypt({ [name]: value }), validation, `${name}: ${JSON.stringify(value)}`);
    for (const value of name === 'encryptionAlgorithm' ? ['AES_CBC'] : notBase64) {
      t.match(decrypt({ [name]: value }), validation, `${name}: ${value}`);
    }
  }
});

t.test('X-D2: decoded values of a wrong length: InvalidCiphertextException', async (t) => {
  const invalidCiphertext = refusal('InvalidCiphertextException');
  for (const length of [0, 1, 11, 13, 15, 17, 32]) {
    t.match(decrypt({ initializationVector: base64OfLength(length) }), invalidCiphertext, `iv of ${length}`);
  }
  for (const length of [12, 16]) t.ok(decrypt({ initializationVector: base64OfLength(length) }).ok);
  for (const length of [0, 12, 15, 17, 32]) {
    t.match(decrypt({ authenticationTag: base64OfLength(length) }), invalidCiphertext, `tag of ${length}`);
  }
  t.ok(decrypt({ ciphertextMetadata: base64OfLength(20) }).ok);
  t.match(decrypt({ ciphertextMetadata: base64OfLength(21) }), invalidCiphertext);
});

t.test('X-M1, X-H1: required fields of requestMetadata, for each operation', async (t) => {
  const parsers = [
    { parse: parseGetHealthStatusRequest, required: Object.keys(healthMetadata) },
    { parse: parseGetKeyMetadataRequest, required: Object.keys(keyMetadata) },
    {
      parse: (body: Buffer) => parseEncryptRequest(json({ ...encryptFields, ...JSON.parse(String(body)) })),
      required: Object.keys(requestMetadata),
    },
    {
      parse: (body: Buffer) => parseDecryptRequest(json({ ...decryptFields, ...JSON.parse(String(body)) })),
      required: Object.keys(requestMetadata),
    },
  ];
  for (const { parse, required } of parsers) {
    const least = Object.fromEntries(
      Object.entries(requestMetadata).filter(([name]) => required.includes(name)),
    );
    t.match(parse(json({ requestMetadata: least })), { ok: true, value: { requestMetadata: least } });
    t.match(parse(json({ requestMetadata: {} })), validation);
    t.match(parse(json({ requestMetadata: [] })), validation);
    for (const name of required) {
      t.match(parse(json({ requestMetadata: without(least, name) })), validation, name);
      for (const value of notStrings) {
        t.match(parse(json({ requestMetadata: { ...least, [name]: value } })), validation, name);
      }
    }
  }
  t.match(parseGetHealthStatusRequest(Buffer.from('{}')), validation);
});

t.test('X-M1: optional fields are kept; absent ones may be null, but not of another type', async (t) => {
  const optional = {
    awsSourceVpc: 'vpc-1',
    awsSourceVpce: 'vpce-1',
    kmsViaService: 'ebs',
    kmsKeyArn: 'arn:x',
  };
  t.match(parseGetKeyMetadataRequest(json({ requestMetadata: { ...keyMetadata, ...optional } })), {
    ok: true,
    value: { requestMetadata: { ...keyMetadata, ...optional } },
  });
  t.same(parseGetKeyMetadataRequest(json({ requestMetadata: { ...keyMetadata, kmsViaService: null } })), {
    ok: true,
    value: { requestMetadata: { ...notSaid, ...keyMetadata } },
  });
  t.match(
    parseGetKeyMetadataRequest(json({ requestMetadata: { ...keyMetadata, kmsViaService: 5 } })),
    validation,
  );
});

t.test('X-M1: ARNs have up to 2,048 characters', async (t) => {
  for (const name of ['awsPrincipalArn', 'kmsKeyArn']) {
    const withArn = (length: number) =>
      encrypt({ requestMetadata: { ...requestMetadata, [name]: 'a'.repeat(length) } });
    t.ok(withArn(2_048).ok, name);
    t.match(withArn(2_049), refusal('UnsupportedOperationException', 501), name);
  }
});

t.test('X-M2: no kmsOperation, extra field or shape of kmsRequestId is refused', async (t) => {
  for (const changes of [
    { kmsOperation: 'BulkEncrypt' },
    { kmsOperation: '' },
    { kmsRequestId: '' },
    { kmsRequestId: 'not a UUID\n\u0000"' },
    { kmsRequestId: 'x'.repeat(40_000) },
    { kmsRecipientAttestationPCR8: 'abc', tags: { deep: true }, list: [] },
    { __proto__x: 1, constructor: 'x' },
  ]) {
    t.ok(
      encrypt({ requestMetadata: { ...requestMetadata, ...changes } }).ok,
      JSON.stringify(changes).slice(0, 80),
    );
  }
});

t.test('X-M2, X-L2: all metadata goes to the log, bounded', async (t) => {
  const logged = (given: object) => {
    const request = encrypt({ requestMetadata: { ...requestMetadata, ...given } });
    return request.ok ? requestMetadataLogFields(request.value.requestMetadata) : null;
  };
  t.same(logged({}), requestMetadata);
  t.same(
    logged({ awsSourceVpc: 'vpc-1', sourceIdentity: 'bob', count: 3, flag: false, tags: {}, none: null }),
    {
      ...requestMetadata,
      awsSourceVpc: 'vpc-1',
      sourceIdentity: 'bob',
      count: 3,
      flag: false,
    },
  );
  t.equal(String(logged({ kmsRequestId: 'x'.repeat(40_000) })?.['kmsRequestId']).length, 2_048);
  t.equal(String(logged({ extra: 'x'.repeat(40_000) })?.['extra']).length, 2_048);
  const many = Object.fromEntries(Array.from({ length: 500 }, (_, at) => [`x${at}`, at]));
  t.equal(Object.keys(logged(many) ?? {}).length, 4 + 16);
  t.same(logged({ ['n'.repeat(65)]: 1 }), requestMetadata);
  const body = Buffer.from(
    JSON.stringify(encryptFields).replace('"kmsRequestId"', '"__proto__":"p","kmsRequestId"'),
  );
  const request = parseEncryptRequest(body);
  const fields = request.ok ? requestMetadataLogFields(request.value.requestMetadata) : {};
  t.same(Object.getOwnPropertyDescriptor(fields, '__proto__')?.value, 'p');
  t.equal(Object.getPrototypeOf(fields), Object.prototype);
});

t.test('X-L2: metadata are known for the log even where another field is refused', async (t) => {
  for (const [parse, fields] of [
    [parseEncryptRequest, { ...encryptFields, plaintext: '!' }],
    [parseDecryptRequest, { ...decryptFields, authenticationTag: 'QQ==' }],
  ] as const) {
    const seen: unknown[] = [];
    t.notOk(parse(json(fields), (metadata) => seen.push(metadata)).ok);
    t.same(seen, [parsedMetadata]);
  }
});

t.test('X-L2: messages about a bad field do not hold its value', async (t) => {
  const secret = 'c2VjcmV0LXNlY3JldA';
  t.notMatch(JSON.stringify(encrypt({ plaintext: secret })), secret);
  t.notMatch(JSON.stringify(encrypt({ plaintext: `${secret}!!` })), secret);
});
