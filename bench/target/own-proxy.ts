import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isJsonObject } from '../../src/base/guards.js';
import { makeCertificates } from '../../src/demo/certificates.js';
import { runNode } from '../../src/demo/command.js';
import { type DebianPackage, ensureDebianPackages } from '../../src/demo/debian-packages.js';
import { DemoCluster } from '../../src/demo/demo-cluster.js';
import type { DemoNode } from '../../src/demo/demo-node.js';
import { provideDemoToken } from '../../src/demo/demo-token.js';
import type { BenchTarget } from './bench-target.js';
import { buildSlowModule } from './slow-module.js';

export interface OwnProxyOptions {
  /** The repository's root. */
  readonly root: string;
  /** Empty; token, certificates, data and logs go there. */
  readonly directory: string;
  readonly nodes: number;
  readonly servingProcesses: number;
  /** PKCS#11 sessions of a serving process at most; `null`: the product's own default. */
  readonly sessions: number | null;
  /** What every PKCS#11 call of the data path takes on top, milliseconds; 0 for the token as it is. */
  readonly tokenDelayMs: number;
  /** Where every process writes a CPU profile when it ends; `null`: nowhere. */
  readonly profileDirectory: string | null;
}

const realParts: readonly DebianPackage[] = [
  { name: 'softhsm2', provides: 'softhsm2-util' },
  { name: 'openssl', provides: 'openssl' },
];
const keyStore = 'bench';
const uriPathPrefix = 'bench/keystore';
const region = 'us-east-1';
const keyId = 'bench-key';
const readyTimeoutMs = 120_000;
const readyPollMs = 100;
/** The product's own default. */
const requestDeadlineMs = 150;

/** Starts nodes of ours on loopback over a throwaway SoftHSM2 token, with a key store, a credential and a key. */
export async function startOwnProxy(options: OwnProxyOptions): Promise<BenchTarget> {
  const ensured = ensureDebianPackages(realParts, (line) => console.error(line));
  if (!ensured.ok) throw new Error(ensured.error);
  const { root, directory, tokenDelayMs, profileDirectory } = options;
  const slow = tokenDelayMs > 0 ? await buildSlowModule(root, directory) : null;
  const token = await provideDemoToken({
    directory,
    module: slow?.modulePath ?? null,
    initArgs: '',
    token: null,
  });
  if (!token.ok) throw new Error(token.error);
  const certificates = await makeCertificates({
    directory: join(directory, 'tls'),
    names: ['localhost'],
    ips: ['127.0.0.1'],
  });
  const cluster = await DemoCluster.make({
    directory,
    names: Array.from({ length: options.nodes }, (_, index) => `node-${index + 1}`),
    preferredPorts: { xks: 0, health: 0, metrics: 0, peer: 0 },
    certificate: certificates.certificate,
    privateKey: certificates.key,
    hsmUri: token.value.uri,
    initArgs: '',
    environment: { ...token.value.environment, ...slow?.environment(tokenDelayMs * 1_000) },
    xksdPath: join(root, 'dist/src/cli/xksd.js'),
    xksctlPath: join(root, 'dist/src/cli/xksctl.js'),
    restart: false,
    requestDeadlineMs,
    logLevel: 'info',
    servingProcesses: options.servingProcesses,
    ...(options.sessions !== null && { sessionsMax: options.sessions * options.servingProcesses }),
    nodeArguments: profileDirectory === null ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileDirectory}`],
    onPidChange: () => {},
  });
  // Nodes have process groups of their own: what ends this process must not leave them behind. Their other processes
  // end with the supervisor.
  const killNodes = (): void => {
    for (const { description, exitedEarly } of cluster.nodes)
      if (!exitedEarly && description.pid > 0) process.kill(description.pid, 'SIGKILL');
  };
  const stop = async (): Promise<void> => {
    await cluster.stop();
    process.off('exit', killNodes);
  };
  // Before the folder goes in which they write.
  process.prependListener('exit', killNodes);
  try {
    const operator = new Operator(root);
    const first = await cluster.found();
    await operator.reached(first);
    const { accessKeyId, secretAccessKey } = await setUp(operator, first);
    for (const node of cluster.nodes.slice(1)) {
      await cluster.join(first, node);
      await operator.reached(node);
      const promote = ['cluster', 'promote', node.description.name];
      await until('the promotion', node, () => operator.succeeds(first, promote));
    }
    for (const node of cluster.nodes)
      await until('every serving process ready', node, () => operator.allServing(node));
    return {
      name: options.nodes === 1 ? 'xksd' : `xksd, ${options.nodes} nodes`,
      urls: cluster.nodes.map(({ description }) => description.url),
      ca: readFileSync(certificates.caCertificate, 'utf8'),
      access: { uriPathPrefix, keyId, region, accessKeyId, secretAccessKey },
      pids: cluster.nodes.map(({ description }) => description.pid),
      adminSocket: first.adminSocket,
      stop,
    };
  } catch (failure) {
    await stop();
    throw failure;
  }
}

async function setUp(
  operator: Operator,
  node: DemoNode,
): Promise<{ readonly accessKeyId: string; readonly secretAccessKey: string }> {
  await operator.call(node, 'hsm', 'prepare');
  const location = ['--uri-path-prefix', uriPathPrefix, '--region', region];
  await operator.call(node, 'keystore', 'create', keyStore, ...location);
  const created = await operator.call(node, 'credential', 'create', keyStore);
  await operator.call(node, 'key', 'generate', keyStore, keyId);
  const credential = created['credential'];
  const accessKeyId = isJsonObject(credential) ? credential['accessKeyId'] : undefined;
  return { accessKeyId: String(accessKeyId), secretAccessKey: String(created['secretAccessKey']) };
}

/** Sets nodes up as an operator would, through `xksctl`. */
class Operator {
  readonly #xksctlPath: string;

  constructor(root: string) {
    this.#xksctlPath = join(root, 'dist/src/cli/xksctl.js');
  }

  async call(node: DemoNode, ...args: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
    const { status, stdout, stderr } = await this.#run(node, args);
    // 3: done, but something is degraded, as while processes are starting.
    const value: unknown = status === 0 || status === 3 ? JSON.parse(stdout) : null;
    if (!isJsonObject(value)) throw new Error(`xksctl ${args.join(' ')} failed: ${stderr || stdout}`);
    return value;
  }

  async succeeds(node: DemoNode, args: readonly string[]): Promise<boolean> {
    return (await this.#run(node, args)).status === 0;
  }

  reached(node: DemoNode): Promise<void> {
    return until('the admin socket', node, async () => (await this.#run(node, ['status'])).status !== 1);
  }

  async allServing(node: DemoNode): Promise<boolean> {
    const { servingProcesses } = await this.call(node, 'status');
    return isJsonObject(servingProcesses) && servingProcesses['ready'] === servingProcesses['configured'];
  }

  #run(node: DemoNode, args: readonly string[]) {
    return runNode([this.#xksctlPath, '--socket', node.adminSocket, '-o', 'json', ...args], {});
  }
}

async function until(what: string, node: DemoNode, holds: () => Promise<boolean>): Promise<void> {
  const endMs = Date.now() + readyTimeoutMs;
  while (!(await holds())) {
    if (node.exitedEarly || Date.now() > endMs) {
      const log = readFileSync(node.logFile, 'utf8').trimEnd().split('\n').slice(-5).join('\n');
      throw new Error(`${what} did not happen; the end of ${node.logFile}:\n${log}`);
    }
    await delay(readyPollMs);
  }
}
