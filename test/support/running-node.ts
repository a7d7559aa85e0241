import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { isJsonObject } from '../../src/base/guards.js';
import { makeCertificates } from '../../src/demo/certificates.js';
import { type CommandOutcome, runNode } from '../../src/demo/command.js';
import { libraryDirectory } from '../../src/demo/debian-packages.js';
import { DemoNode } from '../../src/demo/demo-node.js';
import { freePort } from '../../src/demo/free-port.js';
import { XksClient } from '../../src/demo/xks-client.js';
import { makeNssToken } from './nss.js';
import { makeSoftHsmToken, type SoftHsmTestToken } from './softhsm.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');
export const xksdPath = join(root, 'dist/src/cli/xksd.js');
export const xksctlPath = join(root, 'dist/src/cli/xksctl.js');

/** Longer than a busy test machine ever makes a request wait; the default is tested where time is virtual. */
const requestDeadlineMs = 10_000;
const waitMaxMs = 300_000;
const pollMs = 25;

/** Resolves when `holds` does; shows the ends of these logs and fails the test when it has not after five minutes. */
export async function eventually(
  what: string,
  holds: () => boolean | Promise<boolean>,
  ...logs: readonly string[]
): Promise<void> {
  const endMs = Date.now() + waitMaxMs;
  while (!(await holds())) {
    if (Date.now() > endMs) {
      // As comments of TAP, which makes one line of an error's message.
      for (const line of logs.flatMap((log) => readLog(log).split('\n'))) console.log(`# ${line}`);
      throw new Error(`${what} did not happen in ${waitMaxMs / 1_000} s`);
    }
    await delay(pollMs);
  }
}

const logLinesShown = 30;

const readLog = (path: string): string => {
  try {
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
    return [`the last of ${path}:`, ...lines.slice(-logLinesShown)].join('\n');
  } catch {
    return `${path} cannot be read`;
  }
};

export interface RunningNode {
  readonly node: DemoNode;
  readonly directory: string;
  readonly caFile: string;
  /** The first token, when it is SoftHSM's, and the second. */
  readonly softHsm: readonly SoftHsmTestToken[];
  readonly pin: string;
  readonly pinFile: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly uriPathPrefix: string;
  readonly client: XksClient;
  xksctl(...args: readonly string[]): Promise<CommandOutcome>;
  /** `xksctl … -o json`; throws when it fails. */
  xksctlJson(...args: readonly string[]): Promise<Readonly<Record<string, unknown>>>;
  status(): Promise<NodeStatus>;
}

export interface NodeStatus {
  readonly replica: { readonly pid: number };
  readonly serving: readonly {
    readonly process: string;
    readonly pid: number;
    readonly ready: boolean | null;
  }[];
  readonly servingProcesses: { readonly configured: number; readonly ready: number };
  readonly tokens: readonly {
    readonly label: string | null;
    readonly state: string;
    readonly reason: string | null;
  }[];
}

export interface NodeSetUp {
  readonly drainSeconds?: number;
  /** `[[hsm]] sessions_max`. */
  readonly sessionsMax?: number;
  readonly token?: 'softhsm' | 'nss';
  readonly logLevel?: 'info' | 'debug';
  /** `xksd run --trace-pkcs11`. */
  readonly tracePkcs11?: boolean;
  /** Has OpenSC's spy, a PKCS#11 module that passes calls on, write each call of the node into this file. */
  readonly spyLog?: string;
  /** Makes the second token of a node with two. */
  readonly secondToken?: (first: SoftHsmTestToken) => Promise<SoftHsmTestToken>;
  /** Names the module as p11-kit knows it, not by its path. */
  readonly moduleName?: string;
  /** Gives the path of another module to put before the token's own. */
  readonly throughModule?: (modulePath: string) => Promise<string>;
}

