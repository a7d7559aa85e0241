import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { decodeBase64, encodeBase64 } from '../base/bytes.js';
import { errorText, isJsonObject } from '../base/guards.js';
import { computeCdiv } from '../xks/cdiv.js';
import { makeCertificates } from './certificates.js';
import { runNode } from './command.js';
import { ensureDebianPackages } from './debian-packages.js';
import { ClusterFailure, DemoCluster } from './demo-cluster.js';
import type { DemoNode } from './demo-node.js';
import { type DemoToken, provideDemoToken } from './demo-token.js';
import { type DemoOptions, parseDemoOptions } from './options.js';
import { deleteObjects, makePartialKeys } from './partial-keys.js';
import { writeAtomically, writeCliWrapper, writeShellEnvironment } from './shell-files.js';
import { XksClient } from './xks-client.js';

/**
 * `npm run demo`: the real thing on loopback. Makes a throwaway token, authority and certificates under `var/demo/`,
 * starts three nodes, sets them up through `xksctl` as an operator would, proves an encrypt on one node and its decrypt on
 * another, and stays up.
 */
const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const xksdPath = join(root, 'dist/src/cli/xksd.js');
const xksctlPath = join(root, 'dist/src/cli/xksctl.js');

const region = 'us-east-1';
const keyStoreName = 'demo';
const uriPathPrefix = 'demo/keystore';
const nodeNames = ['node-1', 'node-2', 'node-3'];
const preferredPorts = { xks: 9443, health: 9480, metrics: 9464, peer: 7443 };
const readyTimeoutMs = 300_000;
const readyPollMs = 100;
const proveAttempts = 20;
const provePauseMs = 250;

class DemoFailure extends Error {}

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

/** Values of `xksctl … -o json`. */
type Json = Readonly<Record<string, unknown>>;

async function xksctl(node: DemoNode, ...args: readonly string[]): Promise<Json> {
  const { status, stdout, stderr } = await runNode(
    [xksctlPath, '--socket', node.adminSocket, '-o', 'json', ...args],
    {},
  );
  // 3: done, and something is degraded, as a token is for a moment whose check took over 100 ms on a busy machine.
  if (status !== 0 && status !== 3)
    throw new DemoFailure(`xksctl ${args.join(' ')} failed: ${stderr.trim() || stdout.trim()}`);
  const value: unknown = JSON.parse(stdout);
  if (!isJsonObject(value)) throw new DemoFailure(`xksctl ${args.join(' ')} printed no JSON object`);
  return value;
}

function text(value: Json, ...path: readonly string[]): string {
  let current: unknown = value;
  for (const name of path) current = isJsonObject(current) ? current[name] : undefined;
  if (typeof current !== 'string') throw new DemoFailure(`expected a text at ${path.join('.')}`);
  return current;
}

async function until(what: string, node: DemoNode, holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + readyTimeoutMs;
  while (!(await holds())) {
    if (node.exitedEarly || Date.now() > end) {
      const log = existsSync(node.logFile)
        ? readFileSync(node.logFile, 'utf8').trimEnd().split('\n').slice(-5).join('\n')
        : '';
      throw new DemoFailure(`${what} did not happen; the end of ${node.logFile}:\n${log}`);
    }
    await delay(readyPollMs);
  }
}

const answers = async (url: string): Promise<boolean> =>
  fetch(url)
    .then((answer) => answer.ok)
    .catch(() => false);

