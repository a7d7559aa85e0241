import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { makeLeafCertificate } from '../../../src/demo/certificates.js';
import { type ShownChain, TrustedAuthorities } from '../../../src/replication/transport/certificate-trust.js';
import { nodeFiles, type TestAuthority, testAuthority } from './peers.js';

const der = (pem: string): Uint8Array => new X509Certificate(pem).raw;

async function intermediate(
  root: TestAuthority,
  name: string,
  usage: readonly string[],
): Promise<TestAuthority> {
  const made = await makeLeafCertificate({
    ...{ directory: root.directory, name, subject: name, ca: root },
    extensions: usage,
  });
  const pem = readFileSync(made.certificate, 'utf8');
  return { directory: root.directory, caCertificate: made.certificate, caKey: made.key, pem };
}

t.test('a chain is trusted when it ends at a trusted root', async (t) => {
  // All have the same name: the keys tell them apart.
  const [root, other] = [await testAuthority(t), await testAuthority(t)];
  const direct = der((await nodeFiles(root, 'a')).certificate);
  const issuing = await intermediate(root, 'issuing', [
    'basicConstraints=critical,CA:TRUE',
    'keyUsage=keyCertSign',
  ]);
  const below = der((await nodeFiles(issuing, 'b')).certificate);
  const unidentified = await intermediate(root, 'd', ['authorityKeyIdentifier=none']);
  const mere = await intermediate(root, 'mere', ['keyUsage=digitalSignature,keyCertSign']);
  const forged = der((await nodeFiles(mere, 'c')).certificate);
  const trusts = (pem: string, shown: ShownChain, nowMs?: number): boolean =>
    new TrustedAuthorities(pem).trust(shown, nowMs);

  t.ok(trusts(root.pem, [direct]));
  t.ok(trusts(`${other.pem}${root.pem}`, [direct, der(root.pem)]));
  t.notOk(trusts(other.pem, [direct]));
  t.ok(trusts(root.pem, [der(unidentified.pem)]));
  t.notOk(trusts(other.pem, [der(unidentified.pem)]), 'the name is right, and the signature is not');
  t.notOk(trusts(other.pem, [direct, der(root.pem)]), 'a root that is only shown');
  t.notOk(trusts('', [direct, der(root.pem)]));
  t.notOk(trusts(root.pem, []), 'nothing shown');
  t.notOk(trusts(root.pem, [Buffer.from('no certificate')]));

  t.ok(trusts(root.pem, [below, der(issuing.pem)]), 'over an intermediate that is shown');
  t.ok(trusts(`${root.pem}${issuing.pem}`, [below]), 'or known');
  t.notOk(trusts(root.pem, [below]));
  t.notOk(trusts(issuing.pem, [below, der(issuing.pem)]), 'an intermediate is no root');
  t.notOk(trusts(other.pem, [below, der(issuing.pem), der(root.pem)]));
  t.notOk(trusts(root.pem, [forged, der(mere.pem)]), 'nodes issue no certificates');

  const { validFrom, validTo } = new X509Certificate(direct);
  t.ok(trusts(root.pem, [direct], Date.parse(validTo) - 60_000));
  t.notOk(trusts(root.pem, [direct], Date.parse(validTo) + 60_000), 'expired');
  t.notOk(trusts(root.pem, [direct], Date.parse(validFrom) - 60_000), 'not yet valid');
});
