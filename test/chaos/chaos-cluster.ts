import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isJsonObject } from '../../src/base/guards.js';
import { makeCertificates } from '../../src/demo/certificates.js';
import { type DebianPackage, ensureDebianPackages } from '../../src/demo/debian-packages.js';
import { DemoCluster } from '../../src/demo/demo-cluster.js';
import { provideDemoToken } from '../../src/demo/demo-token.js';
import { freePort } from '../../src/demo/free-port.js';
import { eventually, xksctlPath, xksdPath } from '../support/running-node.js';
import { ChaosNode, type ClusterStatus } from './chaos-node.js';
import { HaProxy, haproxyPackage } from './haproxy.js';
import { buildKillShim } from './kill-shim.js';
import { LinkProxies } from './link-proxies.js';
import { Load } from './load.js';
import { Reaper } from './reaper.js';
import { SmallDisk } from './small-disk.js';
import type { XksAccess } from './xks-caller.js';

export const realParts: readonly DebianPackage[] = [
  haproxyPackage,
  { name: 'softhsm2', provides: 'softhsm2-util' },
  { name: 'openssl', provides: 'openssl' },
];

export const keyStoreName = 'test';
const uriPathPrefix = 'test/store';
const region = 'us-east-1';
/** Never disabled. */
export const loadKeys: readonly string[] = ['load-1', 'load-2'];
/** Switched on and off by those who administer. */
export const toggledKeys: readonly string[] = ['toggled-1', 'toggled-2', 'toggled-3'];

/** Answers are judged, not their time: a busy machine must not look like a broken one. */
const requestDeadlineMs = 10_000;
/** Longer than the balancer needs to see it, and every kept connection to be told. */
const drainSeconds = 3;

export interface ChaosClusterOptions {
  /** Exists, and is empty. */
  readonly directory: string;
  readonly nodes: number;
  /** Requests per second through the balancer. */
  readonly rate: number;
  /** Give one node a disk that can be filled, and all what kills them at a step; needs rights, and a compiler. */
  readonly faults: boolean;
}

/** Nodes in processes of their own, with a switch on every link between them, behind a balancer, under load. */
export class ChaosCluster {
  readonly nodes: readonly ChaosNode[];
  readonly links: LinkProxies;
  readonly load: Load;
  /** Of that, requests per second. */
  readonly rate: number;
  readonly directory: string;
  readonly demo: DemoCluster;
  /** The data directory of the last node; `null`: an ordinary one. */
  readonly disk: SmallDisk | null;
  readonly #access: Omit<XksAccess, 'host'>;
  readonly #balancer: HaProxy;
  readonly #reaper: Reaper;

  private constructor(parts: {
    readonly nodes: readonly ChaosNode[];
    readonly links: LinkProxies;
    readonly load: Load;
    readonly rate: number;
    readonly directory: string;
    readonly demo: DemoCluster;
    readonly disk: SmallDisk | null;
    readonly access: Omit<XksAccess, 'host'>;
    readonly balancer: HaProxy;
    readonly reaper: Reaper;
  }) {
    this.nodes = parts.nodes;
    this.links = parts.links;
    this.load = parts.load;
    this.rate = parts.rate;
    this.directory = parts.directory;
    this.demo = parts.demo;
    this.disk = parts.disk;
    this.#access = parts.access;
    this.#balancer = parts.balancer;
    this.#reaper = parts.reaper;
  }

