import { execFile } from 'node:child_process';
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Beyond that from which on a node warns of the end of its certificate. */
const validDays = '90';

/** PEM files. */
export interface CertificateFiles {
  readonly caCertificate: string;
  readonly caKey: string;
  /** The leaf, signed by the CA itself. */
  readonly certificate: string;
  readonly key: string;
}

/**
 * Makes a throwaway CA and a server certificate in `directory`, over whatever was there: valid for 90 days,
 * the first name as the subject CN (KMS compares that one), all names and addresses as alternative names. Keys are
 * 0600. Needs the `openssl` command; rejects with its words when it fails.
 */
export async function makeCertificates(options: {
  readonly directory: string;
  /** DNS names, at least one. */
  readonly names: readonly string[];
  /** IP addresses. */
  readonly ips: readonly string[];
  /** Of the leaf: EC P-256 (the default) or RSA 2048. */
  readonly keyType?: KeyType;
}): Promise<CertificateFiles> {
  const { directory, names, ips } = options;
  await mkdir(directory, { recursive: true });
  const ca = await makeCertificateAuthority(directory);
  const alternatives = [...names.map((name) => `DNS:${name}`), ...ips.map((ip) => `IP:${ip}`)];
  const leaf = await makeLeafCertificate({
    directory,
    name: 'server',
    subject: names[0] ?? 'localhost',
    extensions: ['extendedKeyUsage=serverAuth', `subjectAltName=${alternatives.join(',')}`],
    ca,
    ...(options.keyType === undefined ? {} : { keyType: options.keyType }),
  });
  return { ...ca, ...leaf };
}

/**
 * Makes the certificate of a node for its cluster, signed by `ca`: its name is the alternative name that the others
 * look for, and it serves both directions.
 */
export function makeNodeCertificate(directory: string, name: string, ca: Authority): Promise<Leaf> {
  const extensions = ['extendedKeyUsage=clientAuth,serverAuth', `subjectAltName=DNS:${name}`];
  return makeLeafCertificate({ directory, name, subject: 'xksd node', extensions, ca });
}

type KeyType = 'ec' | 'rsa';

/** A certificate authority's own files. */
export type Authority = Pick<CertificateFiles, 'caCertificate' | 'caKey'>;
type Leaf = Pick<CertificateFiles, 'certificate' | 'key'>;

/** Makes `ca.pem` and `ca.key` in `directory`, which exists. */
export async function makeCertificateAuthority(directory: string): Promise<Authority> {
  const ca = { caCertificate: join(directory, 'ca.pem'), caKey: join(directory, 'ca.key') };
  await openssl([
    ...['req', '-x509', '-sha256', '-days', validDays, '-subj', '/CN=xksd throwaway CA'],
    ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign', ...newKey.ec, '-keyout', ca.caKey],
    ...['-out', ca.caCertificate],
  ]);
  await chmod(ca.caKey, 0o600);
  return ca;
}

/** Makes `<name>.pem` and `<name>.key`, signed by `ca`. `extensions` are lines of an openssl extension file. */
export async function makeLeafCertificate(options: {
  readonly directory: string;
  readonly name: string;
  readonly subject: string;
  readonly extensions: readonly string[];
  readonly ca: Authority;
  readonly keyType?: KeyType;
}): Promise<Leaf> {
  const { directory, name, subject, extensions, ca, keyType = 'ec' } = options;
  const file = (suffix: string): string => join(directory, `${name}.${suffix}`);
  const leaf = { certificate: file('pem'), key: file('key') };
  const lines = ['basicConstraints=CA:FALSE', 'keyUsage=critical,digitalSignature', ...extensions];
  await writeFile(file('ext'), `${lines.join('\n')}\n`);
  try {
    await openssl([
      'req',
      '-new',
      '-subj',
      `/CN=${subject}`,
      ...newKey[keyType],
      '-keyout',
      leaf.key,
      '-out',
      file('csr'),
    ]);
    await chmod(leaf.key, 0o600);
    await openssl([
      ...['x509', '-req', '-sha256', '-days', validDays, '-in', file('csr'), '-extfile', file('ext')],
      ...['-CA', ca.caCertificate, '-CAkey', ca.caKey, '-CAserial', file('srl'), '-CAcreateserial'],
      ...['-out', leaf.certificate],
    ]);
  } finally {
    for (const suffix of ['ext', 'csr', 'srl']) await rm(file(suffix), { force: true });
  }
  return leaf;
}

const newKey: Readonly<Record<KeyType, readonly string[]>> = {
  ec: ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
  rsa: ['-newkey', 'rsa:2048', '-nodes'],
};

async function openssl(args: readonly string[]): Promise<void> {
  try {
    await run('openssl', [...args], { timeout: 30_000 });
  } catch (thrown) {
    const { code, stderr } = thrown as NodeJS.ErrnoException & { stderr?: string };
    const why =
      code === 'ENOENT' ? 'the openssl command is not installed' : (stderr ?? String(thrown)).trim();
    throw new Error(`cannot make a certificate: ${why}`);
  }
}
