import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { makeCertificates } from '../../src/demo/certificates.js';
import { type CommandOutcome, runNode } from '../../src/demo/command.js';
import { DemoCluster } from '../../src/demo/demo-cluster.js';
import type { DemoNode } from '../../src/demo/demo-node.js';
import { XksClient } from '../../src/demo/xks-client.js';
import { whileNobodyLogsIn } from '../support/login-lock.js';
import { childrenOf, eventually, isAlive, metadata, xksctlPath, xksdPath } from '../support/running-node.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

type Json = Readonly<Record<string, unknown>>;

const xksctl = (node: DemoNode, ...args: readonly string[]): Promise<CommandOutcome> =>
  runNode([xksctlPath, '--socket', node.adminSocket, ...args], {});

async function json(node: DemoNode, ...args: readonly string[]): Promise<Json> {
  const { status, stdout, stderr } = await xksctl(node, '-o', 'json', ...args);
  if (status !== 0 && status !== 3) throw new Error(`xksctl ${args.join(' ')}: ${status} ${stderr}`);
  return JSON.parse(stdout);
}

/** Offline, as an operator does. */
const recover = (node: DemoNode, ...args: readonly string[]): Promise<CommandOutcome> =>
  runNode([xksctlPath, 'cluster', 'recover', '--config', node.configPath, ...args], {});

/** SIGKILL, and all of its processes gone. */
async function kill(node: DemoNode): Promise<void> {
  const { pid, dataDir } = node.description;
  await whileNobodyLogsIn(dataDir, async () => {
    const all = [pid, ...childrenOf(pid)];
    process.kill(pid, 'SIGKILL');
    await eventually('it has ended', () => !all.some(isAlive), node.logFile);
  });
  await node.exitCode;
}

const ready = (node: DemoNode): Promise<void> =>
  eventually(
    'ready',
    () =>
      fetch(node.description.healthUrl).then(
        ({ ok }) => ok,
        () => false,
      ),
    node.logFile,
  );

