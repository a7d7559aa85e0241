import t from 'tap';
import {
  checkUriPathPrefix,
  isExternalKeyId,
  isLoadBalancerPath,
  routeTarget,
  xksProxyUriPath,
} from '../../src/xks/uri-path.js';

t.test('X-U1: the four operations, with and without a prefix', async (t) => {
  for (const uriPathPrefix of ['', 'p', 'a/b-c/D_9', 'kms', 'xks/kms', 'kms/xks2']) {
    const base = xksProxyUriPath(uriPathPrefix);
    t.same(routeTarget(`${base}/health`), { operation: 'GetHealthStatus', uriPathPrefix });
    for (const [indicator, operation] of [
      ['metadata', 'GetKeyMetadata'],
      ['encrypt', 'Encrypt'],
      ['decrypt', 'Decrypt'],
    ]) {
      for (const externalKeyId of ['k', 'A.b_c-9', 'health', 'keys', '...', 'x'.repeat(128)]) {
        t.same(routeTarget(`${base}/keys/${externalKeyId}/${indicator}`), {
          operation,
          uriPathPrefix,
          externalKeyId,
        });
      }
    }
  }
});

t.test('X-U4: anything else is no path of ours', async (t) => {
  const key = 'x'.repeat(129);
  for (const target of [
    '',
    '/',
    '*',
    'kms/xks/v1/health',
    '/kms/xks/v1',
    '/kms/xks/v1/',
    '/kms/xks/v1/Health',
    '/kms/xks/v1/health/',
    '/kms/xks/v1/health?',
    '/kms/xks/v1/health?a=b',
    '/kms/xks/v1/health#f',
    '/kms/xks/v1/health\n',
    '/kms/xks/v2/health',
    '/KMS/xks/v1/health',
    '//kms/xks/v1/health',
    '/p//kms/xks/v1/health',
    '/p/./kms/xks/v1/health',
    '/p/../kms/xks/v1/health',
    '/p.q/kms/xks/v1/health',
    '/%70/kms/xks/v1/health',
    '/p/kms/xks/v1/%68ealth',
    '/p/kms/xks/v1/keys/health',
    '/p/kms/xks/v1/keys//encrypt',
    '/p/kms/xks/v1/keys/./encrypt',
    '/p/kms/xks/v1/keys/../encrypt',
    '/p/kms/xks/v1/keys/k/encrypt/',
    '/p/kms/xks/v1/keys/k/ENCRYPT',
    '/p/kms/xks/v1/keys/k/reencrypt',
    '/p/kms/xks/v1/keys/k%20/encrypt',
    '/p/kms/xks/v1/keys/k~/encrypt',
    '/p/kms/xks/v1/keys/k\u00e9/encrypt',
    '/p/kms/xks/v1/keys/a/b/encrypt',
    `/p/kms/xks/v1/keys/${key}/encrypt`,
    '/p/kms/xks/v1/constructor',
    'https://xks.example.com/kms/xks/v1/health',
  ]) {
    t.equal(routeTarget(target), null, JSON.stringify(target));
  }
});

t.test('X-U2: a URI has at most 256 characters, XksProxyUriPath at most 128', async (t) => {
  const prefix = 'p'.repeat(128 - '//kms/xks/v1'.length);
  const ofLength = (length: number): string =>
    `/${prefix}/kms/xks/v1/keys/${'k'.repeat(length - prefix.length - '//kms/xks/v1/keys//encrypt'.length)}/encrypt`;
  t.equal(xksProxyUriPath(prefix).length, 128);
  t.equal(ofLength(256).length, 256);
  t.ok(routeTarget(ofLength(256)));
  t.equal(routeTarget(ofLength(257)), null);
  t.equal(routeTarget(`/p${prefix}/kms/xks/v1/health`), null);
  t.equal(routeTarget(`/${'a/'.repeat(200_000)}`), null);
});

t.test('X-U2: prefixes', async (t) => {
  for (const prefix of ['', 'p', 'A-z_0/9', 'x'.repeat(116), 'kms/xksa', 'akms/xks']) {
    t.equal(checkUriPathPrefix(prefix), null, prefix);
  }
  for (const prefix of ['/', '/p', 'p/', 'a//b', 'a b', 'a.b', 'a%b', 'ä', 'p\n', 'x'.repeat(117)]) {
    t.type(checkUriPathPrefix(prefix), 'string', prefix);
  }
  for (const prefix of ['kms/xks', 'a/kms/xks', 'kms/xks/v1', 'a/kms/xks/b']) {
    t.match(checkUriPathPrefix(prefix), /kms\/xks/, prefix);
  }
  t.match(checkUriPathPrefix('x'.repeat(119)), /3 too long/);
});

t.test('X-U2: one path names one key store', async (t) => {
  t.equal(routeTarget('/a/kms/xks/v1/kms/xks/v1/health'), null);
  t.equal(routeTarget('/a/kms/xks/b/kms/xks/v1/health'), null);
});

t.test('X-U3: external key ids', async (t) => {
  for (const id of ['a', '0', '-', '_', '.a', 'a..b', 'x'.repeat(128)]) t.ok(isExternalKeyId(id), id);
  for (const id of ['', '.', '..', 'a/b', 'a b', 'a\n', 'ä', 'a%', 'x'.repeat(129)]) {
    t.notOk(isExternalKeyId(id), id);
  }
});

t.test('X-H4: load balancer paths', async (t) => {
  for (const target of ['/', '/ping', '/healthz']) t.ok(isLoadBalancerPath(target));
  for (const target of ['', '/ping/', '/ping?x', '/kms/xks/v1/health']) t.notOk(isLoadBalancerPath(target));
});
