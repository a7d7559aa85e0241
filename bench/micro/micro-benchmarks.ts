import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { systemClock } from '../../src/base/clock.js';
import { loadNativeBinding } from '../../src/base/native.js';
import { Cells, cellsMax, plainContext } from '../../src/hsm/cells.js';
import type { CryptoPool } from '../../src/hsm/crypto-pool.js';
import { type EncryptOperation, objectId } from '../../src/hsm/types.js';
import { witnessAad, witnessPlaintext } from '../../src/hsm/witness.js';
import { KeyState } from '../../src/keystate/key-state.js';
import type { HttpHandler, HttpRequest } from '../../src/serving/http/exchange.js';
import { SigningKeyCache } from '../../src/sigv4/signing-key.js';
import { verifyRequest } from '../../src/sigv4/verify.js';
import { signedParts } from '../driver/prepared-requests.js';
import { decryptBody, encryptBody } from '../driver/xks-messages.js';
import { applyTo } from '../ladder/ladder-state.js';
import { pipelineAlone } from '../ladder/rung-handler.js';
import { type LadderToken, ladderAccess } from '../ladder/rungs.js';
import { logIn, openToken } from '../ladder/token-pool.js';

const run = promisify(execFile);

/** How often something was done in how long, best of several rounds: what a shared machine takes away is not its own. */
export interface MicroResult {
  readonly name: string;
  readonly perSecond: number;
}

/** What the process that measures is told. */
export interface MicroOrder {
  readonly root: string;
  /** Where the program in C goes. */
  readonly directory: string;
  readonly token: LadderToken;
}

const rounds = 5;
const roundMs = 400;
/** Between looks at the clock. */
const atOnce = 64;

async function best(name: string, some: (count: number) => void | Promise<void>): Promise<MicroResult> {
  let perSecond = 0;
  for (let round = 0; round <= rounds; round++) {
    const startMs = systemClock.monotonicMs();
    let done = 0;
    let elapsedMs = 0;
    while (elapsedMs < roundMs) {
      await some(atOnce);
      done += atOnce;
      elapsedMs = systemClock.monotonicMs() - startMs;
    }
    // The first round is for the compiler.
    if (round > 0) perSecond = Math.max(perSecond, (done * 1_000) / elapsedMs);
  }
  return { name, perSecond };
}

const authority = 'xks.example.com';

/** Requests as KMS signs them, half of them Encrypts. */
function signedRequests(nowMs: number): readonly Omit<HttpRequest, 'receivedAtMs'>[] {
  return Array.from({ length: atOnce }, (_, at) => {
    const operation = at % 2 === 0 ? 'encrypt' : 'decrypt';
    const text = (bytes: number): string => randomBytes(bytes).toString('base64');
    const [plaintext, aad] = [text(32), text(200)];
    const encrypted = {
      ciphertext: text(32),
      ciphertextMetadata: 'AQAAAAE=',
      initializationVector: text(12),
      authenticationTag: text(16),
    };
    const body =
      operation === 'encrypt' ? encryptBody({ plaintext, aad }, true) : decryptBody(encrypted, aad);
    const { path, headers } = signedParts(ladderAccess, authority, operation, body, nowMs);
    const remoteAddress = '127.0.0.1';
    return { method: 'POST', target: path, authority, headers, body, httpVersion: '1.1', remoteAddress };
  });
}

/** SigV4, the signing key known. */
function signatures(): Promise<MicroResult> {
  const nowMs = Date.now();
  const requests = signedRequests(nowMs);
  const secret = Buffer.from(ladderAccess.secretAccessKey);
  const context = {
    nowMs,
    service: 'kms-xks-proxy',
    regions: [ladderAccess.region],
    secretFor: () => secret,
    signingKeys: new SigningKeyCache(),
    checkSignature: loadNativeBinding().checkSigV4Signature,
  };
  return best('SigV4 verifications', () => {
    for (const request of requests)
      if (!verifyRequest(request, context).ok) throw new Error('a good signature was refused');
  });
}

/** What a request costs between the HTTP layer and the HSM, all together, with and without request log and metrics. */
async function requestsAlone(token: LadderToken): Promise<readonly MicroResult[]> {
  const requests = signedRequests(Date.now());
  // Stays open: lines are written some milliseconds later.
  const nowhere = openSync('/dev/null', 'w');
  const measured = (name: string, answer: HttpHandler): Promise<MicroResult> =>
    best(name, async () => {
      const receivedAtMs = systemClock.monotonicMs();
      // The pipeline wipes the body that it was given.
      const given = requests.map((request) => ({
        ...request,
        receivedAtMs,
        body: Buffer.from(request.body),
      }));
      for (const { status } of await Promise.all(given.map(answer)))
        if (status !== 200) throw new Error(`a good request was answered ${status}`);
    });
  const bare = await measured('requests past an HSM that does nothing', pipelineAlone(token, null));
  const logged = await measured('the same, logged and counted', pipelineAlone(token, nowhere));
  return [bare, logged];
}

const keyStores = 1_000;
const keysEach = 100;