  static async start(options: ChaosClusterOptions): Promise<ChaosCluster> {
    const { directory, rate } = options;
    const ensured = ensureDebianPackages(realParts, (line) => console.error(line));
    if (!ensured.ok) throw new Error(ensured.error);
    const token = await provideDemoToken({
      directory: join(directory, 'token'),
      module: null,
      initArgs: '',
      token: null,
    });
    if (!token.ok) throw new Error(token.error);
    const certificates = await makeCertificates({
      directory: join(directory, 'tls'),
      names: ['localhost'],
      ips: ['127.0.0.1'],
    });
    let nodes: readonly ChaosNode[] = [];
    let balancer: HaProxy | null = null;
    let disk: SmallDisk | null = null;
    const reaper = await Reaper.start();
    const watch = (): void => {
      const pids = [balancer?.pid ?? 0, ...nodes.map((node) => node.pid)];
      reaper.watch(
        pids.filter((pid) => pid > 0),
        disk === null ? [] : [disk.directory],
      );
    };
    const links = new LinkProxies(() => nodes);
    const demo = await DemoCluster.make({
      directory,
      names: Array.from({ length: options.nodes }, (_, place) => `node-${place + 1}`),
      preferredPorts: { xks: 0, health: 0, metrics: 0, peer: 0 },
      certificate: certificates.certificate,
      privateKey: certificates.key,
      hsmUri: token.value.uri,
      initArgs: '',
      environment: {
        ...token.value.environment,
        ...(options.faults && { LD_PRELOAD: await buildKillShim(directory) }),
      },
      xksdPath,
      xksctlPath,
      restart: false,
      requestDeadlineMs,
      drainSeconds,
      logLevel: 'info',
      onPidChange: watch,
      advertise: (name, port) => links.listen(name, port),
    });
    nodes = demo.nodes.map((node) => new ChaosNode(node));
    let load: Load | null = null;
    try {
      const last = options.faults ? nodes.at(-1) : undefined;
      if (last !== undefined) disk = await SmallDisk.mount(last.dataDir).catch(() => null);
      const first = new ChaosNode(await demo.found());
      await administrable(first);
      const credential = await setUp(first);
      await grow(demo, nodes);
      for (const node of nodes)
        await eventually(`${node.name} ready`, async () => (await node.health()) === 200);
      const port = await freePort(0);
      balancer = await HaProxy.start(
        directory,
        port,
        nodes.map(({ name, demo: { description } }) => ({
          name,
          xksPort: Number(new URL(description.url).port),
          healthPort: Number(new URL(description.healthUrl).port),
        })),
      );
      watch();
      const access = {
        ca: readFileSync(certificates.caCertificate, 'utf8'),
        uriPathPrefix,
        region,
        ...credential,
      };
      load = new Load({ access: { ...access, host: `127.0.0.1:${port}` }, keys: loadKeys, rate });
      return new ChaosCluster({ nodes, links, load, rate, directory, demo, disk, access, balancer, reaper });
    } catch (failure) {
      await Promise.all([load?.stop(), balancer?.stop(), ...nodes.map((node) => node.killAll())]);
      links.close();
      await demo.stop();
      await disk?.unmount();
      await reaper.stop();
      throw failure;
    }
  }

  node(name: string): ChaosNode {
    const found = this.nodes.find((node) => node.name === name);
    if (found === undefined) throw new Error(`there is no ${name}`);
    return found;
  }

  others(...not: readonly ChaosNode[]): readonly ChaosNode[] {
    return this.nodes.filter((node) => !not.includes(node));
  }

