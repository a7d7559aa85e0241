import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { makeCertificates, makeLeafCertificate } from '../../src/demo/certificates.js';
import { loadClusterTlsFiles, loadTlsFiles, type TlsFileSettings } from '../../src/ops/tls-files.js';

const directory = mkdtempSync(join(tmpdir(), 'xksd-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const files = await makeCertificates({
  directory,
  names: ['xks.example.com', 'b.example.com'],
  ips: ['127.0.0.1'],
});
const others = await makeCertificates({
  directory: join(directory, 'other'),
  names: ['other.example.com'],
  ips: [],
});
const nowMs = Date.now();
const dayMs = 86_400_000;
const good: TlsFileSettings = { certificate: files.certificate, privateKey: files.key, mtls: null, nowMs };

const pem = (path: string): string => readFileSync(path, 'utf8');

function write(name: string, content: string): string {
  const path = join(directory, name);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

function refusal(t: Test, changes: Partial<TlsFileSettings>): string {
  const result = loadTlsFiles({ ...good, ...changes });
  if (result.ok) throw new Error('the files were taken');
  t.notMatch(result.error, 'PRIVATE', 'no key in it');
  t.notMatch(result.error, '\n');
  return result.error;
}

t.test('files that belong together', async (t) => {
  const result = loadTlsFiles({ ...good, mtls: { ca: files.caCertificate, subject: 'CN=kms' } });
  if (!result.ok) throw new Error(result.error);
  t.equal(result.value.cert, pem(files.certificate));
  t.equal(result.value.key, pem(files.key));
  t.equal(result.value.ca, pem(files.caCertificate));
  t.same(result.value.subjectNames, ['xks.example.com', 'b.example.com']);
  const days = (result.value.notAfterMs - nowMs) / dayMs;
  t.ok(days > 89 && days < 91, `${days} days left`);
});

t.test('a chain goes leaf first, each issued by the next', async (t) => {
  const full = write('full.pem', pem(files.certificate) + pem(files.caCertificate));
  t.ok(loadTlsFiles({ ...good, certificate: full }).ok);
  const reversed = write('reversed.pem', pem(files.caCertificate) + pem(files.certificate));
  t.match(refusal(t, { certificate: reversed }), /comes 2\. in it; it must come first/);
  const foreign = write(
    'foreign.pem',
    pem(files.certificate) + pem(others.caCertificate.replace('ca.pem', 'server.pem')),
  );
  t.match(
    refusal(t, { certificate: foreign }),
    /out of order: "CN=other\.example\.com" follows "CN=xks\.example\.com" but did not issue it/,
  );
});

t.test('a key of another certificate, out of validity', async (t) => {
  t.match(
    refusal(t, { privateKey: others.key }),
    /the private key \S+ is not that of "CN=xks\.example\.com"/,
  );
  t.match(refusal(t, { nowMs: nowMs + 91 * dayMs }), /"CN=xks\.example\.com" expired on \w/);
  t.match(refusal(t, { nowMs: nowMs - dayMs }), /"CN=xks\.example\.com" is not valid before \w/);
});

t.test('files that are missing or hold something else', async (t) => {
  t.match(refusal(t, { certificate: '/nowhere.pem' }), 'TLS certificate /nowhere.pem: no such file');
  t.match(refusal(t, { privateKey: '/nowhere.key' }), 'TLS private key /nowhere.key: no such file');
  t.match(refusal(t, { mtls: { ca: '/nowhere.ca', subject: 'x' } }), 'client CA /nowhere.ca: no such file');
  t.match(refusal(t, { certificate: directory }), /: a directory: give the file in it$/);
  t.match(refusal(t, { certificate: '/dev/zero' }), 'TLS certificate /dev/zero: not a regular file');
  t.match(refusal(t, { certificate: files.key }), 'no PEM certificate in it');
  t.match(
    refusal(t, { privateKey: '/etc/passwd' }),
    'TLS private key /etc/passwd: no PEM private key in it',
    'nobody is told to lock a file that everyone has to read',
  );
  t.match(refusal(t, { privateKey: write('c.key', pem(files.certificate)) }), 'no PEM private key in it');
  const broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
  t.match(refusal(t, { certificate: write('broken.pem', broken) }), 'PEM block 1 is not a certificate');
  const brokenKey = '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n';
  t.match(
    refusal(t, { privateKey: write('broken.key', brokenKey) }),
    'not a private key that OpenSSL can read',
  );
  const encrypted = join(directory, 'encrypted.key');
  execFileSync('openssl', [
    'pkcs8',
    '-topk8',
    '-in',
    files.key,
    '-out',
    encrypted,
    '-passout',
    'pass:secret',
  ]);
  t.match(refusal(t, { privateKey: encrypted }), 'it is encrypted');
});

/** A certificate of its own with a key as told. */
function selfSigned(name: string, ...options: string[]): Partial<TlsFileSettings> {
  const [certificate, privateKey] = [join(directory, `${name}.pem`), join(directory, `${name}.key`)];
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-nodes',
      '-subj',
      `/CN=${name}`,
      '-keyout',
      privateKey,
      '-out',
      certificate,
      ...options,
    ],
    { stdio: 'ignore' },
  );
  return { certificate, privateKey, nowMs: Date.now() };
}

