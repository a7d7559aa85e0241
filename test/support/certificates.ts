import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeCertificates, makeLeafCertificate } from '../../src/demo/certificates.js';

/** PEM of a throwaway server certificate for localhost, and how to have client certificates signed by the same CA. */
export interface TestCertificates {
  readonly directory: string;
  readonly caFile: string;
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

export async function testCertificates(
  directory: string,
  keyType: 'ec' | 'rsa' = 'ec',
): Promise<TestCertificates> {
  const files = await makeCertificates({ directory, names: ['localhost'], ips: ['127.0.0.1'], keyType });
  const [ca, certificate, key] = await Promise.all(
    [files.caCertificate, files.certificate, files.key].map((file) => readFile(file, 'utf8')),
  );
  return {
    directory,
    caFile: files.caCertificate,
    ca: ca ?? '',
    certificate: certificate ?? '',
    key: key ?? '',
  };
}

/** A client certificate with `subject` as its CN, signed by the CA of `signer`. */
export async function clientCertificate(
  signer: TestCertificates,
  name: string,
  subject: string,
): Promise<{ certificate: string; key: string; certificateFile: string; keyFile: string }> {
  const files = await makeLeafCertificate({
    directory: signer.directory,
    name,
    subject,
    extensions: ['extendedKeyUsage=clientAuth'],
    ca: { caCertificate: join(signer.directory, 'ca.pem'), caKey: join(signer.directory, 'ca.key') },
  });
  return {
    certificate: await readFile(files.certificate, 'utf8'),
    key: await readFile(files.key, 'utf8'),
    certificateFile: files.certificate,
    keyFile: files.key,
  };
}