/** Encrypts through one node and decrypts through another. */
async function prove(one: XksClient, other: XksClient, keyId: string): Promise<void> {
  const requestMetadata = {
    awsPrincipalArn: 'arn:aws:iam::123456789012:user/demo',
    kmsKeyArn: 'arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000',
    kmsOperation: 'Encrypt',
    kmsRequestId: '00000000-0000-0000-0000-000000000001',
  };
  const plaintext = randomBytes(32);
  const aad = Buffer.from('project=nile,department=marketing');
  const encrypted = await one.call(`/keys/${keyId}/encrypt`, {
    requestMetadata,
    plaintext: encodeBase64(plaintext),
    additionalAuthenticatedData: encodeBase64(aad),
    encryptionAlgorithm: 'AES_GCM',
    ciphertextDataIntegrityValueAlgorithm: 'SHA_256',
  });
  const bytes = (name: string): Buffer => decodeBase64(text(encrypted, name)) ?? Buffer.alloc(0);
  const cdiv = computeCdiv({
    aad,
    ciphertextMetadata: bytes('ciphertextMetadata'),
    iv: bytes('initializationVector'),
    ciphertext: bytes('ciphertext'),
    tag: bytes('authenticationTag'),
  });
  if (encodeBase64(cdiv) !== text(encrypted, 'ciphertextDataIntegrityValue'))
    throw new DemoFailure('the integrity value does not match');
  const decrypted = await other.call(`/keys/${keyId}/decrypt`, {
    requestMetadata: { ...requestMetadata, kmsOperation: 'Decrypt' },
    ciphertext: text(encrypted, 'ciphertext'),
    ciphertextMetadata: text(encrypted, 'ciphertextMetadata'),
    initializationVector: text(encrypted, 'initializationVector'),
    authenticationTag: text(encrypted, 'authenticationTag'),
    additionalAuthenticatedData: encodeBase64(aad),
    encryptionAlgorithm: 'AES_GCM',
  });
  if (text(decrypted, 'plaintext') !== encodeBase64(plaintext))
    throw new DemoFailure('decrypt gave another plaintext');
  say(
    'proved: what one node had encrypted in the token came back through another, and the integrity value matches',
  );
}

/** KMS repeats a call that timed out. So does the demo: a busy machine may take longer than the deadline. */
async function retried(work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; attempt < proveAttempts; attempt++) {
    try {
      return await work();
    } catch (failure) {
      // A wrong answer is none that came late.
      if (failure instanceof DemoFailure) throw failure;
      say(`once more: ${errorText(failure)}`);
      await delay(provePauseMs);
    }
  }
  await work();
}

/** A folder of an earlier demo is emptied; one with a demo still running, or not a demo's, is left alone. */
function emptyDirectory(directory: string): void {
  const nodesFile = join(directory, 'nodes.json');
  if (existsSync(nodesFile)) {
    const nodes: unknown = JSON.parse(readFileSync(nodesFile, 'utf8'));
    for (const node of Array.isArray(nodes) ? nodes : []) {
      const pid: unknown = isJsonObject(node) ? node['pid'] : null;
      if (typeof pid === 'number' && pid > 0 && isRunning(pid)) {
        throw new DemoFailure(
          `a demo is running already (pid ${pid}, ${directory}); stop it first, or use --directory`,
        );
      }
    }
  } else if (existsSync(directory) && !existsSync(join(directory, '.demo'))) {
    throw new DemoFailure(`${directory} exists and was not made by the demo; choose another --directory`);
  }
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeAtomically(
    join(directory, '.demo'),
    'Made by the xksd demo, which empties this folder at each start.\n',
    0o600,
  );
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('xksd');
  } catch {
    return false;
  }
}

interface SetUp {
  readonly keyId: string;
  readonly environment: Readonly<Record<string, string>>;
  /** One for each node. */
  readonly clients: readonly XksClient[];
  /** CKA_IDs of everything that the demo made on the token. */
  readonly madeObjects: readonly string[];
}

/** CKA_ID of the object behind a key that `key generate` or `key show` printed. */
/** The first of a list of objects. */
function firstOf(list: unknown): Json {
  const [first]: unknown[] = Array.isArray(list) ? list : [];
  return isJsonObject(first) ? first : {};
}

function objectIdOf(value: Json): string {
  const key = value['key'];
  return text(firstOf(isJsonObject(key) ? key['versions'] : null), 'objectId');
}

async function objectLabel(node: DemoNode, objectId: string): Promise<string> {
  const { tokens } = await xksctl(node, 'hsm', 'list');
  for (const token of Array.isArray(tokens) ? tokens : []) {
    const objects: unknown = isJsonObject(token) ? token['objects'] : [];
    for (const object of Array.isArray(objects) ? objects : []) {
      if (isJsonObject(object) && object['objectId'] === objectId) return text(object, 'label');
    }
  }
  throw new DemoFailure(`the token shows no object ${objectId}`);
}

