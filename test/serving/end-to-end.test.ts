import t from 'tap';
import { Agent, request } from 'undici';
import { systemClock } from '../../src/base/clock.js';
import { loadNativeBinding } from '../../src/base/native.js';
import { systemRandom } from '../../src/base/random.js';
import { systemTimers } from '../../src/base/timers.js';
import { TokenFleet } from '../../src/hsm/fleet/token-fleet.js';
import { parsePkcs11Uri } from '../../src/hsm/pkcs11-uri.js';
import { createToken, type Token } from '../../src/hsm/token.js';
import type { SealedBytes } from '../../src/keystate/types.js';
import { encodeFreshFrame, encodeJsonFrame } from '../../src/ops/frames.js';
import { createServingMetrics } from '../../src/ops/metrics.js';
import { FrameType, type HsmOperation, type HsmReplyValues } from '../../src/ops/state-link.js';
import { IvAccounts } from '../../src/serving/iv-accounts.js';
import type { Readiness } from '../../src/serving/readiness.js';
import { ServingCore } from '../../src/serving/serving-core.js';
import { signRequest } from '../../src/sigv4/sign.js';
import { CapturedLogger } from '../support/captured-logger.js';
import { decryptRequest, encryptRequest, healthRequest } from '../support/pipeline-fixture.js';
import { History, type ReplicaLink, ScriptedReplica } from '../support/scripted-replica.js';
import { makeSoftHsmToken } from '../support/softhsm.js';
import { startServer } from '../support/xks-server.js';

const sealed = (hex: {
  readonly iv?: string;
  readonly nonce?: string;
  readonly ciphertext: string;
  readonly tag: string;
}): SealedBytes => ({
  nonce: new Uint8Array(Buffer.from(hex.iv ?? hex.nonce ?? '', 'hex')),
  ciphertext: new Uint8Array(Buffer.from(hex.ciphertext, 'hex')),
  tag: new Uint8Array(Buffer.from(hex.tag, 'hex')),
});

/**
 * A serving process in this one: the real server, pipeline and token (SoftHSM2), with this test as the replica. From
 * an empty token to a signed Encrypt; then the process starts again and finds everything.
 */