/** A certificate with a signature that is too weak; on those that sign themselves nobody looks at it. */
function signedOver(digest: 'md5' | 'sha1'): Partial<TlsFileSettings> {
  // There is no MD5 with ECDSA.
  selfSigned('rsa-ca', '-newkey', 'rsa:2048');
  const leaf = selfSigned(digest, '-newkey', 'rsa:2048');
  const openssl = (command: string): Buffer =>
    execFileSync('openssl', command.split(' '), { stdio: 'ignore', cwd: directory });
  const [certificate, key, request] = [`${digest}.pem`, `${digest}.key`, `${digest}.csr`];
  openssl(`x509 -x509toreq -in ${certificate} -signkey ${key} -out ${request}`);
  openssl(
    `x509 -req -${digest} -set_serial 1 -in ${request} -CA rsa-ca.pem -CAkey rsa-ca.key -out ${certificate}`,
  );
  return { ...leaf, nowMs: Date.now() };
}

t.test('X-T2: what TLS or KMS would refuse is refused', async (t) => {
  for (const bits of ['512', '1024']) {
    const weak = selfSigned(`rsa${bits}`, '-newkey', `rsa:${bits}`);
    t.match(refusal(t, weak), `its key is rsa ${bits}; it must be RSA of 2048 bits or more, or EC on P-256`);
  }
  t.match(refusal(t, selfSigned('ed25519', '-newkey', 'ed25519')), 'its key is ed25519; it must be');
  const ec = (curve: string): string[] => ['-newkey', 'ec', '-pkeyopt', `ec_paramgen_curve:${curve}`];
  t.match(refusal(t, selfSigned('p224', ...ec('secp224r1'))), 'its key is ec secp224r1; it must be');
  t.match(refusal(t, signedOver('md5')), '"CN=md5" is signed over MD5, which no client takes');
  t.match(refusal(t, signedOver('sha1')), '"CN=sha1" is signed over SHA-1, which no client takes');
  for (const curve of ['P-256', 'P-384', 'P-521']) {
    t.ok(loadTlsFiles({ ...good, ...selfSigned(curve, ...ec(curve)) }).ok, curve);
  }
  t.ok(loadTlsFiles({ ...good, ...selfSigned('rsa', '-newkey', 'rsa:2048') }).ok);
});

t.test('a key that everyone can read', async (t) => {
  const open = write('open.key', pem(files.key));
  chmodSync(open, 0o644);
  t.equal(
    refusal(t, { privateKey: open }),
    `TLS private key ${open}: everyone on this host can read it: run \`chmod o-rwx ${open}\``,
  );
  chmodSync(open, 0o640);
  t.ok(loadTlsFiles({ ...good, privateKey: open }).ok);
});

t.test('credential:NAME is a file in $CREDENTIALS_DIRECTORY', async (t) => {
  const before = process.env['CREDENTIALS_DIRECTORY'];
  t.teardown(() => {
    if (before === undefined) delete process.env['CREDENTIALS_DIRECTORY'];
    else process.env['CREDENTIALS_DIRECTORY'] = before;
  });
  process.env['CREDENTIALS_DIRECTORY'] = directory;
  write('tls-key', pem(files.key));
  t.ok(loadTlsFiles({ ...good, privateKey: 'credential:tls-key' }).ok);
  t.match(refusal(t, { privateKey: 'credential:none' }), `TLS private key ${directory}/none: no such file`);
  for (const name of ['../tls-key', '..', 'a/b', '']) {
    t.match(refusal(t, { privateKey: `credential:${name}` }), 'not the name of a credential');
  }
  delete process.env['CREDENTIALS_DIRECTORY'];
  t.match(refusal(t, { privateKey: 'credential:tls-key' }), 'LoadCredential=tls-key:PATH');
});

t.test("a member's files: its name among the alternative names, for both purposes, of the CA", async (t) => {
  const member = (name: string, ...extensions: string[]) =>
    makeLeafCertificate({ directory, name, subject: 'xks-1', extensions, ca: files });
  const both = 'extendedKeyUsage=serverAuth,clientAuth';
  const load = (leaf: { readonly certificate: string; readonly key: string }, ca = files.caCertificate) =>
    loadClusterTlsFiles({
      ca,
      certificate: leaf.certificate,
      privateKey: leaf.key,
      nodeName: 'xks-1',
      // Made after `nowMs` was read.
      nowMs: nowMs + dayMs,
    });
  const refused = (leaf: { readonly certificate: string; readonly key: string }, ca?: string): string => {
    const result = load(leaf, ca);
    return result.ok ? 'taken' : result.error;
  };
  const good = await member('good', both, 'subjectAltName=DNS:xks-1,DNS:xks-1.example.com');
  t.match(load(good), {
    ok: true,
    value: { cert: pem(good.certificate), key: pem(good.key), ca: pem(files.caCertificate) },
  });
  t.ok(
    load(await member('any-purpose', 'subjectAltName=DNS:xks-1')).ok,
    'no extended key usage: any purpose',
  );
  const bundle = write('bundle.pem', pem(others.caCertificate) + pem(files.caCertificate));
  t.ok(load(good, bundle).ok, 'the old CA and the new one');

  const other = await member('other-name', both, 'subjectAltName=DNS:xks-2,IP:127.0.0.1');
  t.match(refused(other), /^cluster certificate .*must be DNS:xks-1, the name of this node; there is xks-2$/);
  t.match(refused(await member('no-name', both)), /there is none$/, 'the common name does not count');
  const serverOnly = await member('server-only', 'extendedKeyUsage=serverAuth', 'subjectAltName=DNS:xks-1');
  t.match(refused(serverOnly), /lacks clientAuth; members are servers and clients of each other/);
  t.match(refused(good, others.caCertificate), /was issued by none of the certificates in .*other\/ca\.pem$/);
  t.match(refused(good, join(directory, 'none.pem')), /^cluster CA .*none\.pem: no such file$/);
  t.match(refused({ ...good, key: others.key }), /^cluster certificate .*the private key .* is not that of/);
  t.match(refused({ ...good, key: files.caCertificate }), /^cluster private key .*no PEM private key in it/);
});