/** A real xksd in processes of its own, with a key store `test` (prefix `test/store`) and a key `key-1`. */
export async function startNode(t: Test, setUp: NodeSetUp = {}): Promise<RunningNode> {
  const directory = mkdtempSync(join(tmpdir(), 'xksd-node-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const softHsm = setUp.token === 'nss' ? null : await makeSoftHsmToken(t);
  const token = softHsm ?? (await makeNssToken(t));
  const second = softHsm === null ? undefined : await setUp.secondToken?.(softHsm);
  const modulePath =
    setUp.spyLog === undefined
      ? ((await setUp.throughModule?.(token.modulePath)) ?? token.modulePath)
      : `${libraryDirectory}/pkcs11-spy.so`;
  const certificates = await makeCertificates({
    directory: join(directory, 'tls'),
    names: ['localhost'],
    ips: ['127.0.0.1'],
  });
  const node = new DemoNode({
    name: 'node-1',
    directory: join(directory, 'node-1'),
    ports: { xks: await freePort(0), health: await freePort(0), metrics: await freePort(0) },
    peer: null,
    certificate: certificates.certificate,
    privateKey: certificates.key,
    hsmUri:
      setUp.moduleName === undefined
        ? token.uri.replace(token.modulePath, modulePath)
        : token.uri.replace(`module-path=${token.modulePath}`, `module-name=${setUp.moduleName}`),
    otherHsmUris: second === undefined ? [] : [second.uri],
    initArgs: token.initArgs,
    environment: {
      ...(token.modulePath.includes('softhsm') && { SOFTHSM2_CONF: process.env['SOFTHSM2_CONF'] ?? '' }),
      ...(setUp.spyLog !== undefined && { PKCS11SPY: token.modulePath, PKCS11SPY_OUTPUT: setUp.spyLog }),
    },
    xksdPath,
    restart: false,
    requestDeadlineMs,
    logLevel: setUp.logLevel ?? 'info',
    tracePkcs11: setUp.tracePkcs11 ?? false,
    ...(setUp.sessionsMax !== undefined && { sessionsMax: setUp.sessionsMax }),
    ...(setUp.drainSeconds !== undefined && { drainSeconds: setUp.drainSeconds }),
    onPidChange: () => {},
  });
  t.teardown(() => node.stop());

  const xksctl = (...args: readonly string[]): Promise<CommandOutcome> =>
    runNode([xksctlPath, '--socket', node.adminSocket, ...args], {});
  const xksctlJson = async (...args: readonly string[]): Promise<Readonly<Record<string, unknown>>> => {
    const { status, stdout, stderr } = await xksctl('-o', 'json', ...args);
    // 3: done, but something is degraded, as while a process is being replaced.
    const value: unknown = status === 0 || status === 3 ? JSON.parse(stdout) : null;
    if (!isJsonObject(value))
      throw new Error(`xksctl ${args.join(' ')}: ${status} ${stderr}${stdout}\n${readLog(node.logFile)}`);
    return value;
  };

  const initialised = await runNode([xksctlPath, 'cluster', 'init', '--config', node.configPath], {});
  if (initialised.status !== 0) throw new Error(`cluster init: ${initialised.stderr}`);
  node.start();
  const log = node.logFile;
  await eventually('the admin socket', async () => (await xksctl('status')).status !== 1, log);
  await xksctlJson('hsm', 'prepare');
  const uriPathPrefix = 'test/store';
  await xksctlJson('keystore', 'create', 'test', '--uri-path-prefix', uriPathPrefix, '--region', 'us-east-1');
  const created = await xksctlJson('credential', 'create', 'test');
  const singleToken = second === undefined ? [] : ['--single-token', token.label];
  await xksctlJson('key', 'generate', 'test', 'key-1', ...singleToken);
  const credential = created['credential'];
  const accessKeyId = String(isJsonObject(credential) ? credential['accessKeyId'] : '');
  const secretAccessKey = String(created['secretAccessKey']);
  const running: RunningNode = {
    node,
    directory,
    caFile: certificates.caCertificate,
    softHsm: [softHsm, second].flatMap((each) => each ?? []),
    pin: token.pin,
    pinFile: token.pinFile,
    accessKeyId,
    secretAccessKey,
    uriPathPrefix,
    client: new XksClient({
      url: node.description.url,
      uriPathPrefix,
      region: 'us-east-1',
      accessKeyId,
      secretAccessKey,
      ca: readFileSync(certificates.caCertificate, 'utf8'),
    }),
    xksctl,
    xksctlJson,
    status: async () => (await xksctlJson('status')) as unknown as NodeStatus,
  };
  t.teardown(() => running.client.close());
  await eventually('every serving process ready', async () => allReady(await running.status()), log);
  return running;
}

/**
 * KMS is told of one proxy and of so many tokens, each well. A busy machine makes a check slow, and a token that is slow
 * DEGRADED, until the next one.
 */
export async function eventuallyHealthy({ client, node }: RunningNode, tokens: number): Promise<void> {
  const well = async (): Promise<boolean> => {
    const { xksProxyFleetSize, ekmFleetDetails } = await client.call('/health', {
      requestMetadata: { kmsRequestId: '1', kmsOperation: 'KmsHealthCheck' },
    });
    return (
      xksProxyFleetSize === 1 &&
      Array.isArray(ekmFleetDetails) &&
      ekmFleetDetails.length === tokens &&
      ekmFleetDetails.every((token) => isJsonObject(token) && token['healthStatus'] === 'ACTIVE')
    );
  };
  await eventually(`KMS told of ${tokens} healthy token(s)`, well, node.logFile);
}

export const allReady = ({ servingProcesses }: NodeStatus): boolean =>
  servingProcesses.ready === servingProcesses.configured;

export const metadata = {
  awsPrincipalArn: 'arn:aws:iam::123456789012:user/test',
  kmsKeyArn: 'arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555',
  kmsOperation: 'Encrypt',
  kmsRequestId: 'integration-test',
};

/** The processes of a node that are alive, `[]` once it is gone: the supervisor's pid and its children's. */
export function childrenOf(pid: number): readonly number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .trim()
      .split(' ')
      .filter(Boolean)
      .map(Number);
  } catch {
    return [];
  }
}

export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