t.test('from an empty token to a signed Encrypt, and on after a restart', async (t) => {
  const softhsm = await makeSoftHsmToken(t);
  const parsed = parsePkcs11Uri(softhsm.uri);
  if (!parsed.ok) throw new Error(parsed.error);
  const { uri } = parsed.value;
  const logger = new CapturedLogger();
  const history = new History();
  const replica = new ScriptedReplica(t);
  await replica.start();

  const start = async (slot: number) => {
    const token: Token = createToken({
      uri,
      initArgs: '',
      profile: 'auto',
      workers: 1,
      sessionsMax: 1,
      dataDir: softhsm.directory,
      credentialsDirectory: null,
      tryLockFile: (fd) => loadNativeBinding().tryLockFile(fd),
      clock: systemClock,
      timers: systemTimers,
      random: systemRandom,
      logger,
    });
    let told: () => void = () => {};
    let last: Readiness = { ready: false, reason: 'not asked' };
    const ivs = new IvAccounts({ clock: systemClock });
    const core = new ServingCore({
      ivs,
      fleet: new TokenFleet({
        tokens: [token],
        encryptions: ivs,
        clock: systemClock,
        timers: systemTimers,
        random: systemRandom,
        logger,
      }),
      stateSocketPath: replica.socketPath,
      hello: {
        linkVersion: 1,
        pid: process.pid,
        slot,
        supervisorNonce: 'n',
        processId: `p${slot}`,
        startedAtMs: 0,
        version: '1',
      },
      // Longer than a busy test machine ever makes a request wait.
      requestDeadlineMs: 10_000,
      metrics: createServingMetrics({ droppedLogLines: () => 0 }),
      logger,
      clock: systemClock,
      bootTimeMs: () => loadNativeBinding().bootTimeMs(),
      checkSignature: loadNativeBinding().checkSigV4Signature,
      timers: systemTimers,
      random: systemRandom,
      onStuck: () => {},
      onReadiness: (readiness) => {
        last = readiness;
        told();
      },
    });
    core.start();
    const link = await replica.link();
    link.send(...history.snapshot());
    link.send(encodeJsonFrame(FrameType.standing, { mayServe: true, reason: '', fleetSize: 1 }));
    await link.acknowledged();
    await token.firstAttempt;
    const until = async (holds: (readiness: Readiness) => boolean): Promise<void> => {
      while (!holds(last)) {
        await new Promise<void>((resolve) => {
          told = resolve;
        });
      }
    };
    const close = async (): Promise<void> => {
      core.close();
      await token.close();
    };
    return { core, link, until, close };
  };

  const ask = async <Op extends HsmOperation['op']>(
    link: ReplicaLink,
    operation: Extract<HsmOperation, { readonly op: Op }>,
  ): Promise<HsmReplyValues[Op]> => {
    link.send(encodeJsonFrame(FrameType.hsmRequest, { id: 1, ...operation }));
    const reply = await link.nextJson(FrameType.hsmReply);
    if (reply['ok'] !== true) throw new Error(String(reply['message']));
    return reply['value'] as HsmReplyValues[Op];
  };

  const first = await start(1);
  await first.until(({ reason }) => reason.includes('xksctl hsm prepare'));
  t.notOk(first.core.readiness().ready);
  const { link } = first;
  const server = await startServer(t, { handler: first.core.handler });
  let { port } = server;
  const agent = new Agent({ connect: { ca: server.certificates.ca, servername: 'localhost' } });
  t.teardown(() => agent.close());

  let credential = { accessKeyId: 'AAAAAAAAAAAAAAAAAAAAAAAAA2', secretAccessKey: 'not yet' };
  const call = async (path: string, payload: object) => {
    const body = Buffer.from(JSON.stringify(payload));
    const target = `/tenant/kms/xks/v1${path}`;
    const authority = `localhost:${port}`;
    const headers = signRequest(
      { method: 'POST', target, authority, headers: [['host', authority]], body },
      {
        nowMs: Date.now(),
        region: 'eu-central-1',
        service: 'kms-xks-proxy',
        accessKeyId: credential.accessKeyId,
        secretAccessKey: Buffer.from(credential.secretAccessKey),
      },
    );
    const answer = await request(`https://localhost:${port}${target}`, {
      method: 'POST',
      dispatcher: agent,
      headers: Object.fromEntries(headers),
      body,
    });
    const json = (await answer.body.json()) as Readonly<Record<string, unknown>>;
    return { status: answer.statusCode, json };
  };

  // Nothing is prepared: no cluster secret, so nobody can be told from anybody.
  link.send(history.keyStore('ks'));
  t.equal(await link.acknowledged(), 1);
  /** A quorum confirms all that is known here; taken once the question behind it is answered. */
  const confirm = async (): Promise<void> => {
    // So that it holds as long as a busy machine may take.
    link.send(encodeFreshFrame(loadNativeBinding().bootTimeMs() + 60_000, history.state.appliedIndex));
    await ask(link, { op: 'list-objects' });
  };
  t.match(await call('/health', healthRequest), { status: 503 }, 'nobody has confirmed what is known here');
  await confirm();
  const unknownPath = await call('/health', healthRequest);
  t.match(unknownPath, { status: 404, json: { errorName: 'InvalidUriPathException' } });
  const regions = ['eu-central-1'];
  link.send(
    history.apply({ type: 'keystore.create', name: 't', uriPathPrefix: 'tenant', regions, adopted: false }),
  );
  t.equal(await link.acknowledged(), 2);
  t.match(await call('/health', healthRequest), {
    status: 503,
    json: { errorName: 'DependencyTimeoutException' },
  });

  const prepared = await ask(link, { op: 'prepare-token', place: 0 });
  const { serial, label, wrappedSecret } = prepared;
  t.equal(serial, softhsm.serial);
  if (wrappedSecret === null) throw new Error('no wrapped secret');
  const key = ({ objectId, witness }: HsmReplyValues['prepare-token']['testKey']) => ({
    objectId,
    witness: sealed(witness),
  });
  link.send(
    history.apply({
      type: 'token.prepare',
      token: {
        serial,
        label,
        testKey: key(prepared.testKey),
        wrappingKey: key(prepared.wrappingKey),
        wrappedSecret: sealed(wrappedSecret),
        secretCheckValue: wrappedSecret.checkValue,
      },
    }),
  );
  await first.until(({ ready }) => ready);

  const minted = await ask(link, { op: 'mint-credential', keyStore: 't' });
  const { accessKeyId } = minted;
  const sealedSecret = sealed(minted.sealed);
  link.send(history.apply({ type: 'credential.create', keyStore: 't', accessKeyId, sealedSecret }));
  const { object, witness } = await ask(link, { op: 'generate-key', label: 'customer', singleToken: null });
  link.send(
    history.apply({
      type: 'key.create',
      keyStore: 't',
      externalKeyId: 'k',
      objectId: object.objectId,
      witness: sealed(witness),
      checkValue: object.checkValue,
      usage: object.usage,
      description: '',
    }),
  );
  while ((await link.acknowledged()) !== 5);

  await confirm();
  const wrongSecret = await call('/health', healthRequest);
  t.equal(wrongSecret.status, 401);
  credential = minted;
  const health = await call('/health', healthRequest);
  t.match(health, { status: 200, json: { ekmFleetDetails: [{ id: serial }] } });

  const secret = 'a very secret plaintext';
  const more = {
    additionalAuthenticatedData: Buffer.from('project=nile').toString('base64'),
    ciphertextDataIntegrityValueAlgorithm: 'SHA_256',
  };
  const encrypted = await call('/keys/k/encrypt', encryptRequest(secret, more));
  t.equal(encrypted.status, 200);
  const { additionalAuthenticatedData } = more;
  const decrypt = decryptRequest(encrypted.json, { additionalAuthenticatedData });
  const plaintext = { plaintext: Buffer.from(secret).toString('base64') };
  t.strictSame((await call('/keys/k/decrypt', decrypt)).json, plaintext);
  t.match(await call('/keys/k/decrypt', decryptRequest(encrypted.json)), {
    status: 400,
    json: { errorName: 'InvalidCiphertextException' },
  });

  const report = await link.nextJson(FrameType.metrics);
  t.match(report, { readiness: { ready: true }, tokens: [{ serial }] });
  t.type((await link.nextJson(FrameType.metrics))['credentialLastUsedMs'], 'object');

  // The same as a new process would be: nothing in memory, all from the replica and the token.
  await first.close();
  t.equal((await call('/health', healthRequest)).status, 503, 'a process that has ended holds no secret');
  const second = await start(2);
  await second.until(({ ready }) => ready);
  port = (await startServer(t, { handler: second.core.handler, certificates: server.certificates })).port;
  t.strictSame((await call('/keys/k/decrypt', decrypt)).json, plaintext);

  second.link.send(history.apply({ type: 'key.disable', keyStore: 't', externalKeyId: 'k' }));
  t.ok((await second.link.acknowledged()) ?? 0);
  t.match(await call('/keys/k/decrypt', decrypt), { json: { errorName: 'InvalidStateException' } });

  second.core.startDraining();
  t.match(second.core.readiness(), { ready: false, reason: /draining/ });
  await second.close();

  const text = logger.text();
  for (const forbidden of [
    secret,
    Buffer.from(secret).toString('base64'),
    minted.secretAccessKey,
    softhsm.pin,
    'AWS4-HMAC-SHA256',
  ]) {
    t.notOk(text.includes(forbidden), 'no log holds a secret');
  }
});
