import t from 'tap';
import { decryptBody, encryptBody, healthStatusBody, keyMetadataBody } from '../../src/xks/responses.js';
import { SeededRandom } from '../support/seeded-random.js';

const parsed = (body: Buffer): unknown => JSON.parse(body.toString());

t.test('X-K1: GetKeyMetadata', async (t) => {
  t.same(parsed(keyMetadataBody({ keyUsage: ['ENCRYPT', 'DECRYPT'], keyStatus: 'DISABLED' })), {
    keySpec: 'AES_256',
    keyUsage: ['ENCRYPT', 'DECRYPT'],
    keyStatus: 'DISABLED',
  });
  t.throws(() => keyMetadataBody({ keyUsage: Array(11).fill('SIGN'), keyStatus: 'ENABLED' }));
});

const encrypted = {
  ciphertext: Buffer.from('821c642b5b71783367deaf18', 'hex'),
  iv: Buffer.from('1ccae5470f39700254779031', 'hex'),
  tag: Buffer.from('bc1c4dda7707d6812447c5955e99b261', 'hex'),
};

t.test('X-E2: Encrypt, with the published example', async (t) => {
  const integrityValue = Buffer.from('qHA/ImC9h5HsLRXqCyPmWgYx7tzyoTplzILbP0fPXsc=', 'base64');
  const ciphertextMetadata = Buffer.from('key_version=1');
  t.same(parsed(encryptBody({ ...encrypted, ciphertextMetadata, integrityValue })), {
    authenticationTag: 'vBxN2ncH1oEkR8WVXpmyYQ==',
    ciphertext: 'ghxkK1txeDNn3q8Y',
    ciphertextDataIntegrityValue: 'qHA/ImC9h5HsLRXqCyPmWgYx7tzyoTplzILbP0fPXsc=',
    ciphertextMetadata: 'a2V5X3ZlcnNpb249MQ==',
    initializationVector: 'HMrlRw85cAJUd5Ax',
  });
  t.same(parsed(encryptBody({ ...encrypted, ciphertextMetadata: null, integrityValue: null })), {
    authenticationTag: 'vBxN2ncH1oEkR8WVXpmyYQ==',
    ciphertext: 'ghxkK1txeDNn3q8Y',
    initializationVector: 'HMrlRw85cAJUd5Ax',
  });
});

t.test('X-E2: Encrypt, with ciphertexts of any length', async (t) => {
  const random = new SeededRandom(3);
  for (const length of [0, 1, 2, 3, 32, 94, 95, 96, 97, 98, 4_300, 16_384]) {
    const ciphertext = random.bytes(length);
    const integrityValue = random.bytes(32);
    const body = encryptBody({
      ...encrypted,
      ciphertext,
      ciphertextMetadata: random.bytes(5),
      integrityValue,
    });
    t.match(parsed(body), {
      ciphertext: Buffer.from(ciphertext).toString('base64'),
      authenticationTag: 'vBxN2ncH1oEkR8WVXpmyYQ==',
      ciphertextDataIntegrityValue: Buffer.from(integrityValue).toString('base64'),
    });
    t.equal(body.toString(), JSON.stringify(parsed(body)), 'nothing besides');
  }
});

t.test('X-D2: Decrypt', async (t) => {
  t.equal(decryptBody(Buffer.from('Hello World!')).toString(), '{"plaintext":"SGVsbG8gV29ybGQh"}');
  for (const length of [0, 1, 2, 3, 4, 5, 16, 255, 256, 257, 4_300]) {
    const plaintext = Uint8Array.from({ length }, (_, at) => (at * 7) & 0xff);
    t.same(parsed(decryptBody(plaintext)), { plaintext: Buffer.from(plaintext).toString('base64') });
  }
  const body = decryptBody(Buffer.from('x'));
  t.equal(body.buffer.byteLength, body.byteLength, 'the memory is its own');
});

t.test('X-H2: GetHealthStatus', async (t) => {
  const response = {
    xksProxyFleetSize: 1,
    xksProxyVendor: 'xksd',
    xksProxyModel: 'xksd 1.0',
    ekmVendor: 'SoftHSM',
    ekmFleetDetails: [{ id: 'a', model: 'm', healthStatus: 'ACTIVE' as const }],
  };
  t.same(parsed(healthStatusBody(response)), response);
  t.throws(() => healthStatusBody({ ...response, xksProxyFleetSize: 0 }));
  t.throws(() => healthStatusBody({ ...response, ekmFleetDetails: [] }));
  t.throws(() =>
    healthStatusBody({ ...response, ekmFleetDetails: Array(11).fill(response.ekmFleetDetails[0]) }),
  );
});