t.test('a majority is lost for good: the best survivor goes on alone, the others stay out', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'xksd-recovery-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const token = await makeSoftHsmToken(t);
  const tls = await makeCertificates({
    directory: join(directory, 'tls'),
    names: ['localhost'],
    ips: ['127.0.0.1'],
  });
  const cluster = await DemoCluster.make({
    directory,
    names: ['node-1', 'node-2', 'node-3'],
    preferredPorts: { xks: 0, health: 0, metrics: 0, peer: 0 },
    certificate: tls.certificate,
    privateKey: tls.key,
    hsmUri: token.uri,
    initArgs: token.initArgs,
    environment: { SOFTHSM2_CONF: process.env['SOFTHSM2_CONF'] ?? '' },
    xksdPath,
    xksctlPath,
    restart: false,
    requestDeadlineMs: 10_000,
    logLevel: 'info',
    onPidChange: () => {},
  });
  t.teardown(() => cluster.stop());
  const [one, two, three] = cluster.nodes;
  if (one === undefined || two === undefined || three === undefined) throw new Error('three nodes');
  const join_ = async (through: DemoNode, node: DemoNode): Promise<void> => {
    await cluster.join(through, node);
    const { name } = node.description;
    const promoted = async () => (await xksctl(through, 'cluster', 'promote', name)).status === 0;
    await eventually(`${name} votes`, promoted, node.logFile, through.logFile);
  };
  await cluster.found();
  await eventually('the admin socket', async () => (await xksctl(one, 'status')).status !== 1, one.logFile);
  await json(one, 'hsm', 'prepare');
  await json(one, 'keystore', 'create', 'prod', '--uri-path-prefix', 'prod', '--region', 'us-east-1');
  const created = await json(one, 'credential', 'create', 'prod');
  const { accessKeyId } = created['credential'] as { readonly accessKeyId: string };
  await json(one, 'key', 'generate', 'prod', 'early');
  await join_(one, two);
  await join_(one, three);

  await kill(three);
  await json(one, 'key', 'generate', 'prod', 'late');
  await json(one, 'key', 'disable', 'prod', 'early');
  const inUse = await recover(two);
  t.equal(inUse.status, 1);
  t.match(inUse.stderr, /is in use by process/);
  await Promise.all([kill(one), kill(two)]);

  const reports = { two: join(directory, 'two.report'), three: join(directory, 'three.report') };
  t.equal((await recover(two, '--report', reports.two)).status, 0);
  t.match(await recover(three, '--report', reports.three), { status: 0, stdout: /^node +node-3$/m });
  const lesser = await recover(three, '--survivor', reports.two, '--yes');
  t.equal(lesser.status, 1);
  t.match(lesser.stderr, /node-2 has the greater log: it ends at index \d+ of term \d+.*Recover node-2/);

  const dry = await recover(two, '--survivor', reports.three);
  t.equal(dry.status, 3);
  t.match(dry.stdout, /^left behind +node-1, node-3$/m);
  t.match(dry.stderr, /Not compared: node-1\..*\nNothing was changed\. node-1, node-3 must be off for good/);
  const done = await recover(two, '--survivor', three.description.dataDir, '--yes', '-o', 'json');
  t.equal(done.status, 0, done.stderr);
  const recovery = JSON.parse(done.stdout);
  t.match(recovery, { done: true, leftBehind: [{ name: 'node-1' }, { name: 'node-3' }] });
  t.match(done.stderr, /xksctl cluster forget NODE --destroyed/);
  t.match(await recover(two), { status: 1, stderr: /only voter of its cluster and needs nobody else/ });

  two.start();
  await ready(two);
  t.match(await json(two, 'cluster', 'status'), {
    clusterId: recovery.newClusterId,
    leader: 'node-2',
    members: [{ name: 'node-2', status: 'voter' }],
    formerMembers: [
      { name: 'node-1', reason: 'recovered', destroyed: false },
      { name: 'node-3', reason: 'recovered', destroyed: false },
    ],
  });
  t.match(await json(two, 'key', 'show', 'prod', 'early'), { key: { status: 'DISABLED' } });
  // Whether the last changes were known to be committed here depends on when the leader died.
  const { pending } = (await json(two, 'cluster', 'pending', 'list')) as {
    readonly pending: { index: number }[];
  };
  for (const { index } of pending) await json(two, 'cluster', 'pending', 'confirm', String(index));
  t.match(await xksctl(two, 'cluster', 'pending', 'list'), { status: 0, stdout: /Nothing waits/ });
  t.match(await xksctl(two, 'cluster', 'pending', 'drop', '1'), {
    status: 1,
    stderr: /no grant at index 1 waits/,
  });
  t.match(await xksctl(two, 'cluster', 'pending', 'drop', 'x'), { status: 2 });
  t.match(await json(two, 'key', 'show', 'prod', 'late'), { key: { status: 'ENABLED' } });
  const client = new XksClient({
    url: two.description.url,
    uriPathPrefix: 'prod',
    region: 'us-east-1',
    accessKeyId,
    secretAccessKey: String(created['secretAccessKey']),
    ca: readFileSync(tls.caCertificate, 'utf8'),
  });
  t.teardown(() => client.close());
  const encrypted = await client.call('/keys/late/encrypt', {
    requestMetadata: metadata,
    plaintext: Buffer.from('after all').toString('base64'),
    encryptionAlgorithm: 'AES_GCM',
  });
  t.type(encrypted['ciphertext'], 'string');

  // One that was left behind finds its former fellow in another cluster.
  three.start();
  const fence = join(three.description.dataDir, 'fence.json');
  await eventually('the fence', () => existsSync(fence), three.logFile, two.logFile);
  t.match(readFileSync(fence, 'utf8'), /node-2 went on in a recovered cluster, which left this node behind/);
  await kill(three);
  await kill(two);
  three.start();
  const refuses = async (): Promise<boolean> => {
    const answer = await fetch(three.description.healthUrl).catch(() => null);
    return answer?.status === 503 && (await answer.text()).includes('left this node behind');
  };
  await eventually('it stays fenced off, with nobody to ask', refuses, three.logFile);
  await kill(three);
  t.match(await recover(three), { status: 1, stderr: /node-3 was told that it does not belong/ });

  two.start();
  await ready(two);
  rmSync(one.description.dataDir, { recursive: true, force: true });
  await join_(two, one);
  t.match(await json(two, 'cluster', 'forget', 'node-1', '--destroyed'), {}, 'its former self');
  t.match(await json(one, 'cluster', 'status'), {
    clusterId: recovery.newClusterId,
    members: [
      { name: 'node-2', status: 'voter' },
      { name: 'node-1', status: 'voter' },
    ],
  });
  t.match(await json(one, 'key', 'show', 'prod', 'late'), {
    key: { status: 'ENABLED' },
    reading: { confirmed: true },
  });

  // One of two is no majority.
  await kill(two);
  t.match(await xksctl(one, 'key', 'show', 'prod', 'late'), {
    status: 12,
    stdout: '',
    stderr: /^xksctl: no quorum: .*--stale to see what this node knows, as of \d+ s ago/,
  });
  const stale = await xksctl(one, 'key', 'show', 'prod', 'late', '--stale', '-o', 'json');
  t.match(stale, { status: 0, stderr: /^Careful: no quorum was asked\..* as of \d+ s ago/ });
  t.match(JSON.parse(stale.stdout), { key: { status: 'ENABLED' }, reading: { confirmed: false } });
  t.match(await json(one, 'cluster', 'status'), { leader: null });
});
