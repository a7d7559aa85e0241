import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { makeCertificates } from '../../src/demo/certificates.js';
import { initialiseDataDirectory } from '../../src/replication/data-directory.js';
import { systemFiles } from '../../src/replication/file-operations.js';

const xksdPath = fileURLToPath(new URL('../../src/cli/xksd.js', import.meta.url));
const xksd = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [xksdPath, ...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
};

t.test('config check says that all is well, or in one line what is not', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'xksd-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  await makeCertificates({ directory, names: ['xks.example.com'], ips: [] });
  const config = join(directory, 'xksd.toml');
  const write = (key: string): void =>
    writeFileSync(
      config,
      `[xks]\ntls_certificate = "server.pem"\ntls_private_key = "${key}"\n[[hsm]]\nuri = "pkcs11:token=xks"\n`,
    );
  write('server.key');
  const good = xksd('config', 'check', '--config', config);
  t.match(good, { status: 0, stderr: '' });
  t.match(good.stdout, /xksd\.toml: good; the certificate of xks\.example\.com expires \d{4}-/);

  write('ca.key');
  t.match(xksd('config', 'check', '--config', config), {
    status: 2,
    stdout: '',
    stderr: /^xksd: TLS certificate \S+: the private key \S+ is not that of "CN=xks\.example\.com"\n$/,
  });
  const missing = xksd('run', '--config', join(directory, 'none.toml'));
  t.match(missing, { status: 2, stderr: /^xksd: configuration \S+none\.toml: no such file/ });
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
  t.match(xksd('rum'), { status: 2, stderr: /unknown command 'rum'/ });
  t.match(xksd('run', '--cnofig', 'x'), { status: 2, stderr: /unknown option '--cnofig'/ });
  t.match(xksd('serving'), { status: 2, stderr: 'xksd: "serving" is started by "xksd run"\n' });
});