  /** Every process that there is now, by a short name: of nodes by their number, r for the replica and s for one that serves. */
  processes(): ReadonlyMap<string, number> {
    const found = new Map<string, number>([
      ['balancer', this.#balancer.pid],
      ['load', this.load.pid],
      ['test', process.pid],
    ]);
    for (const [place, node] of this.nodes.entries()) {
      for (const pid of node.processes('replica')) found.set(`r${place + 1}`, pid);
      for (const [each, pid] of node.processes('serving').entries())
        found.set(`s${place + 1}${'ab'[each] ?? 'x'}`, pid);
    }
    return found;
  }

  /** Until the balancer sends nothing more to a node, or does again. */
  balancerHolds(node: ChaosNode, state: 'up' | 'down'): Promise<void> {
    const holds = (): boolean => this.#balancer.isUp(node.name) === (state === 'up');
    return eventually(`the balancer holds ${node.name} for ${state}`, holds, node.demo.logFile);
  }

  /** How to call one node past the balancer. */
  accessTo(node: ChaosNode): XksAccess {
    return { ...this.#access, host: node.host };
  }

  /** The node that leads, once one of `among` does in a term above `termAbove`, and knows that it does. */
  async leader(
    among: readonly ChaosNode[] = this.nodes,
    termAbove = 0,
  ): Promise<{ readonly node: ChaosNode; readonly status: ClusterStatus }> {
    let found: { readonly node: ChaosNode; readonly status: ClusterStatus } | null = null;
    await eventually('a leader', async () => {
      const statuses = await Promise.all(among.map((node) => node.status()));
      for (const [place, status] of statuses.entries()) {
        const node = among[place];
        if (status?.role !== 'leader' || status.term <= termAbove || node === undefined) continue;
        if (found === null || status.term > found.status.term) found = { node, status };
      }
      return found !== null;
    });
    if (found === null) throw new Error('a leader was found, and is not there');
    return found;
  }

  /** The same, once every node follows it and holds all that is committed. */
  async settledLeader(): Promise<{ readonly node: ChaosNode; readonly status: ClusterStatus }> {
    let found = await this.leader();
    await eventually('everybody follows the leader', async () => {
      found = await this.leader();
      const { term, commitIndex } = found.status;
      const statuses = await Promise.all(this.nodes.map((node) => node.status()));
      return statuses.every(
        (status) =>
          status !== null &&
          status.term === term &&
          status.leader !== null &&
          status.appliedIndex >= commitIndex,
      );
    });
    return found;
  }

  /** Heals everything, and waits until all of `among` serve, agree on a leader, and hold the same state. */
  async converged(among: readonly ChaosNode[] = this.nodes): Promise<string> {
    this.links.heal();
    for (const node of this.nodes) node.resume();
    for (const node of among) {
      await eventually(`${node.name} ready`, async () => (await node.health()) === 200, node.demo.logFile);
    }
    let agreed = '';
    let last: readonly (ClusterStatus | null)[] = [];
    try {
      await eventually('one state on all nodes', async () => {
        last = await Promise.all(among.map((node) => node.status()));
        const views = last.map((status) =>
          status === null || status.leader === null || status.halted !== null
            ? null
            : `${status.leader} ${status.term} ${status.commitIndex} ${status.appliedIndex} ${status.stateHash}`,
        );
        const [view] = views;
        if (view === null || view === undefined || views.some((other) => other !== view)) return false;
        const [status] = last;
        agreed = `leader ${status?.leader}, term ${status?.term}, index ${status?.appliedIndex}, hash ${status?.stateHash.slice(0, 12)}`;
        return status?.commitIndex === status?.appliedIndex;
      });
    } catch (failure) {
      throw new Error(`${String(failure)}: ${JSON.stringify(last)}`);
    }
    return agreed;
  }

  /** Ends everything that was started. */
  async stop(): Promise<void> {
    for (const node of this.nodes) node.resume();
    await this.load.stop();
    await this.#balancer.stop();
    this.links.close();
    await Promise.all(this.nodes.map((node) => node.killAll()));
    await this.demo.stop();
    await this.disk?.unmount();
    await this.#reaper.stop();
  }
}

const administrable = (node: ChaosNode): Promise<void> =>
  eventually('the admin socket', async () => (await node.status()) !== null, node.demo.logFile);

async function json(node: ChaosNode, ...args: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
  const { status, stdout, stderr } = await node.xksctl('-o', 'json', ...args);
  const value: unknown = status === 0 || status === 3 ? JSON.parse(stdout) : null;
  if (!isJsonObject(value)) throw new Error(`xksctl ${args.join(' ')}: ${status} ${stderr}${stdout}`);
  return value;
}

async function setUp(
  node: ChaosNode,
): Promise<{ readonly accessKeyId: string; readonly secretAccessKey: string }> {
  await json(node, 'hsm', 'prepare');
  const where = ['--uri-path-prefix', uriPathPrefix, '--region', region];
  await json(node, 'keystore', 'create', keyStoreName, ...where);
  const { credential, secretAccessKey } = await json(node, 'credential', 'create', keyStoreName);
  for (const key of [...loadKeys, ...toggledKeys]) await json(node, 'key', 'generate', keyStoreName, key);
  const accessKeyId = isJsonObject(credential) ? credential['accessKeyId'] : '';
  return { accessKeyId: String(accessKeyId), secretAccessKey: String(secretAccessKey) };
}

/** One at a time, as an operator would: each gets its vote before the next joins. */
async function grow(demo: DemoCluster, nodes: readonly ChaosNode[]): Promise<void> {
  const [first, ...rest] = nodes;
  if (first === undefined) return;
  for (const node of rest) {
    await demo.join(first.demo, node.demo);
    await promoted(first, node);
  }
}

/** Gives `node` its vote as soon as the others find it ready for that. */
export async function promoted(through: ChaosNode, node: ChaosNode): Promise<void> {
  await administrable(node);
  await eventually(
    `the promotion of ${node.name}`,
    async () => {
      try {
        await through.call('cluster.promote', { name: node.name });
        return true;
      } catch {
        return false;
      }
    },
    node.demo.logFile,
  );
}
