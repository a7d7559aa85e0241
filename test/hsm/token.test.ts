import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pkcs11js from 'pkcs11js';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { type LogFields, type Logger, silentLogger } from '../../src/base/logger.js';
import { loadNativeBinding } from '../../src/base/native.js';
import { systemRandom } from '../../src/base/random.js';
import { err, ok } from '../../src/base/result.js';
import { systemTimers } from '../../src/base/timers.js';
import { type CallCounts, noCalls } from '../../src/hsm/call-counts.js';
import type { CryptoPool, CryptoPoolOptions } from '../../src/hsm/crypto-pool.js';
import { Management } from '../../src/hsm/management.js';
import type { ManagementResult, ManagementWorkerData } from '../../src/hsm/management-protocol.js';
import { parsePkcs11Uri } from '../../src/hsm/pkcs11-uri.js';
import type { GcmForm } from '../../src/hsm/profile/gcm-form.js';
import { createToken, type Token, type TokenOptions, type TokenStatus } from '../../src/hsm/token.js';
import { healthIntervalMs } from '../../src/hsm/token-health.js';
import { type DecryptOperation, type HsmFailure, type KeyObject, objectId } from '../../src/hsm/types.js';
import { makeWitness } from '../../src/hsm/witness.js';
import { makeNssToken } from '../support/nss.js';
import { makeSoftHsmToken } from '../support/softhsm.js';
import { until } from '../support/token-status.js';
import { VirtualTime } from '../support/virtual-time.js';

const run = promisify(execFile);
const native = loadNativeBinding();

function value<T>(result: ManagementResult<T>): T {
  if (!result.ok) throw new Error(result.error.message);
  return result.value;
}

function open(
  t: Test,
  hsm: { readonly uri: string; readonly initArgs: string },
  options: Partial<TokenOptions> = {},
): Token {
  const parsed = parsePkcs11Uri(hsm.uri);
  if (!parsed.ok) throw new Error(parsed.error);
  const token = createToken({
    uri: parsed.value.uri,
    initArgs: hsm.initArgs,
    profile: 'auto',
    workers: 1,
    sessionsMax: 1,
    dataDir: options.dataDir ?? t.testdir(),
    credentialsDirectory: null,
    tryLockFile: (fd) => native.tryLockFile(fd),
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    logger: silentLogger,
    ...options,
  });
  t.teardown(() => token.close());
  return token;
}

const isState = (state: TokenStatus['state']) => (status: TokenStatus) => status.state === state;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Rings the token's timers, one after the other, until it is as wanted. */
async function ringUntil(
  time: VirtualTime,
  token: Token,
  wanted: (status: TokenStatus) => boolean,
): Promise<TokenStatus> {
  for (;;) {
    const status = token.status();
    if (wanted(status)) return status;
    await time.ringNext();
    await turn();
  }
}

/** Virtual time for the token's policies; PKCS#11 calls take real time. */
const virtual = (time: VirtualTime) => ({
  clock: time,
  timers: time,
  openManagement: (module: ManagementWorkerData) => new Management({ ...module, timers: systemTimers }),
});

for (const [vendor, makeHsm] of [
  ['SoftHSM2', (t: Test) => makeSoftHsmToken(t)],
  ['NSS softoken', (t: Test) => makeNssToken(t)],
] as const) {
  t.test(`${vendor}: from its URI to cryptography, and again after a restart`, async (t) => {
    const hsm = await makeHsm(t);
    const token = open(t, hsm);
    const keyId = objectId(randomBytes(16).toString('hex'));
    t.match(token.status(), { state: 'UNAVAILABLE', reason: /starting/, label: hsm.label });
    t.match(await token.crypto.decrypt({} as never, 0), { ok: false, error: { kind: 'token-unavailable' } });
    t.match(await token.management.listObjects(), { ok: false, error: { code: 'token-unavailable' } });

    await token.firstAttempt;
    t.match(token.status(), {
      state: 'DEGRADED',
      reason: /xksctl hsm prepare/,
      label: hsm.label,
      serial: hsm.serial,
      sessions: 1,
    });
    value(await token.management.generateKey({ objectId: keyId, label: 'test key' }));
    const witness = await makeWitness(token.crypto, keyId, systemClock.monotonicMs() + 10_000);
    if (!witness.ok) throw new Error(JSON.stringify(witness.error));
    const key: KeyObject = { objectId: keyId, witness: witness.value };
    token.setTestKey(key);
    await until(token, isState('ACTIVE'));

    await token.close();
    t.match(token.status(), { state: 'UNAVAILABLE', reason: 'the token is closed', sessions: 0 });
    t.match(await token.crypto.decrypt({} as never, 0), { ok: false, error: { kind: 'token-unavailable' } });

    const again = open(t, hsm);
    again.setTestKey(key);
    await until(again, isState('ACTIVE'));
    t.match(value(await again.management.findObject({ objectId: null, label: 'test key' })), {
      objectId: keyId,
    });
  });
}

