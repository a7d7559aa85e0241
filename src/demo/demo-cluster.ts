import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { makeCertificateAuthority, makeNodeCertificate } from './certificates.js';
import { runNode } from './command.js';
import { DemoNode, type DemoNodeOptions, type PeerEndpoint } from './demo-node.js';
import { freePort } from './free-port.js';

/** What the nodes of a demo have in common. */
export interface DemoClusterOptions
  extends Omit<DemoNodeOptions, 'name' | 'directory' | 'ports' | 'peer' | 'onPidChange'> {
  readonly directory: string;
  readonly names: readonly string[];
  /** Of the first node; the others take those that follow. 0: any that are free. */
  readonly preferredPorts: {
    readonly xks: number;
    readonly health: number;
    readonly metrics: number;
    readonly peer: number;
  };
  readonly xksctlPath: string;
  readonly onPidChange: () => void;
  /** What the others are told of where a node listens: something in between, for tests that cut it. */
  readonly advertise?: (name: string, port: number) => Promise<string>;
}

export class ClusterFailure extends Error {}

/** Several nodes on loopback that share key state, as an operator would set them up. */
export class DemoCluster {
  readonly nodes: readonly DemoNode[];
  readonly #xksctlPath: string;
  readonly #endpoints: readonly PeerEndpoint[];

  private constructor(nodes: readonly DemoNode[], endpoints: readonly PeerEndpoint[], xksctlPath: string) {
    this.nodes = nodes;
    this.#endpoints = endpoints;
    this.#xksctlPath = xksctlPath;
  }

  /** Makes certificates, configurations and folders. Nothing is started. */
  static async make(options: DemoClusterOptions): Promise<DemoCluster> {
    const { directory, names, preferredPorts, xksctlPath, advertise, ...common } = options;
    const certificates = join(directory, 'cluster-tls');
    await mkdir(certificates, { recursive: true });
    const ca = await makeCertificateAuthority(certificates);
    const nodes: DemoNode[] = [];
    const endpoints: PeerEndpoint[] = [];
    const taken = new Set<number>();
    const port = async (preferred: number): Promise<number> => {
      for (;;) {
        const free = await freePort(preferred === 0 ? 0 : preferred + nodes.length);
        if (!taken.has(free) && taken.add(free)) return free;
      }
    };
    for (const name of names) {
      const { certificate, key } = await makeNodeCertificate(certificates, name, ca);
      const peerPort = await port(preferredPorts.peer);
      const peer: PeerEndpoint = {
        port: peerPort,
        advertise: (await advertise?.(name, peerPort)) ?? `127.0.0.1:${peerPort}`,
        ca: ca.caCertificate,
        certificate,
        privateKey: key,
      };
      const ports = {
        xks: await port(preferredPorts.xks),
        health: await port(preferredPorts.health),
        metrics: await port(preferredPorts.metrics),
      };
      nodes.push(new DemoNode({ ...common, name, directory: join(directory, name), ports, peer }));
      endpoints.push(peer);
    }
    return new DemoCluster(nodes, endpoints, xksctlPath);
  }

  /** The first node, founded and started; the others come with `join`. */
  async found(): Promise<DemoNode> {
    const [first] = this.nodes;
    if (first === undefined) throw new ClusterFailure('a cluster has a node');
    await this.#run(first, ['cluster', 'init', '--config', first.configPath]);
    first.start();
    return first;
  }

  /** Adds a node through another one, and starts it. It is a learner then. */
  async join(through: DemoNode, node: DemoNode): Promise<void> {
    const { name } = node.description;
    const endpoint = this.#endpoints[this.nodes.indexOf(node)];
    const added = await this.#run(through, [
      ...['--socket', through.adminSocket, '-o', 'json', 'cluster', 'add', name],
      ...['--address', endpoint?.advertise ?? ''],
    ]);
    const { joinToken } = JSON.parse(added) as { readonly joinToken: string };
    await this.#run(node, ['cluster', 'join', '--config', node.configPath], joinToken);
    node.start();
  }

  async #run(node: DemoNode, args: readonly string[], input?: string): Promise<string> {
    const outcome = await runNode([this.#xksctlPath, ...args], {}, input);
    if (outcome.status === 0) return outcome.stdout;
    const { name } = node.description;
    throw new ClusterFailure(`xksctl ${args.join(' ')} failed on ${name}: ${outcome.stderr.trim()}`);
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.stop()));
  }
}
