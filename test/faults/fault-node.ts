import { execFile } from 'node:child_process';
import { appendFileSync, copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { isJsonObject } from '../../src/base/guards.js';
import { makeCertificates } from '../../src/demo/certificates.js';
import { runNode } from '../../src/demo/command.js';
import { DemoNode } from '../../src/demo/demo-node.js';
import { freePort } from '../../src/demo/free-port.js';
import { makeSoftHsmToken } from '../../src/demo/softhsm-token.js';
import { type FaultShim, makeFaultShim } from '../support/fault-shim.js';
import { makeNetworkHsm, type NetworkHsm } from '../support/network-hsm.js';
import type { FaultCase, FaultyToken, HsmKind } from './fault-case.js';
import { KnownKey } from './known-key.js';
import type { LoadPlan } from './load-protocol.js';
import { type CallTimes, callTimes } from './token-capacity.js';

const run = promisify(execFile);
const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const xksctlPath = join(root, 'dist/src/cli/xksctl.js');

const pin = '4711-user-pin';
const soPin = '0815-so-pin';
const keyStore = 'faults';
const uriPathPrefix = 'faults/store';
const region = 'us-east-1';
const externalKeyId = 'customer';
export const servingProcesses = 2;
/** The product's own default. */
const requestDeadlineMs = 150;
const firstLabel = 'token-1';
const readyMsMax = 120_000;
const readyPollMs = 100;

export interface FaultNodeOptions {
  /** Empty. */
  readonly directory: string;
  readonly tokens: number;
  readonly reached: FaultCase['reached'];
  /** Of each serving process, on each token; `null`: as many as the product takes by itself. */
  readonly sessions: number | null;
  /** `null`: tokens as they are. */
  readonly hsm: HsmKind | null;
}

/** A real node over tokens that hold the same key; the first of them does as it is told. */
export class FaultNode {
  readonly token: FaultyToken;
  readonly otherShims: readonly FaultShim[];
  readonly #node: DemoNode;
  readonly #undo: (() => unknown)[];
  readonly #plan: Omit<LoadPlan, 'rate'>;

  constructor(
    node: DemoNode,
    token: FaultyToken,
    otherShims: readonly FaultShim[],
    plan: Omit<LoadPlan, 'rate'>,
    undo: (() => unknown)[],
  ) {
    this.#node = node;
    this.token = token;
    this.otherShims = otherShims;
    this.#plan = plan;
    this.#undo = undo;
  }

  static async start(options: FaultNodeOptions): Promise<FaultNode> {
    const undo: (() => unknown)[] = [];
    try {
      return await startNode(options, undo);
    } catch (failure) {
      await undoAll(undo);
      throw failure;
    }
  }

  get logFile(): string {
    return this.#node.logFile;
  }

  plan(rate: number): LoadPlan {
    return { ...this.#plan, rate };
  }

  async servingPids(): Promise<readonly number[]> {
    const { serving } = await statusOf(this.#node);
    return Array.isArray(serving)
      ? serving.flatMap((one) => (isJsonObject(one) ? [Number(one['pid'])] : []))
      : [];
  }

  async whyUnavailable(): Promise<string | null> {
    const { tokens } = await statusOf(this.#node);
    const first: unknown = Array.isArray(tokens) ? tokens[0] : null;
    return isJsonObject(first) && first['state'] === 'UNAVAILABLE' ? String(first['reason']) : null;
  }

  /** As the node's metrics tell it, no more than a second or two old. */
  async callTimes(): Promise<CallTimes> {
    const response = await fetch(this.#node.description.metricsUrl);
    return callTimes(await response.text());
  }

  async accept(): Promise<void> {
    const { probes } = await call(this.#node, 'hsm', 'probe', '--accept', firstLabel);
    const accepted =
      Array.isArray(probes) && probes.every((one) => isJsonObject(one) && one['verdict'] === 'accepted');
    if (!accepted) throw new Error(`the token was not accepted: ${JSON.stringify(probes)}`);
  }

  stop(): Promise<void> {
    return undoAll(this.#undo);
  }
}

/** Whatever else it is told, it stays an HSM of this kind, unless it is told to make IVs otherwise. */
function ofKind(shim: FaultShim, kind: HsmKind | null): FaultShim {
  if (kind === null) return shim;
  const always = (rules: readonly string[]): readonly string[] =>
    rules.some((rule) => rule.startsWith('iv ')) ? rules : [...rules, kind.rule];
  return { ...shim, setFaults: (...rules) => shim.setFaults(...always(rules)) };
}

async function undoAll(undo: (() => unknown)[]): Promise<void> {
  for (let last = undo.pop(); last !== undefined; last = undo.pop()) await last();
}

async function startNode(options: FaultNodeOptions, undo: (() => unknown)[]): Promise<FaultNode> {
  const { directory } = options;
  const teardown = { teardown: (handler: () => unknown): void => void undo.push(handler) };
  const labels = Array.from({ length: options.tokens }, (_, index) => `token-${index + 1}`);
  const softHsm = await makeTokens(directory, labels);
  const key = new KnownKey(softHsm.modulePath, pin);
  undo.push(() => key.close());
  for (const label of labels) key.create(label);

  const pinFile = join(directory, 'pin');
  writeFileSync(pinFile, `${pin}\n`, { mode: 0o600 });
  const shims: FaultShim[] = [];
  const uris: string[] = [];
  let network: NetworkHsm | null = null;
  for (const label of labels) {
    // A copy is another library to the loader, with a C_Initialize and a login of its own.
    const own = join(directory, `${label}.so`);
    copyFileSync(softHsm.modulePath, own);
    const shim = ofKind(await makeFaultShim(teardown, own), options.hsm);
    shim.setFaults();
    shims.push(shim);
    let { modulePath } = shim;
    if (options.reached === 'over-network' && network === null) {
      network = await makeNetworkHsm(teardown, { modulePath, env: softHsm.env });
      modulePath = network.modulePath;
    }
    uris.push(`pkcs11:token=${label}?module-path=${modulePath}&pin-source=file:${pinFile}`);
  }
  const [first = '', ...others] = uris;
  const [shim, ...otherShims] = shims;
  const [faultyLabel = ''] = labels;
  if (shim === undefined) throw new Error('a node has a token');

  const certificates = await makeCertificates({
    directory: join(directory, 'tls'),
    names: ['localhost'],
    ips: ['127.0.0.1'],
  });
  const sessionsMax = options.sessions === null ? null : options.sessions * servingProcesses;
  const node = new DemoNode({
    name: 'node-1',
    directory: join(directory, 'node-1'),
    ports: { xks: await freePort(0), health: await freePort(0), metrics: await freePort(0) },
    peer: null,
    certificate: certificates.certificate,
    privateKey: certificates.key,
    hsmUri: first,
    initArgs: '',
    environment: softHsm.env,
    xksdPath: join(root, 'dist/src/cli/xksd.js'),
    restart: false,
    requestDeadlineMs,
    logLevel: 'info',
    servingProcesses,
    ...(sessionsMax !== null && { sessionsMax }),
    ...(options.hsm !== null && { hsmProfile: options.hsm.profile }),
    onPidChange: () => {},
  });
  for (const uri of others)
    appendFileSync(
      node.configPath,
      `\n[[hsm]]\nuri = ${JSON.stringify(uri)}\n${sessionsMax === null ? '' : `sessions_max = ${sessionsMax}\n`}${options.hsm === null ? '' : `profile = ${JSON.stringify(options.hsm.profile)}\n`}`,
    );
  // It has a process group of its own: what ends this process, amid all this too, must not leave it behind.
  const kill = (): void => {
    const { pid } = node.description;
    if (!node.exitedEarly && pid > 0) process.kill(pid, 'SIGKILL');
  };
  process.on('exit', kill);
  undo.push(async () => {
    shim.setFaults();
    shim.releaseAll();
    await node.stop();
    process.off('exit', kill);
  });
  const access = await setUp(node, key);
  const token: FaultyToken = {
    shim,
    network,
    keyId: key.id.toString('hex'),
    deleteKey: () => key.delete(faultyLabel),
    createKey: () => key.create(faultyLabel),
  };
  const plan = {
    url: node.description.url,
    ca: readFileSync(certificates.caCertificate, 'utf8'),
    keyHex: key.bytes.toString('hex'),
    access: { uriPathPrefix, region, keyId: externalKeyId, ...access },
  };
  return new FaultNode(node, token, otherShims, plan, undo);
}

/** Tokens in one SoftHSM2 directory, which this process reads too. */
async function makeTokens(directory: string, labels: readonly string[]) {
  const [first = '', ...others] = labels;
  const made = await makeSoftHsmToken({ directory: join(directory, 'softhsm'), label: first, pin, soPin });
  for (const label of others) {
    const init = ['--init-token', '--free', '--label', label, '--pin', pin, '--so-pin', soPin];
    await run('softhsm2-util', init, { env: { ...process.env, ...made.env } });
  }
  process.env['SOFTHSM2_CONF'] = made.env.SOFTHSM2_CONF;
  return made;
}

async function setUp(node: DemoNode, key: KnownKey) {
  const initialised = await runNode([xksctlPath, 'cluster', 'init', '--config', node.configPath], {});
  if (initialised.status !== 0) throw new Error(`cluster init: ${initialised.stderr}`);
  node.start();
  await until('the admin socket', node, async () => (await xksctl(node, 'status')).status !== 1);
  // Each token is reached by then, or the first refusal says which is not yet.
  await until('hsm prepare', node, async () => (await xksctl(node, 'hsm', 'prepare')).status === 0);
  await call(node, 'keystore', 'create', keyStore, '--uri-path-prefix', uriPathPrefix, '--region', region);
  const created = await call(node, 'credential', 'create', keyStore);
  await call(node, 'key', 'add', keyStore, externalKeyId, '--object-id', key.id.toString('hex'));
  await until('every serving process ready', node, async () => {
    const { servingProcesses } = await statusOf(node);
    return isJsonObject(servingProcesses) && servingProcesses['ready'] === servingProcesses['configured'];
  });
  const credential = created['credential'];
  return {
    accessKeyId: String(isJsonObject(credential) ? credential['accessKeyId'] : ''),
    secretAccessKey: String(created['secretAccessKey']),
  };
}

const xksctl = (node: DemoNode, ...args: readonly string[]) =>
  runNode([xksctlPath, '--socket', node.adminSocket, '-o', 'json', ...args], {});

async function call(node: DemoNode, ...args: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
  const { status, stdout, stderr } = await xksctl(node, ...args);
  // 3: done, but something is degraded, as while a token is ill.
  const value: unknown = status === 0 || status === 3 ? JSON.parse(stdout) : null;
  if (!isJsonObject(value)) throw new Error(`xksctl ${args.join(' ')} failed: ${stderr || stdout}`);
  return value;
}

const statusOf = (node: DemoNode): Promise<Readonly<Record<string, unknown>>> => call(node, 'status');

async function until(what: string, node: DemoNode, holds: () => Promise<boolean>): Promise<void> {
  const endMs = Date.now() + readyMsMax;
  while (!(await holds())) {
    if (node.exitedEarly || Date.now() > endMs) {
      const log = readFileSync(node.logFile, 'utf8').trimEnd().split('\n').slice(-8).join('\n');
      throw new Error(`${what} did not happen; the end of ${node.logFile}:\n${log}`);
    }
    await delay(readyPollMs);
  }
}
