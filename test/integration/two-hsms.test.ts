import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { type FaultShim, makeFaultShim } from '../support/fault-shim.js';
import { type LoggedInToken, logIn } from '../support/logged-in-token.js';
import {
  allReady,
  eventually,
  eventuallyHealthy,
  metadata,
  type RunningNode,
  startNode,
} from '../support/running-node.js';
import { addSoftHsmToken } from '../support/softhsm.js';

interface Shim {
  readonly shim: FaultShim;
}

/** A node with two tokens that both hold the key `shared`; the second is behind the shim. */
async function startWithTwo(
  t: Parameters<typeof startNode>[0],
): Promise<RunningNode & Shim & { readonly ill: LoggedInToken; readonly sharedId: string }> {
  let shim: FaultShim | null = null;
  const running = await startNode(t, {
    // One session of each token in each process: with more a token that hangs leaves some for long.
    sessionsMax: 2,
    secondToken: async (first) => {
      const second = await addSoftHsmToken(first, 'second', { ownModule: true });
      shim = await makeFaultShim(t, second.modulePath);
      const { modulePath } = shim;
      return { ...second, modulePath, uri: second.uri.replace(second.modulePath, modulePath) };
    },
  });
  const [first, second] = running.softHsm;
  if (first === undefined || second === undefined || shim === null) throw new Error('two tokens are wanted');
  const bytes = randomBytes(32);
  const sharedId = randomBytes(16).toString('hex');
  logIn(t, first).importKey(bytes, sharedId);
  const ill = logIn(t, second);
  ill.importKey(bytes, sharedId);
  const added = await running.xksctlJson('key', 'add', 'test', 'shared', '--object-id', sharedId);
  t.match(added, { warnings: [] }, 'both have it');
  return { ...running, shim, ill, sharedId };
}

const plaintext = Buffer.from('what KMS wants kept').toString('base64');

/** As KMS does it: once more where the connection ended, which an idle one may with a process that has drained. */
async function call(
  { client }: RunningNode,
  ...request: Parameters<RunningNode['client']['call']>
): Promise<Readonly<Record<string, unknown>>> {
  try {
    return await client.call(...request);
  } catch (thrown) {
    if ((thrown as { readonly code?: unknown }).code !== 'UND_ERR_SOCKET') throw thrown;
    return client.call(...request);
  }
}

/** An encrypt and the decrypt of it; throws for any answer but the right one. */
async function roundTrip(node: RunningNode, key = 'shared'): Promise<void> {
  const encrypted = await call(node, `/keys/${key}/encrypt`, {
    requestMetadata: metadata,
    plaintext,
    encryptionAlgorithm: 'AES_GCM',
    ciphertextDataIntegrityValueAlgorithm: 'SHA_256',
  });
  const decrypted = await call(node, `/keys/${key}/decrypt`, {
    requestMetadata: metadata,
    encryptionAlgorithm: 'AES_GCM',
    ...encrypted,
  });
  if (decrypted['plaintext'] !== plaintext) throw new Error('another plaintext came back');
}

/** Requests without pause, eight at a time, until `enough`; rejects with the first that is not answered rightly. */
async function underLoad(node: RunningNode, enough: (requests: number) => boolean): Promise<void> {
  let requests = 0;
  const loop = async (): Promise<void> => {
    while (!enough(requests)) {
      await roundTrip(node);
      requests += 2;
    }
  };
  await Promise.all(Array.from({ length: 8 }, loop));
}

