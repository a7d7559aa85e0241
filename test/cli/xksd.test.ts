import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { makeCertificates, makeNodeCertificate } from '../../src/demo/certificates.js';
import { libraryDirectory } from '../../src/demo/debian-packages.js';
import { initialiseDataDirectory } from '../../src/replication/data-directory.js';
import { systemFiles } from '../../src/replication/file-operations.js';

const xksdPath = fileURLToPath(new URL('../../src/cli/xksd.js', import.meta.url));
const xksd = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [xksdPath, ...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
};

t.test('config check says that all is well, or what is not, a line each', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'xksd-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  await makeCertificates({ directory, names: ['xks.example.com'], ips: [] });
  const config = join(directory, 'xksd.toml');
  const pin = join(directory, 'pin');
  writeFileSync(pin, '1234\n', { mode: 0o600 });
  const module = join(libraryDirectory, 'softhsm/libsofthsm2.so');
  const uri = `pkcs11:token=xks?module-path=${module}&pin-source=file:${pin}`;
  const data = join(directory, 'data');
  mkdirSync(data, { mode: 0o700 });
  const check = (key: string, hsmUri = uri) => {
    const hsm = `[[hsm]]\nuri = "${hsmUri}"\n`;
    const node = `[node]\ndata_dir = "data"\n`;
    writeFileSync(config, `${node}[xks]\ntls_certificate = "server.pem"\ntls_private_key = "${key}"\n${hsm}`);
    return xksd('config', 'check', '--config', config);
  };
  const good = check('server.key');
  t.match(good, { status: 0, stderr: '' });
  t.match(good.stdout, /the certificate of xks\.example\.com expires \d{4}-.*\n.*xksd\.toml: good\n$/);

  const bad = check('ca.key', uri.replace(module, '/none.so').replace(pin, '/none.pin'));
  t.match(bad, { status: 2, stdout: '' });
  t.match(bad.stderr, /: TLS certificate \S+: the private key \S+ is not that of "CN=xks\.example\.com"\n/);
  t.match(bad.stderr, /\[\[hsm\]\] uri: the module can't be read.*\/none\.so/);
  t.match(bad.stderr, /\[\[hsm\]\] uri: .*\/none\.pin/);
  t.match(check('server.key', 'pkcs11:tokn=xks'), { status: 2, stderr: /\[\[hsm\]\] uri: / });

  chmodSync(data, 0o750);
  t.match(check('server.key'), { status: 2, stderr: /\[node\] data_dir: \S+\/data has mode 0750/ });
  rmSync(data, { recursive: true });
  t.match(check('server.key'), { status: 0, stdout: /\[node\] data_dir: \S+\/data does not exist yet/ });

  const withCredentials = check('credential:tls-key', uri.replace(`file:${pin}`, 'credential:hsm-pin'));
  t.match(withCredentials, { status: 0, stderr: '' }, 'a shell has no systemd credentials');
  t.match(withCredentials.stdout, /credential tls-key, which only the service has.*credential hsm-pin/s);
  const missing = xksd('run', '--config', join(directory, 'none.toml'));
  t.match(missing, { status: 2, stderr: /^xksd: configuration \S+none\.toml: no such file/ });
});

t.test('config check says when the cluster certificate ends', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'xksd-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const made = await makeCertificates({ directory, names: ['xks.example.com'], ips: [] });
  const node = await makeNodeCertificate(directory, 'node-1', made);
  const config = join(directory, 'xksd.toml');
  const module = join(libraryDirectory, 'softhsm/libsofthsm2.so');
  writeFileSync(join(directory, 'pin'), '1234\n', { mode: 0o600 });
  writeFileSync(
    config,
    `[node]
name = "node-1"
[xks]
tls_certificate = "${made.certificate}"
tls_private_key = "${made.key}"
[cluster]
advertise = "127.0.0.1:7443"
ca = "${made.caCertificate}"
certificate = "${node.certificate}"
private_key = "${node.key}"
[[hsm]]
uri = "pkcs11:token=xks?module-path=${module}&pin-source=file:${directory}/pin"
`,
  );
  const checked = xksd('config', 'check', '--config', config);
  t.match(checked, { status: 0, stderr: '' });
  t.match(checked.stdout, /the cluster certificate of node-1 expires \d{4}-.*Z\n/);
});

t.test('nothing is started on the data directory of another node', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'xksd-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  await makeCertificates({ directory, names: ['xks.example.com'], ips: [] });
  const dir = join(directory, 'data');
  await initialiseDataDirectory({
    dir,
    files: systemFiles,
    nodeName: 'theirs',
    clusterId: 'cluster-1',
    memberId: 'member-1',
    role: 'founder',
  });
  const config = join(directory, 'xksd.toml');
  writeFileSync(
    config,
    `[node]\nname = "ours"\ndata_dir = "data"\nruntime_dir = "run"\n[xks]\nlisten = "127.0.0.1:0"\n` +
      'tls_certificate = "server.pem"\ntls_private_key = "server.key"\n[health]\nlisten = "127.0.0.1:0"\n' +
      '[metrics]\nlisten = "127.0.0.1:0"\n[[hsm]]\nuri = "pkcs11:token=xks"\n',
  );
  t.match(xksd('run', '--config', config), {
    status: 2,
    stdout: '',
    stderr: /^xksd: the data directory \S+ belongs to node "theirs", and this node is "ours".*\n$/,
  });
});

t.test('version, help and mistakes on the command line', async (t) => {
  t.match(xksd('--version'), { status: 0, stdout: /^\d+\.\d+\.\d+\n$/ });
  const help = xksd('--help');
  t.match(help, { status: 0, stdout: /run .*config/s });
  t.notMatch(help.stdout, /serving|replica/, 'the roles are not for people');
  t.match(xksd('rum'), { status: 2, stderr: /^xksd: unknown command 'rum'/ });
  t.match(xksd('run', '--cnofig', 'x'), { status: 2, stderr: /unknown option '--cnofig'/ });
  t.match(xksd('serving'), { status: 2, stderr: 'xksd: "serving" is started by "xksd run"\n' });
});