async function setUp(
  options: DemoOptions,
  nodes: readonly DemoNode[],
  token: DemoToken,
  caFile: string,
): Promise<SetUp> {
  const { directory } = options;
  const [node] = nodes;
  if (node === undefined) throw new DemoFailure('there is no node');
  const run = randomBytes(4).toString('hex');
  const partial = [
    { label: `demo-encrypt-only-${run}`, encrypt: true, decrypt: false },
    { label: `demo-decrypt-only-${run}`, encrypt: false, decrypt: true },
    { label: `demo-impotent-${run}`, encrypt: false, decrypt: false },
  ];
  const partialIds = makePartialKeys(token.access, partial);

  const prepared = await xksctl(node, 'hsm', 'prepare');
  await xksctl(
    node,
    'keystore',
    'create',
    keyStoreName,
    '--uri-path-prefix',
    uriPathPrefix,
    '--region',
    region,
  );
  const credential = await xksctl(node, 'credential', 'create', keyStoreName);
  const key = await xksctl(
    node,
    'key',
    'generate',
    keyStoreName,
    'demo-key',
    '--description',
    'made by the demo',
  );
  const names = ['encrypt-only-key', 'decrypt-only-key', 'impotent-key'];
  for (const [index, name] of names.entries()) {
    await xksctl(node, 'key', 'add', keyStoreName, name, '--object-id', partialIds[index] ?? '');
  }

  const url = node.description.url;
  const accessKeyId = text(credential, 'credential', 'accessKeyId');
  const secretAccessKey = text(credential, 'secretAccessKey');
  const ca = readFileSync(caFile, 'utf8');
  const clients = nodes.map(
    ({ description }) =>
      new XksClient({ url: description.url, uriPathPrefix, region, accessKeyId, secretAccessKey, ca }),
  );
  return {
    keyId: 'demo-key',
    clients,
    madeObjects: [
      ...partialIds,
      objectIdOf(key),
      text(firstOf(prepared['tokens']), 'testKeyObjectId'),
      text(firstOf(prepared['tokens']), 'wrappingKeyObjectId'),
    ],
    environment: {
      XKS_PROXY_HOST: new URL(url).host,
      XKS_PROXY_HOSTS: nodes.map(({ description }) => new URL(description.url).host).join(' '),
      URI_PREFIX: uriPathPrefix,
      REGION: region,
      SIGV4_ACCESS_KEY_ID: accessKeyId,
      SIGV4_SECRET_ACCESS_KEY: secretAccessKey,
      KEY_ID: 'demo-key',
      ENCRYPT_ONLY_KEY_ID: 'encrypt-only-key',
      DECRYPT_ONLY_KEY_ID: 'decrypt-only-key',
      IMPOTENT_KEY_ID: 'impotent-key',
      SECURE: `--cacert ${caFile}`,
      CA_FILE: caFile,
      ...token.environment,
      PKCS11_MODULE: token.access.modulePath,
      TOKEN_LABEL: token.access.tokenLabel,
      TOKEN_PIN: token.access.pin,
      TOKEN_OBJECT_LABEL: await objectLabel(node, objectIdOf(key)),
      XKSD_DEMO: directory,
      XKSD_ADMIN_SOCKET: node.adminSocket,
    },
  };
}

