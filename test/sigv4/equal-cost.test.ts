import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import t from 'tap';
import { loadNativeBinding } from '../../src/base/native.js';
import { signRequest } from '../../src/sigv4/sign.js';
import { checkSignature, type SignatureCheck } from '../../src/sigv4/signature-check.js';
import { SigningKeyCache } from '../../src/sigv4/signing-key.js';
import { verifyRequest } from '../../src/sigv4/verify.js';

// The real createHmac, counted.
const { createHmac } = crypto;
let hmacs = 0;
crypto.createHmac = ((...given: Parameters<typeof createHmac>) => {
  hmacs++;
  return createHmac(...given);
}) as typeof createHmac;
syncBuiltinESMExports();
t.teardown(() => {
  crypto.createHmac = createHmac;
  syncBuiltinESMExports();
});

const nowMs = Date.UTC(2024, 4, 15);
const service = 'kms-xks-proxy';
const authority = 'xks.example.com';
const secret = Buffer.from('s'.repeat(48));
const known = 'KNOWN222222222222222222222';

/** How many HMACs the verification of a request costs, and how it ends. */
function cost(
  accessKeyId: string,
  signedWith: Uint8Array,
  signingKeys: SigningKeyCache,
  check: SignatureCheck = checkSignature,
): [number, string] {
  const request = {
    method: 'POST',
    target: '/kms/xks/v1/health',
    authority,
    headers: [['host', authority]] as const,
    body: Buffer.from('{}'),
  };
  const signing = { nowMs, region: 'us-east-1', service, accessKeyId, secretAccessKey: signedWith };
  const headers = [...request.headers, ...signRequest(request, signing)];
  hmacs = 0;
  const result = verifyRequest(
    { ...request, headers },
    {
      nowMs,
      service,
      regions: ['us-east-1'],
      secretFor: (id) => (id === known ? secret : null),
      signingKeys,
      checkSignature: check,
    },
  );
  return [hmacs, result.ok ? 'accepted' : result.error.reason];
}

t.test('X-A3: an unknown access key id costs the same HMACs as a known one', async (t) => {
  const signingKeys = new SigningKeyCache();
  const wrong = Buffer.from('w'.repeat(48));
  const unknown = cost('UNKNOWN2222222222222222222', wrong, signingKeys);
  const knownNotCached = cost(known, wrong, signingKeys);
  const first = cost(known, secret, signingKeys);
  const knownAndCached = cost(known, wrong, signingKeys);
  t.same(unknown, [6, 'unknown-access-key']);
  t.same(knownNotCached, [6, 'signature-mismatch']);
  t.same(knownAndCached, [6, 'signature-mismatch']);
  t.same(first, [6, 'accepted']);
  t.same(cost(known, secret, signingKeys), [1, 'accepted'], 'the authentic pay once a day');
});

t.test('X-A3: with the addon too, where one call takes the place of the first HMAC', async (t) => {
  const signingKeys = new SigningKeyCache();
  const wrong = Buffer.from('w'.repeat(48));
  let calls = 0;
  const costs = (accessKeyId: string, signedWith: Uint8Array) => {
    calls = 0;
    const [hmacs, end] = cost(accessKeyId, signedWith, signingKeys, (...given) => {
      calls++;
      return loadNativeBinding().checkSigV4Signature(...given);
    });
    return [calls, hmacs, end];
  };
  t.same(costs('UNKNOWN2222222222222222222', wrong), [1, 5, 'unknown-access-key']);
  t.same(costs(known, wrong), [1, 5, 'signature-mismatch']);
  t.same(costs(known, secret), [1, 5, 'accepted']);
  t.same(costs(known, wrong), [1, 5, 'signature-mismatch'], 'with a cached key');
  t.same(costs(known, secret), [1, 0, 'accepted']);
});

t.test(
  'X-A3: of a signature that is refused no key stays in memory, of one that is not only the cached',
  async (t) => {
    const signingKeys = new SigningKeyCache();
    const keys: Buffer[] = [];
    crypto.createHmac = ((...given: Parameters<typeof createHmac>) => {
      const hmac = createHmac(...given);
      const digest = hmac.digest.bind(hmac) as () => Buffer;
      hmac.digest = (() => {
        const made = digest();
        keys.push(made);
        return made;
      }) as typeof hmac.digest;
      return hmac;
    }) as typeof createHmac;
    syncBuiltinESMExports();
    const left = (): number => keys.filter((key) => key.some((byte) => byte !== 0)).length;
    cost(known, Buffer.from('w'.repeat(48)), signingKeys);
    // Signing and verifying make a signature each, and verifying one more with nobody's key.
    t.equal(keys.length, 11);
    t.equal(left(), 3);
    keys.length = 0;
    cost(known, secret, signingKeys);
    t.equal(left(), 4);
    keys.length = 0;
    cost('UNKNOWN2222222222222222222', secret, signingKeys);
    t.equal(left(), 3);
  },
);