t.test('a real token whose sessions were all closed: logged in again, the same key serves', async (t) => {
  const hsm = await makeSoftHsmToken(t);
  const token = open(t, hsm);
  await token.firstAttempt;
  const keyId = objectId(randomBytes(16).toString('hex'));
  value(await token.management.generateKey({ objectId: keyId, label: 'test key' }));
  const witness = await makeWitness(token.crypto, keyId, systemClock.monotonicMs() + 10_000);
  if (!witness.ok) throw new Error(JSON.stringify(witness.error));
  token.setTestKey({ objectId: keyId, witness: witness.value });
  await until(token, isState('ACTIVE'));

  const module = new pkcs11js.PKCS11();
  module.load(hsm.modulePath);
  t.teardown(() => module.close());
  const lost = until(token, isState('UNAVAILABLE'));
  for (const slot of module.C_GetSlotList(true)) module.C_CloseAllSessions(slot);
  t.match(await lost, { reason: /sessions were lost \(CKR_/ });
  await until(token, isState('ACTIVE'));
  value(await token.management.findObject({ objectId: keyId, label: null }));
});

t.test('X-H3: a test key that the token does not have makes it UNAVAILABLE', async (t) => {
  const token = open(t, await makeSoftHsmToken(t));
  token.setTestKey({ objectId: objectId('00'.repeat(16)), witness: null });
  await token.firstAttempt;
  const status = await until(token, ({ reason }) => reason?.includes('test key (') === true);
  t.match(status, {
    state: 'UNAVAILABLE',
    reason: /the test key \(CKA_ID [0-9a-f]+\) is no longer on the token.*xksctl hsm prepare/,
  });
});

t.test('what is wrong is said, and once it is cured the token comes up by itself', async (t) => {
  const hsm = await makeSoftHsmToken(t);
  const time = new VirtualTime();
  const lines: LogFields[] = [];
  const logger: Logger = {
    ...silentLogger,
    warn: (_message, fields) => lines.push(fields ?? {}),
    info: (_message, fields) => lines.push(fields ?? {}),
  };
  const uri = hsm.uri.replace('token=xks-test', 'token=second');
  const token = open(t, { uri, initArgs: '' }, { ...virtual(time), logger });
  await token.firstAttempt;
  t.match(token.status(), {
    state: 'UNAVAILABLE',
    reason: /no token with label "second".*it has "xks-test"/,
  });

  const init = ['--init-token', '--free', '--label', 'second', '--pin', hsm.pin, '--so-pin', hsm.soPin];
  await run('softhsm2-util', init, { env: { ...process.env, ...hsm.env } });
  chmodSync(hsm.pinFile, 0o644);
  await ringUntil(time, token, ({ reason }) => reason?.includes('chmod o-rwx') === true);

  chmodSync(hsm.pinFile, 0o600);
  await ringUntil(time, token, isState('DEGRADED'));
  t.match(token.status(), { label: 'second', reason: /xksctl hsm prepare/ });
  t.equal(lines.length, 3, 'one line for each change, none for each attempt');
});

t.test('the module is not there', async (t) => {
  const token = open(t, { uri: 'pkcs11:token=a?module-path=/nowhere/hsm.so&pin-value=1234', initArgs: '' });
  await token.firstAttempt;
  t.match(token.status(), { state: 'UNAVAILABLE', reason: /module \/nowhere\/hsm\.so: .*No such file/ });
});

t.test('a refused PIN is not tried again by itself, but at an operator’s word', async (t) => {
  const hsm = await makeSoftHsmToken(t);
  const rightPin = 'set-by-the-so';
  writeFileSync(hsm.pinFile, `${rightPin}\n`);
  const time = new VirtualTime();
  const token = open(t, hsm, { ...virtual(time) });
  await token.firstAttempt;
  t.match(token.status(), { state: 'UNAVAILABLE', reason: /the PIN is wrong/ });
  t.notMatch(JSON.stringify(token.status()), rightPin);

  // Now the PIN is right, but the token said once that it is not.
  await run(
    'pkcs11-tool',
    [
      '--module',
      hsm.modulePath,
      '--token-label',
      hsm.label,
      '--login',
      '--login-type',
      'so',
      '--so-pin',
      hsm.soPin,
      '--init-pin',
      '--new-pin',
      rightPin,
    ],
    { env: { ...process.env, ...hsm.env } },
  );
  await ringUntil(time, token, ({ reason }) => reason?.includes('not tried again') === true);
  for (let attempt = 0; attempt < 3; attempt += 1) await time.ringNext();
  t.match(token.status(), { state: 'UNAVAILABLE', reason: /not tried again/ });

  t.match(await token.retryLogin(true), { state: 'DEGRADED', reason: /xksctl hsm prepare/ });
});

t.test('without a place to remember a refusal nobody logs in', async (t) => {
  const hsm = await makeSoftHsmToken(t);
  const dataDir = t.testdir({ 'pin-refusals.json': {} });
  const time = new VirtualTime();
  const token = open(t, hsm, { dataDir, ...virtual(time) });
  await token.firstAttempt;
  t.match(token.status(), { state: 'UNAVAILABLE', reason: /cannot read .*pin-refusals\.json|damaged/ });
  rmSync(join(dataDir, 'pin-refusals.json'), { recursive: true });
  await ringUntil(time, token, isState('DEGRADED'));
});

const badTag: HsmFailure = {
  kind: 'failed',
  rv: 'CKR_ENCRYPTED_DATA_INVALID',
  functionName: 'C_Decrypt',
};

/** A pool at the injected seam, for what a real token does not do when asked. */
class FakePool implements CryptoPool {
  readonly options: CryptoPoolOptions;
  readonly canaries: (string | null)[] = [];
  readonly profiles: Parameters<CryptoPool['setProfile']>[0][] = [];
  tried = 0;
  resumed = 0;
  stuckCells = 2;
  isStuck = false;
  /** Operations that failed. */
  failed = 0;
  closed = 0;
  failure: HsmFailure | null = null;
  resumeFailure: HsmFailure | null = null;
  /** How long an operation takes. */
  takes: () => void = () => {};

  constructor(options: CryptoPoolOptions) {
    this.options = options;
  }

  async encrypt(operation: { readonly plaintext: Uint8Array }) {
    this.takes();
    if (this.failure !== null) {
      this.failed += 1;
      return err(this.failure);
    }
    const empty = new Uint8Array(0);
    return ok({ ciphertext: operation.plaintext.slice(), iv: empty, tag: empty, integrityValue: null });
  }

  async decrypt(operation: { readonly ciphertext: Uint8Array }) {
    return this.failure === null ? ok(operation.ciphertext.slice()) : err(this.failure);
  }

  stats(): ReturnType<CryptoPool['stats']> {
    return {
      sessions: 3,
      cells: 0,
      cellsInUse: 0,
      stuckCells: this.stuckCells,
      isStuck: this.isStuck,
      queued: 0,
      inFlight: 0,
      operations: 0,
      roundTrips: 0,
      operationMicros: 0,
    };
  }

  calls(): CallCounts {
    return { ...noCalls, operations: 1, repeats: 2 };
  }

  setProfile(profile: Parameters<CryptoPool['setProfile']>[0]): void {
    this.profiles.push(profile);
  }

  async tryEncrypt(_form: GcmForm, { plaintext }: { readonly plaintext: Uint8Array }) {
    if (this.failure !== null) return err(this.failure);
    this.tried += 1;
    const iv = Uint8Array.from({ length: 12 }, () => this.tried & 0xff);
    const sealed = { ciphertext: plaintext.slice(), iv, tag: new Uint8Array(16), integrityValue: null };
    return ok(sealed);
  }

  /** Opens what is as it was sealed. */
  async tryDecrypt(_form: GcmForm, operation: DecryptOperation) {
    if (this.failure !== null) return err(this.failure);
    const isGood =
      operation.tag[0] === 0 &&
      operation.iv.length === 12 &&
      operation.ciphertext[0] === 'x'.charCodeAt(0) &&
      Buffer.from(operation.gcmAad).toString('latin1').endsWith('1');
    return isGood ? ok(operation.ciphertext.slice()) : err(badTag);
  }

  setCanary(key: KeyObject | null): void {
    this.canaries.push(key?.objectId ?? null);
  }

  async resume() {
    this.resumed += 1;
    return this.resumeFailure === null ? ok(undefined) : err(this.resumeFailure);
  }

  async close(): Promise<void> {
    this.closed += 1;
  }
}

const testKey: KeyObject = { objectId: objectId('11'.repeat(16)), witness: null };
const deviceError: HsmFailure = { kind: 'failed', rv: 'CKR_DEVICE_ERROR', functionName: 'C_Encrypt' };

async function withFakePool(t: Test) {
  const hsm = await makeSoftHsmToken(t);
  const time = new VirtualTime();
  const pools: FakePool[] = [];
  const ofNewPools: { failure: HsmFailure | null } = { failure: null };
  const token = open(t, hsm, {
    ...virtual(time),
    openPool: async (options) => {
      const pool = new FakePool(options);
      pool.failure = ofNewPools.failure;
      pools.push(pool);
      return ok(pool);
    },
  });
  token.setTestKey(testKey);
  await token.firstAttempt;
  await until(token, isState('ACTIVE'));
  const pool = (): FakePool => {
    const last = pools.at(-1);
    if (last === undefined) throw new Error('no pool was opened');
    return last;
  };
  return { time, token, pools, pool, ofNewPools };
}

t.test('X-H3: the check every second decides between ACTIVE, DEGRADED and UNAVAILABLE', async (t) => {
  const { time, token, pool } = await withFakePool(t);
  t.strictSame(pool().canaries, [testKey.objectId]);
  t.match(token.status(), { sessions: 3, stuckCells: 2, reason: null });

  pool().failure = deviceError;
  time.advance(healthIntervalMs);
  const ill = await until(token, isState('UNAVAILABLE'));
  t.match(ill.reason, /encrypt: C_Encrypt returned CKR_DEVICE_ERROR/);

  pool().failure = null;
  time.advance(healthIntervalMs);
  await until(token, isState('ACTIVE'));

  pool().takes = () => time.advance(150);
  time.advance(healthIntervalMs);
  t.match(await until(token, isState('DEGRADED')), { reason: /slow/ });

  pool().takes = () => {};
  pool().failure = { kind: 'overloaded', rv: null, functionName: null };
  time.advance(healthIntervalMs);
  t.match(await until(token, ({ reason }) => reason?.includes('busy') === true), { state: 'DEGRADED' });

  token.setTestKey(null);
  t.match(token.status(), { state: 'DEGRADED', reason: /xksctl hsm prepare/ });
  t.strictSame(pool().canaries, [testKey.objectId, null]);
});

t.test('a check that never comes back: UNAVAILABLE after 5 s', async (t) => {
  const { time, token, pool } = await withFakePool(t);
  pool().encrypt = () => new Promise(() => {});
  const hangsSinceMs = time.monotonicMs();
  await ringUntil(time, token, isState('UNAVAILABLE'));
  t.equal(time.monotonicMs() - hangsSinceMs, 6_000, 'the age is looked at every second');
  t.match(token.status().reason, /has not passed for 5 s/);
});

t.test('sessions lost: logs in and opens them again, in the same pool', async (t) => {
  const { token, pools, pool } = await withFakePool(t);
  pool().options.onSessionsLost('CKR_DEVICE_REMOVED');
  t.match(token.status(), { state: 'UNAVAILABLE', reason: /CKR_DEVICE_REMOVED/ });
  t.match(await token.crypto.decrypt({} as never, 0), { ok: false, error: { kind: 'token-unavailable' } });
  await until(token, isState('ACTIVE'));
  t.equal(pool().resumed, 1);
  t.equal(pools.length, 1);
});

t.test('sessions lost for good: the module is opened anew', async (t) => {
  const { time, token, pools, pool } = await withFakePool(t);
  const lost = pool();
  lost.resumeFailure = { kind: 'failed', rv: 'CKR_CRYPTOKI_NOT_INITIALIZED', functionName: 'C_OpenSession' };
  lost.options.onSessionsLost('CKR_CRYPTOKI_NOT_INITIALIZED');
  await ringUntil(time, token, ({ state }) => state !== 'UNAVAILABLE');
  t.equal(lost.closed, 1);
  t.equal(pools.length, 2);
  t.strictSame(pool().canaries, [testKey.objectId]);
});

t.test('a token that fails check after check is opened anew, one that hangs is not', async (t) => {
  const { time, token, pools, pool } = await withFakePool(t);
  pool().failure = deviceError;
  await ringUntil(time, token, ({ state }) => pools.length === 2 && state === 'ACTIVE');

  pool().failure = { kind: 'deadline', rv: null, functionName: null };
  for (let check = 0; check < 60; check += 1) {
    await time.ringNext();
    await turn();
  }
  t.match(token.status(), { state: 'UNAVAILABLE', reason: /deadline/ });
  t.equal(pools.length, 2);
});

t.test('a token none of whose calls return is beyond recovery after 10 s, until they do', async (t) => {
  const { time, token, pool } = await withFakePool(t);
  const told: (string | null)[] = [];
  const pass = async (seconds: number): Promise<void> => {
    for (let second = 0; second < seconds; second += 1) {
      time.advance(1_000);
      await turn();
      told.push(token.beyondRecovery());
    }
  };
  pool().failure = { kind: 'token-unavailable', rv: null, functionName: null };
  await pass(20);
  t.strictSame(new Set(told), new Set([null]), 'a session is left');
  pool().stuckCells = 3;
  await pass(11);
  t.match(told.at(-1), /3 calls have not returned from the HSM, and no session is left for over 10 s/);
  t.equal(told.at(-2), null);
  pool().stuckCells = 2;
  await pass(1);
  t.equal(told.at(-1), null);
  pool().isStuck = true;
  await pass(11);
  t.match(told.at(-1), /2 calls have not returned/, 'sessions that nothing is given to are of no use');
  pool().isStuck = false;
  await pass(1);
  t.equal(told.at(-1), null);
});

t.test('a test key that is gone: the module is opened anew, later and later, until it is back', async (t) => {
  const { time, token, pools, pool, ofNewPools } = await withFakePool(t);
  const keyLost: HsmFailure = { kind: 'key-lost', rv: null, functionName: 'C_FindObjects' };
  ofNewPools.failure = keyLost;
  pool().failure = keyLost;
  for (let opened = 2; opened < 6; opened += 1) await ringUntil(time, token, () => pools.length === opened);
  t.strictSame(
    pools.slice(0, 4).map(({ failed }) => failed),
    [5, 10, 20, 40],
    'checks that failed',
  );
  pool().failure = null;
  await ringUntil(time, token, isState('ACTIVE'));
});

t.test('a token that is logged in and ill is opened anew at an operator’s word', async (t) => {
  const { time, token, pools, pool } = await withFakePool(t);
  pool().failure = { kind: 'token-unavailable', rv: null, functionName: null };
  await ringUntil(time, token, isState('UNAVAILABLE'));
  t.match(await token.retryLogin(true), { state: 'ACTIVE' });
  t.equal(pools.length, 2);
  t.match(await token.retryLogin(true), { state: 'ACTIVE' });
  t.equal(pools.length, 2, 'one that is not ill is left alone');
});

t.test('closing stops every timer', async (t) => {
  const { time, token, pool } = await withFakePool(t);
  await token.close();
  await token.close();
  t.equal(pool().closed, 1);
  pool().options.onSessionsLost('CKR_DEVICE_REMOVED');
  time.advance(60_000);
  t.equal(time.pending, 0);
  t.match(await token.retryLogin(true), { state: 'UNAVAILABLE', reason: 'the token is closed' });
});