async function main(): Promise<number> {
  const options = parseDemoOptions(process.argv.slice(2), join(root, 'var/demo'));
  const packages = [
    ...(options.token === null ? [{ name: 'softhsm2', provides: 'softhsm2-util' }] : []),
    { name: 'openssl', provides: 'openssl' },
  ];
  const ensured = ensureDebianPackages(packages, (line) => say(`demo: ${line}`));
  if (!ensured.ok) throw new DemoFailure(ensured.error);

  const { directory } = options;
  emptyDirectory(directory);
  const provided = await provideDemoToken(options);
  if (!provided.ok) throw new DemoFailure(provided.error);
  const token = provided.value;
  // For the keys that the demo itself makes; the module reads it when it is initialised.
  Object.assign(process.env, token.environment);
  const certificates = await makeCertificates({
    directory: join(directory, 'tls'),
    names: ['localhost'],
    ips: ['127.0.0.1'],
  });

  const cluster = await DemoCluster.make({
    directory,
    names: nodeNames,
    preferredPorts,
    certificate: certificates.certificate,
    privateKey: certificates.key,
    hsmUri: token.uri,
    initArgs: options.initArgs,
    environment: token.environment,
    xksdPath,
    xksctlPath,
    restart: true,
    requestDeadlineMs: 150,
    logLevel: 'info',
    onPidChange: () => writeNodes(),
  });
  const writeNodes = (): void => {
    const nodes = cluster.nodes.map(({ description }) => description);
    writeAtomically(join(directory, 'nodes.json'), `${JSON.stringify(nodes, null, 2)}\n`, 0o644);
  };

  const stopRequested = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve());
  });
  let made: readonly string[] = [];
  try {
    const first = await cluster.found();
    await administrable(first);
    const demo = await setUp(options, cluster.nodes, token, certificates.caCertificate);
    made = demo.madeObjects;
    await growCluster(cluster, first);
    for (const node of cluster.nodes) await until('ready', node, () => answers(node.description.healthUrl));
    const [one, other = one] = demo.clients;
    if (one !== undefined && other !== undefined) await retried(() => prove(one, other, demo.keyId));
    await Promise.all(demo.clients.map((client) => client.close()));
    writeShellEnvironment(join(directory, 'env'), demo.environment);
    const sockets = cluster.nodes.map(({ description, adminSocket }) => [description.name, adminSocket]);
    writeCliWrapper(join(directory, 'xksctl'), { xksctlPath, sockets: Object.fromEntries(sockets) });
    await report(options, first);
    if (!options.once) {
      say('\nRunning. Ctrl-C stops it.');
      await stopRequested;
      say('\nstopping');
    }
    return 0;
  } finally {
    await cluster.stop();
    if (token.ownedByOperator) deleteObjects(token.access, made);
  }
}

const administrable = (node: DemoNode): Promise<void> =>
  until(
    'the admin socket',
    node,
    async () => (await runNode([xksctlPath, '--socket', node.adminSocket, 'status'], {})).status !== 1,
  );

/** Adds the other nodes to the first, one at a time, and gives each a vote once it has caught up. */
async function growCluster(cluster: DemoCluster, first: DemoNode): Promise<void> {
  for (const node of cluster.nodes.slice(1)) {
    await cluster.join(first, node);
    await administrable(node);
    const promote = ['--socket', first.adminSocket, 'cluster', 'promote', node.description.name];
    await until(
      'the promotion',
      node,
      async () => (await runNode([xksctlPath, ...promote], {})).status === 0,
    );
  }
}

async function report(options: DemoOptions, node: DemoNode): Promise<void> {
  for (const command of [['status'], ['cluster', 'status']]) {
    const status = await runNode([xksctlPath, '--socket', node.adminSocket, ...command], {});
    say(`\n${status.stdout.trimEnd()}\n`);
  }
  if (options.once) return;
  const env = join(options.directory, 'env');
  say(`Call it as KMS would (${env} holds the names):

  . ${env}
  curl --cacert "$CA_FILE" --aws-sigv4 "aws:amz:$REGION:kms-xks-proxy" \\
    --user "$SIGV4_ACCESS_KEY_ID:$SIGV4_SECRET_ACCESS_KEY" \\
    -H 'Content-Type: application/json' \\
    --data-binary '{"requestMetadata":{"kmsRequestId":"1","kmsOperation":"KmsHealthCheck"}}' \\
    "https://$XKS_PROXY_HOST/$URI_PREFIX/kms/xks/v1/health"

Administer it:     ${join(options.directory, 'xksctl')} [--node node-2] cluster status
Health, metrics:   ${node.description.healthUrl}   ${node.description.metricsUrl}
Log:               ${node.logFile}`);
}

process.exitCode = await main().catch((failure: unknown) => {
  process.stderr.write(
    `demo: ${failure instanceof DemoFailure || failure instanceof ClusterFailure ? failure.message : errorText(failure)}\n`,
  );
  return 1;
});