t.test('two HSMs: whatever one of them does, every request is answered', async (t) => {
  const node = await startWithTwo(t);
  const { shim } = node;

  await t.test('administration sees both', async (t) => {
    t.match(await node.xksctlJson('hsm', 'list'), {
      tokens: [{ token: { label: 'xks-test' } }, { token: { label: 'second' } }],
    });
    t.match(await node.xksctlJson('hsm', 'prepare'), {
      tokens: [
        { label: 'xks-test', change: null },
        { label: 'second', change: null },
      ],
      failed: [],
    });
    const { tests } = await node.xksctlJson('hsm', 'test');
    t.match(tests, Array(4).fill({ outcome: 'passed' }), 'two tokens from two processes');
    const refused = await node.xksctl('key', 'generate', 'test', 'alone');
    t.equal(refused.status, 1);
    t.match(refused.stderr, /2 tokens .*--single-token/);
    await eventuallyHealthy(node, 2);
    await roundTrip(node, 'key-1');
  });

  await t.test('a token that is not what it was is refused until it is accepted', async (t) => {
    const second = async () => (await node.status()).tokens.find(({ label }) => label === 'second');
    const verdicts = async (...args: readonly string[]) => {
      const answer = await node.xksctl('hsm', 'probe', ...args, '-o', 'json');
      const { probes } = JSON.parse(answer.stdout) as { probes: { verdict: string }[] };
      return { status: answer.status, verdicts: probes.map(({ verdict }) => verdict) };
    };
    const both = ['agrees', 'agrees'];
    t.strictSame(await verdicts(), { status: 0, verdicts: [...both, ...both] });
    shim.setFaults('iv in-place');
    t.strictSame(await verdicts(), { status: 3, verdicts: ['agrees', 'differs', 'agrees', 'differs'] });
    // A health check may have failed before: what it said stands until the refusal is told.
    const refused = /now makes the IV and writes it back .*hsm probe --accept/;
    await eventually('refused', async () => refused.test((await second())?.reason ?? ''), node.node.logFile);
    t.match(await second(), { state: 'UNAVAILABLE' });
    await underLoad(node, (requests) => requests >= 100);
    t.strictSame(await verdicts('--accept', 'second'), { status: 0, verdicts: ['accepted', 'accepted'] });
    await eventually('accepted', async () => (await second())?.state === 'ACTIVE', node.node.logFile);
    await underLoad(node, (requests) => requests >= 400);
    shim.setFaults();
    // A call may be under way whose request has its answer from the other token. An IV that comes of it while the token is
    // being accepted stands against it, and is accepted the next time.
    const isAccepted = async () => (await verdicts('--accept', 'second')).status === 0;
    await eventually('accepted as it was at first', isAccepted, node.node.logFile);
    t.strictSame(await verdicts(), { status: 0, verdicts: [...both, ...both] });
    await eventually('ready', async () => allReady(await node.status()), node.node.logFile);
  });

  for (const [fault, rules] of [
    ['every call CKR_DEVICE_ERROR', ['* fail 0x30']],
    ['every hundredth call CKR_GENERAL_ERROR', ['* fail 0x5 -1 100']],
    ['a flipped bit in every ciphertext', ['C_Encrypt flip']],
  ] as const) {
    await t.test(fault, async () => {
      shim.setFaults(...rules);
      await underLoad(node, (requests) => requests >= 400);
      shim.setFaults();
    });
  }

  await t.test('a token on which administration hangs does not keep the other’s answer', async (t) => {
    await eventually('ready', async () => allReady(await node.status()), node.node.logFile);
    shim.setFaults('C_FindObjectsInit hang - 1');
    const shown = await node.xksctl('key', 'show', 'test', 'shared', '--tokens');
    t.equal(shown.status, 3);
    t.match(shown.stdout, /1 +xks-test \(serial \w+\) +yes/);
    t.match(shown.stdout, /1 +second \(serial \w+\) +unknown.*the token does not answer: nothing for 3 s/);
    shim.setFaults();
    shim.releaseAll();
  });

  await t.test('calls that hang until both processes are replaced', async (t) => {
    await eventually('ready', async () => allReady(await node.status()), node.node.logFile);
    const before = (await node.status()).serving.map(({ pid }) => pid);
    shim.setFaults('C_Encrypt hang', 'C_Decrypt hang');
    let replaced = false;
    const load = underLoad(node, () => replaced);
    await eventually(
      'a replacement',
      () => readFileSync(node.node.logFile, 'utf8').includes('child cannot recover, replacing it'),
      node.node.logFile,
    );
    shim.setFaults();
    await eventually(
      'every process replaced and ready',
      async () => {
        const now = await node.status();
        return allReady(now) && now.serving.every(({ pid }) => !before.includes(pid));
      },
      node.node.logFile,
    );
    replaced = true;
    await load;
    t.pass('no request failed');
  });

  await t.test('the key deleted', async (t) => {
    node.ill.destroyKeys(node.sharedId as Parameters<typeof node.ill.destroyKeys>[0]);
    await underLoad(node, (requests) => requests >= 200);
    const shown = await node.xksctl('key', 'show', 'test', 'shared', '--tokens');
    t.equal(shown.status, 3);
    t.match(shown.stdout, /1 +xks-test \(serial \w+\) +yes/);
    t.match(shown.stdout, /1 +second \(serial \w+\) +no/);
    const warned = await node.xksctl('key', 'add', 'test', 'again', '--object-id', node.sharedId);
    t.match(warned.stderr, /in use already/);
  });

  t.match(readFileSync(node.node.logFile, 'utf8'), /"hsmAskedFirst":/, 'the log says who was asked first');
});
