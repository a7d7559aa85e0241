import { chown, mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { makeCertificateAuthority, makeNodeCertificate } from '../../src/demo/certificates.js';
import { initialiseFounder, initialiseJoiner } from '../../src/replica/initialise-node.js';
import { encodeJoinToken } from '../../src/replica/join-token.js';

t.test(
  'a node becomes a joiner only with a certificate that the others will take, and its own token',
  async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'xksd-joiner-'));
    t.teardown(() => rm(directory, { recursive: true, force: true }));
    const ca = await makeCertificateAuthority(directory);
    const files = { ...ca, ...(await makeNodeCertificate(directory, 'node-2', ca)) };
    const dataDirOf = (name: string): string => join(directory, `data-${name}`);
    for (const name of ['node-2', 'node-3']) await mkdir(dataDirOf(name), { mode: 0o700 });
    const configOf = (name: string, privateKey = files.key) => ({
      node: { name, dataDir: dataDirOf(name), runtimeDir: directory },
      cluster: {
        listen: { address: '127.0.0.1', port: 0 },
        advertise: `${name}:7443`,
        certificate: files.certificate,
        privateKey,
        ca: files.caCertificate,
      },
    });
    const tokenFor = (nodeName: string): string =>
      encodeJoinToken({
        clusterId: 'c'.repeat(32),
        memberId: 'd'.repeat(32),
        nodeName,
        secret: 'e'.repeat(64),
        peers: [{ memberId: 'f'.repeat(32), name: 'node-1', address: 'node-1:7443' }],
      });
    const refused = async (config: Parameters<typeof initialiseJoiner>[0], token: string, why: RegExp) => {
      t.match(await initialiseJoiner(config, token), { ok: false, error: why });
      t.strictSame(await readdir(config.node.dataDir), [], 'nothing was made');
    };

    await refused(configOf('node-3'), tokenFor('node-3'), /must be DNS:node-3, .* there is node-2$/);
    await refused(configOf('node-2'), tokenFor('node-3'), /is for a node named "node-3"/);
    await refused({ ...configOf('node-2'), cluster: null }, tokenFor('node-2'), /no \[cluster\] section/);
    t.match(await initialiseJoiner(configOf('node-2'), tokenFor('node-2')), { ok: true });
    // Only xksd's own process, under systemd, can read that one.
    t.match(await initialiseJoiner(configOf('node-3', 'credential:key'), tokenFor('node-3')), { ok: true });
  },
);

t.test("nothing is made in another user's directory, who could not open it", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'xksd-foreign-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  // root may give it away; anybody else has the root directory for one.
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) await chown(directory, 1, 1);
  const dataDir = isRoot ? directory : '/';
  const { uid } = await stat(dataDir);
  const node = { name: 'node-1', dataDir, runtimeDir: directory };
  t.match(await initialiseFounder({ node, cluster: null }), {
    ok: false,
    error: new RegExp(`^the data directory ${dataDir} belongs to uid ${uid}, and this command runs as uid`),
  });
  t.strictSame(await readdir(directory), []);
});
