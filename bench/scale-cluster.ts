import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isJsonObject } from '../src/base/guards.js';
import { makeCertificates } from '../src/demo/certificates.js';
import { ensureDebianPackages } from '../src/demo/debian-packages.js';
import { DemoCluster } from '../src/demo/demo-cluster.js';
import { provideDemoToken } from '../src/demo/demo-token.js';
import { promoted } from '../test/chaos/chaos-cluster.js';
import { ChaosNode } from '../test/chaos/chaos-node.js';
import { XksCaller } from '../test/chaos/xks-caller.js';
import { eventually, isAlive, xksctlPath, xksdPath } from '../test/support/running-node.js';
import type { XksAccess } from './driver/prepared-requests.js';
import { type Fill, fillLog } from './scale-fill.js';

const keyStore = 'served';
const uriPathPrefix = 'served';
const region = 'us-east-1';
export const keyId = 'served-key';
const plaintext = Buffer.alloc(32, 7).toString('base64');
const nodeNames = ['node-1', 'node-2', 'node-3'];

const roles = ['replica', 'serving'] as const;
export type Role = (typeof roles)[number];

/** Three real nodes on loopback whose key state is as large as wanted. Nodes that die stay dead. */
export class ScaleCluster {
  readonly nodes: readonly ChaosNode[];
  readonly #demo: DemoCluster;
  readonly #ca: string;
  readonly #credential: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** What filling came to: changes a second; `null`: nothing was to be filled. */
  readonly changesPerSecond: number | null;

  private constructor(
    demo: DemoCluster,
    ca: string,
    credential: ScaleCluster['credential'],
    changesPerSecond: number | null,
  ) {
    this.#demo = demo;
    this.nodes = demo.nodes.map((node) => new ChaosNode(node));
    this.#ca = ca;
    this.#credential = credential;
    this.changesPerSecond = changesPerSecond;
    process.on('exit', this.#kill);
  }

  get credential(): { readonly accessKeyId: string; readonly secretAccessKey: string } {
    return this.#credential;
  }

  /** PEM of the authority of every node's certificate. */
  get ca(): string {
    return this.#ca;
  }

  /** What requests to it are signed with and are for. */
  get access(): XksAccess {
    return { uriPathPrefix, keyId, region, ...this.#credential };
  }

  /** Their children end with them. */
  readonly #kill = (): void => killNodes(this.nodes);

  /** The first node, alone, with its key state; not running. @param fill `null`: only what requests are for. */
  static async found(directory: string, fill: Fill | null): Promise<ScaleCluster> {
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const ensured = ensureDebianPackages(
      [
        { name: 'softhsm2', provides: 'softhsm2-util' },
        { name: 'openssl', provides: 'openssl' },
      ],
      (line) => console.log(line),
    );
    if (!ensured.ok) throw new Error(ensured.error);
    const token = await provideDemoToken({ directory, module: null, initArgs: '', token: null });
    if (!token.ok) throw new Error(token.error);
    const tls = join(directory, 'tls');
    const certificates = await makeCertificates({ directory: tls, names: ['localhost'], ips: ['127.0.0.1'] });
    const demo = await DemoCluster.make({
      directory,
      names: nodeNames,
      preferredPorts: { xks: 0, health: 0, metrics: 0, peer: 0 },
      certificate: certificates.certificate,
      privateKey: certificates.key,
      hsmUri: token.value.uri,
      initArgs: '',
      environment: token.value.environment,
      xksdPath,
      xksctlPath,
      restart: false,
      requestDeadlineMs: 150,
      logLevel: 'info',
      onPidChange: () => {},
    });
    const first = new ChaosNode(await demo.found());
    const kill = (): void => killNodes([first]);
    process.on('exit', kill);
    try {
      await eventually('the admin socket', async () => (await first.status()) !== null, first.demo.logFile);
      // The replica may be up before a serving process has reached the token.
      const prepared = async (): Promise<boolean> => (await first.xksctl('hsm', 'prepare')).status === 0;
      await eventually('the token is prepared', prepared, first.demo.logFile);
      const where = ['--uri-path-prefix', uriPathPrefix, '--region', region];
      await json(first, 'keystore', 'create', keyStore, ...where);
      const created = await json(first, 'credential', 'create', keyStore);
      await json(first, 'key', 'generate', keyStore, keyId);
      const { credential, secretAccessKey } = created;
      const accessKeyId = isJsonObject(credential) ? String(credential['accessKeyId']) : '';
      await first.terminate();
      const perSecond = fill === null ? null : await fillLog(first.dataDir, fill);
      const ca = readFileSync(certificates.caCertificate, 'utf8');
      process.off('exit', kill);
      const known = { accessKeyId, secretAccessKey: String(secretAccessKey) };
      return new ScaleCluster(demo, ca, known, perSecond);
    } catch (failure) {
      await demo.stop();
      throw failure;
    }
  }

  get first(): ChaosNode {
    const [first] = this.nodes;
    if (first === undefined) throw new Error('a cluster has a node');
    return first;
  }

  caller(node: ChaosNode, connections: number): XksCaller {
    return new XksCaller(
      { host: node.host, ca: this.#ca, uriPathPrefix, region, ...this.#credential },
      connections,
    );
  }

  /** Milliseconds until `node` answers an Encrypt, each asked over a connection of its own. */
  async untilServes(node: ChaosNode): Promise<number> {
    const startMs = performance.now();
    const caller = this.caller(node, 1);
    await eventually(
      `${node.name} serves`,
      async () => {
        const answer = await caller.encrypt(keyId, plaintext, true).catch(() => null);
        return answer?.status === 200;
      },
      node.demo.logFile,
    );
    await caller.destroy();
    return performance.now() - startMs;
  }

  /** Lets an empty node join. Resolves as it starts: a learner that knows nothing yet. */
  join(node: ChaosNode): Promise<void> {
    return this.#demo.join(this.first.demo, node.demo);
  }

  async promote(node: ChaosNode): Promise<void> {
    await promoted(this.first, node);
  }

  async leader(): Promise<ChaosNode> {
    let found: ChaosNode | null = null;
    await eventually('a leader', async () => {
      for (const node of this.nodes) if ((await node.status())?.role === 'leader') found = node;
      return found !== null;
    });
    if (found === null) throw new Error('a leader was found, and is not there');
    return found;
  }

  /** Every process of every node at once, as when the power fails. */
  async killAll(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.killAll()));
  }

  async stop(): Promise<void> {
    await this.killAll();
    await this.#demo.stop();
    process.off('exit', this.#kill);
  }
}

function killNodes(nodes: readonly ChaosNode[]): void {
  for (const { pid } of nodes) if (pid > 0 && isAlive(pid)) process.kill(pid, 'SIGKILL');
}

async function json(node: ChaosNode, ...args: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
  const { status, stdout, stderr } = await node.xksctl('-o', 'json', ...args);
  const value: unknown = status === 0 ? JSON.parse(stdout) : null;
  if (!isJsonObject(value)) throw new Error(`xksctl ${args.join(' ')}: ${status} ${stderr}${stdout}`);
  return value;
}