function fullState(): KeyState {
  const state = new KeyState();
  const sealed = { nonce: new Uint8Array(12), ciphertext: new Uint8Array(32), tag: new Uint8Array(16) };
  for (let store = 0; store < keyStores; store++) {
    const name = `store-${store}`;
    applyTo(state, {
      type: 'keystore.create',
      name,
      uriPathPrefix: `tenant/${store}`,
      regions: ['us-east-1'],
      adopted: false,
    });
    for (let key = 0; key < keysEach; key++) {
      applyTo(state, {
        type: 'key.create',
        keyStore: name,
        externalKeyId: `key-${key}`,
        objectId: (store * keysEach + key).toString(16).padStart(32, '0'),
        witness: sealed,
        checkValue: null,
        usage: ['ENCRYPT', 'DECRYPT'],
        description: '',
      });
    }
  }
  return state;
}

/** What a request asks of key state: its key store by the path, and the key. */
function lookups(): Promise<MicroResult> {
  const state = fullState();
  let next = 0;
  return best(`key state lookups among ${keyStores * keysEach} keys`, (count) => {
    for (let asked = 0; asked < count; asked++) {
      // Far apart, so that no cache helps.
      next = (next + 48_271) % (keyStores * keysEach);
      const keyStore = state.keyStoreByPrefix(`tenant/${Math.floor(next / keysEach)}`);
      const key = keyStore === null ? null : state.key(keyStore.name, `key-${next % keysEach}`);
      if (key === null) throw new Error('a key is missing');
    }
  });
}

const encryption = (token: LadderToken): EncryptOperation => ({
  key: { objectId: objectId(token.objectId), witness: null },
  plaintext: randomBytes(32),
  gcmAad: randomBytes(208),
  integrityPrefix: randomBytes(205),
  verify: true,
});

const batch = 32;

/** The addon alone, on this thread: encrypt, integrity value, verifying decrypt. */
function nativeEncrypts(token: LadderToken, slotId: bigint): Promise<MicroResult> {
  const cells = new Cells();
  const submitted = new Uint32Array(2 * cellsMax);
  const done = new Uint32Array(2 * cellsMax);
  const queue = loadNativeBinding().openPkcs11OperationQueue({ submitted, done, completed: () => {} });
  const opened = loadNativeBinding().openPkcs11Crypto({
    modulePath: token.modulePath,
    initArgs: '',
    slotId,
    sessionsMax: 1,
    sessionIdleMs: 60_000,
    queueId: queue.id,
    memory: new Uint8Array(cells.memory),
    witnessPlaintext,
    witnessAad,
  });
  const crypto = opened.crypto;
  if (crypto === null) throw new Error(`no session: ${JSON.stringify(opened)}`);
  cells.beginLogin();
  const operation = encryption(token);
  return best('encrypts by the addon', (count) => {
    for (let done = 0; done < count; done += batch) {
      const refs = Array.from({ length: batch }, () => cells.putEncrypt(operation, plainContext)).flatMap(
        (ref) => ref ?? [],
      );
      submitted.set(refs.flatMap(({ index, generation }) => [index, generation]));
      queue.submit(refs.length, 1);
      while (crypto.work(0) > 0);
      queue.collect();
      for (const ref of refs) {
        if (cells.outcome(ref).result !== 'ok')
          throw new Error(`an encrypt failed: ${JSON.stringify(cells.outcome(ref))}`);
        cells.encryptResult(ref);
        cells.release(ref);
      }
    }
  });
}

const farMs = 60_000;

function pooledEncrypts(pool: CryptoPool, token: LadderToken, atATime: number): Promise<MicroResult> {
  const operation = encryption(token);
  const one = async (): Promise<void> => {
    const result = await pool.encrypt(operation, systemClock.monotonicMs() + farMs);
    if (!result.ok) throw new Error(`an encrypt failed: ${JSON.stringify(result.error)}`);
  };
  return best(`encrypts through the pool, ${atATime} at a time`, async (count) => {
    for (let done = 0; done < count; done += atATime) await Promise.all(Array.from({ length: atATime }, one));
  });
}

/** The same calls on the same token by a program in C: nothing that uses PKCS#11 can be faster on one session. */
async function ceiling(root: string, directory: string, token: LadderToken): Promise<MicroResult> {
  const program = join(directory, 'token-ceiling');
  const source = join(root, 'bench/micro/token-ceiling.c');
  await run('cc', ['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-O2', source, '-o', program, '-ldl']);
  const { modulePath, label, pin, objectId: id } = token;
  const { stdout } = await run(program, [modulePath, label, pin, id, String(rounds), String(roundMs)]);
  return { name: 'encrypts by a C program', perSecond: Number(stdout) };
}

export async function microBenchmarks({
  root,
  directory,
  token,
}: MicroOrder): Promise<readonly MicroResult[]> {
  const results = [
    await signatures(),
    ...(await requestsAlone(token)),
    await lookups(),
    await ceiling(root, directory, token),
  ];
  const slotId = logIn(token);
  results.push(await nativeEncrypts(token, slotId));
  const { pool } = await openToken(token, slotId);
  for (const atATime of [1, 32]) results.push(await pooledEncrypts(pool, token, atATime));
  await pool.close();
  return results;
}
