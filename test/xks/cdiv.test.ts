import t from 'tap';
import { encodeBase64 } from '../../src/base/bytes.js';
import { computeCdiv, integrityPrefix } from '../../src/xks/cdiv.js';

const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');

const published = {
  aad: Buffer.from('project=nile,department=marketing'),
  ciphertextMetadata: Buffer.from('key_version=1'),
  iv: bytes('1ccae5470f39700254779031'),
  ciphertext: bytes('821c642b5b71783367deaf18'),
  tag: bytes('bc1c4dda7707d6812447c5955e99b261'),
};

t.test('X-E4: the published vector', async (t) => {
  t.equal(encodeBase64(computeCdiv(published)), 'qHA/ImC9h5HsLRXqCyPmWgYx7tzyoTplzILbP0fPXsc=');
});

t.test('X-E4: absent parts are empty', async (t) => {
  const { ciphertextMetadata, ...rest } = published;
  t.same(
    computeCdiv({ ...rest, ciphertextMetadata: null }),
    computeCdiv({ ...rest, ciphertextMetadata: new Uint8Array(0) }),
  );
  t.notSame(computeCdiv({ ...rest, ciphertextMetadata: null }), computeCdiv(published));
  t.same(
    Buffer.from(integrityPrefix(published.aad, ciphertextMetadata)),
    Buffer.concat([published.aad, ciphertextMetadata]),
  );
  t.same(integrityPrefix(published.aad, null), published.aad);
});
