import t from 'tap';
import { type CredentialScope, formatCredential } from '../../src/sigv4/authorization.js';
import { deriveSigningKey, SigningKeyCache } from '../../src/sigv4/signing-key.js';

const find = (cache: SigningKeyCache, accessKeyId: string, scope: CredentialScope): Uint8Array | null =>
  cache.find(formatCredential(accessKeyId, scope));
const scope = { date: '20150830', region: 'us-east-1', service: 'iam' };

t.test('X-A1: the derivation example of the AWS documentation', async (t) => {
  const signingKey = deriveSigningKey(Buffer.from('wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY'), scope);
  t.equal(
    Buffer.from(signingKey).toString('hex'),
    'c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9',
  );
});

t.test('X-A3: the cache is bounded, drops the oldest and wipes what it drops', async (t) => {
  const cache = new SigningKeyCache(3);
  const keys = Array.from({ length: 5 }, (_, at) => new Uint8Array(32).fill(at + 1));
  for (const [at, signingKey] of keys.entries()) cache.remember(`ID${at}`, scope, signingKey);
  t.equal(cache.size, 3);
  t.equal(find(cache, 'ID1', scope), null);
  t.equal(find(cache, 'ID2', scope), keys[2]);
  t.same(keys[0], new Uint8Array(32));
  t.same(keys[4], new Uint8Array(32).fill(5));
});

t.test('X-A3: remembering again replaces, and drops nothing else', async (t) => {
  const cache = new SigningKeyCache(2);
  cache.remember('A', scope, new Uint8Array(32).fill(1));
  cache.remember('B', scope, new Uint8Array(32).fill(2));
  cache.remember('B', scope, new Uint8Array(32).fill(3));
  t.same(find(cache, 'A', scope), new Uint8Array(32).fill(1));
  t.same(find(cache, 'B', scope), new Uint8Array(32).fill(3));
});

t.test('X-A3: a key is that of one scope', async (t) => {
  const cache = new SigningKeyCache();
  cache.remember('A', scope, new Uint8Array(32));
  t.equal(find(cache, 'A', { ...scope, date: '20150831' }), null);
  t.equal(find(cache, 'A', { ...scope, region: 'us-east-2' }), null);
  t.equal(find(cache, 'A', { ...scope, service: 's3' }), null);
});

t.test('X-A4: forgetting a credential forgets all of its keys and no other', async (t) => {
  const cache = new SigningKeyCache();
  const signingKey = new Uint8Array(32).fill(1);
  cache.remember('A', scope, signingKey);
  cache.remember('A', { ...scope, date: '20150831' }, new Uint8Array(32));
  cache.remember('AB', scope, new Uint8Array(32));
  cache.forget('A');
  t.equal(cache.size, 1);
  t.ok(find(cache, 'AB', scope));
  t.same(signingKey, new Uint8Array(32), 'wiped');
  cache.forget('nobody');
  t.equal(cache.size, 1);
});
