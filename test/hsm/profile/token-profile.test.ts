import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../../src/base/clock.js';
import { silentLogger } from '../../../src/base/logger.js';
import { loadNativeBinding } from '../../../src/base/native.js';
import { systemRandom } from '../../../src/base/random.js';
import { systemTimers } from '../../../src/base/timers.js';
import { parsePkcs11Uri } from '../../../src/hsm/pkcs11-uri.js';
import type { ProfileProbe } from '../../../src/hsm/profile/token-profile.js';
import type { ProfileName } from '../../../src/hsm/profile/vendor-profiles.js';
import { createToken, type Token, type TokenStatus } from '../../../src/hsm/token.js';
import { encryption, farDeadline, importKnownKey, type KnownKey } from '../../support/crypto-pool-fixture.js';
import { type FaultShim, makeFaultShim } from '../../support/fault-shim.js';
import { logIn } from '../../support/logged-in-token.js';
import { makeNssToken } from '../../support/nss.js';
import { makeSoftHsmToken } from '../../support/softhsm.js';
import { until } from '../../support/token-status.js';

/** A real token through the fault shim: what is learnt of it, kept, refused and accepted. */

interface Bench {
  readonly shim: FaultShim;
  readonly testKey: KnownKey;
  readonly customers: KnownKey;
  readonly dataDir: string;
  /** A process that meets the token, until its first attempt has ended. */
  start(profile?: ProfileName, withTestKey?: boolean): Promise<Token>;
  pinFiles(): readonly string[];
}

async function bench(t: Test): Promise<Bench> {
  const softHsm = await makeSoftHsmToken(t);
  const shim = await makeFaultShim(t, softHsm.modulePath);
  const loggedIn = logIn(t, { ...softHsm, modulePath: shim.modulePath });
  const testKey = importKnownKey(loggedIn);
  const customers = importKnownKey(loggedIn);
  const dataDir = t.testdir();
  const uri = softHsm.uri.replace(softHsm.modulePath, shim.modulePath);
  return {
    shim,
    testKey,
    customers,
    dataDir,
    start: (profile = 'auto', withTestKey = true) =>
      open(t, uri, '', dataDir, profile, withTestKey ? testKey : null),
    pinFiles: () => readdirSync(dataDir).filter((name) => name.startsWith('hsm-profile-')),
  };
}

async function open(
  t: Test,
  uri: string,
  initArgs: string,
  dataDir: string,
  profile: ProfileName,
  testKey: KnownKey | null,
): Promise<Token> {
  const parsed = parsePkcs11Uri(uri);
  if (!parsed.ok) throw new Error(parsed.error);
  const token = createToken({
    uri: parsed.value.uri,
    initArgs,
    profile,
    workers: 1,
    sessionsMax: 1,
    dataDir,
    credentialsDirectory: null,
    tryLockFile: (fd) => loadNativeBinding().tryLockFile(fd),
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    logger: silentLogger,
  });
  t.teardown(() => token.close());
  token.setTestKey(testKey?.object ?? null);
  await token.firstAttempt;
  return token;
}

const active = ({ state }: TokenStatus): boolean => state === 'ACTIVE';

async function probed(token: Token, accept = false): Promise<ProfileProbe> {
  const probe = await token.probe(accept);
  if (!probe.ok) throw new Error(probe.error);
  return probe.value;
}

const encrypt = (token: Token, key: KnownKey) => token.crypto.encrypt(encryption(key.object), farDeadline());

t.test('first contact: learnt, kept, and the same for the next process', async (t) => {
  const hsm = await bench(t);
  const token = await hsm.start();
  await until(token, active);
  t.match(await probed(token), {
    stated: 'auto',
    pinned: /takes the caller’s IV \(parameters with ulIvBits\); refuses a wrong tag with CKR_GENERAL_ERROR/,
    verdict: 'agrees',
    reason: null,
  });
  const [file = ''] = hsm.pinFiles();
  const pin = JSON.parse(readFileSync(join(hsm.dataDir, file), 'utf8'));
  t.match(pin, {
    version: 1,
    stated: 'auto',
    profile: { ivSource: 'caller', layout: 'with-iv-bits' },
    refused: null,
  });
  t.match(await encrypt(token, hsm.customers), { ok: true });
  const next = await hsm.start();
  await until(next, active);
});

t.test('NSS softoken is met the same way', async (t) => {
  const nss = await makeNssToken(t);
  const key = importKnownKey(logIn(t, nss));
  for (const profile of ['auto', 'nss'] as const) {
    const token = await open(t, nss.uri, nss.initArgs, t.testdir({}), profile, key);
    await until(token, active);
    t.match(await probed(token), {
      verdict: 'agrees',
      found: /takes the caller’s IV .*ENCRYPTED_DATA_INVALID/,
    });
    await token.close();
  }
});

for (const [profile, rules, found] of [
  ['luna', ['iv append'], /makes the IV and appends it/],
  ['cloudhsm', ['iv in-place'], /makes the IV and writes it back/],
  ['nshield', ['iv zero-in', 'bad-tag 0x6'], /makes the IV and writes it back/],
] as const) {
  t.test(`profile = "${profile}": it applies before there is a test key, and passes the probe`, async (t) => {
    const hsm = await bench(t);
    hsm.shim.setFaults(...rules);
    const stated = await hsm.start(profile === 'nshield' ? 'auto' : profile, false);
    t.match(stated.status(), { state: 'DEGRADED', reason: /hsm prepare/ });
    t.match(await stated.probe(false), { ok: false, error: /no test key.*hsm prepare/ });
    // nShield takes a caller's IV too, so nothing need be stated before.
    t.match(await encrypt(stated, hsm.customers), { ok: true });
    await stated.close();
    t.strictSame(hsm.pinFiles(), []);
    const token = await hsm.start(profile);
    await until(token, active);
    t.match(await probed(token), { found, verdict: 'agrees' });
    t.match(await encrypt(token, hsm.customers), { ok: true });
    // SoftHSM2's word for a wrong tag is not nShield's.
  });
}

for (const [rules, found] of [
  [['iv append'], /appends it \(parameters with ulIvBits/],
  [['iv in-place'], /writes it back \(parameters with ulIvBits/],
  [['iv replaces'], /writes it back \(parameters with ulIvBits/],
  [['parameters without-iv-bits'], /caller’s IV \(parameters without ulIvBits/],
  [['iv in-place', 'parameters without-iv-bits'], /writes it back \(parameters without ulIvBits/],
] as const) {
  t.test(`auto finds ${found}`, async (t) => {
    const hsm = await bench(t);
    hsm.shim.setFaults(...rules);
    const token = await hsm.start();
    await until(token, active);
    t.match(await probed(token), { found, verdict: 'agrees' });
    t.match(await encrypt(token, hsm.customers), { ok: true });
    await token.close();
  });
}

t.test('a token whose IVs stay zero is refused, whether that is stated or not', async (t) => {
  const hsm = await bench(t);
  hsm.shim.setFaults('iv stays-zero');
  const auto = await hsm.start();
  t.match(auto.status(), { state: 'UNAVAILABLE', reason: /in none of the forms.*hsm probe/ });
  t.match(await encrypt(auto, hsm.customers), { ok: false, error: { kind: 'token-unavailable' } });
  t.equal(await auto.canary(), 'failed');
  await auto.close();
  t.strictSame(hsm.pinFiles(), []);

  const stated = await hsm.start('cloudhsm');
  t.match(stated.status(), {
    state: 'UNAVAILABLE',
    reason: /profile = "cloudhsm".*IV that came back is zero/,
  });
  t.match(await encrypt(stated, hsm.customers), { ok: false, error: { kind: 'token-unavailable' } });
  t.match(await probed(stated, true), { verdict: 'refused' }, 'nobody can accept that');
  t.match(stated.status(), { state: 'UNAVAILABLE' });
});

for (const rule of ['iv stays-zero', 'iv in-place 3']) {
  t.test(
    `IVs that become unsafe under load (${rule}): refused at once, over a restart, until accepted`,
    async (t) => {
      const hsm = await bench(t);
      hsm.shim.setFaults('iv in-place');
      const token = await hsm.start('cloudhsm');
      await until(token, active);
      t.match(await encrypt(token, hsm.customers), { ok: true });
      hsm.shim.setFaults(rule);
      const kinds = new Set<string>();
      while (token.status().state !== 'UNAVAILABLE') {
        const answer = await encrypt(token, hsm.customers);
        kinds.add(answer.ok ? 'ok' : answer.error.kind);
      }
      t.ok(kinds.has('unsafe-iv') || rule === 'iv stays-zero', [...kinds].join());
      t.match(token.status(), { reason: /IV that is zero, the one given or one that came before.*--accept/ });
      t.match(await encrypt(token, hsm.customers), { error: { kind: 'token-unavailable' } });
      hsm.shim.setFaults('iv in-place');
      t.match(await probed(token), { verdict: 'refused' }, 'that it is well again is for an operator to say');
      await token.close();

      const next = await hsm.start('cloudhsm');
      t.match(next.status(), { state: 'UNAVAILABLE', reason: /--accept/ });
      t.match(await probed(next, true), { verdict: 'accepted' });
      await until(next, active);
      t.match(await encrypt(next, hsm.customers), { ok: true });
      await next.close();
    },
  );
}

t.test('drift: refused until an operator accepts it, or it is as it was', async (t) => {
  const hsm = await bench(t);
  await until(await hsm.start(), active);

  hsm.shim.setFaults('iv in-place');
  const token = await hsm.start();
  const refused = await until(token, ({ reason }) => reason?.includes('now makes') === true);
  t.match(refused, {
    state: 'UNAVAILABLE',
    reason: /takes the caller’s IV .* now makes the IV and writes it back .*hsm probe --accept/,
  });
  t.match(await encrypt(token, hsm.customers), { error: { kind: 'token-unavailable' } });
  t.match(await probed(token), { verdict: 'differs', pinned: /caller’s IV/, found: /writes it back/ });

  hsm.shim.setFaults();
  t.match(await probed(token), { verdict: 'agrees' });
  await until(token, active);

  hsm.shim.setFaults('iv in-place');
  t.match(await probed(token), { verdict: 'differs' });
  t.match(await probed(token, true), { verdict: 'accepted', found: /writes it back/ });
  await until(token, active);
  t.match(await encrypt(token, hsm.customers), { ok: true });
  await token.close();
  const next = await hsm.start();
  await until(next, active);
  t.match(await probed(next), { verdict: 'agrees', pinned: /writes it back/ });

  // Without its own IVs it encrypts under the twelve zeros that it is given; as a token that takes IVs it is well.
  hsm.shim.setFaults();
  t.match(await probed(next), { verdict: 'refused', reason: /it was found to be one that .* is zero/ });
  t.match(await probed(next, true), { verdict: 'accepted', found: /caller’s IV/ });
  t.match(await encrypt(next, hsm.customers), { ok: true });

  hsm.shim.setFaults('bad-tag 0x40');
  t.match(await probed(next), {
    verdict: 'differs',
    reason: /bad ciphertexts with CKR_GENERAL_ERROR now says CKR_ENCRYPTED_DATA_INVALID/,
  });
});

t.test('a stated profile that the token is not: refused, and it says what differs', async (t) => {
  const hsm = await bench(t);
  const token = await hsm.start('nss');
  t.match(token.status(), {
    state: 'UNAVAILABLE',
    reason:
      /profile = "nss" says that the token refuses a wrong tag with CKR_ENCRYPTED_DATA_INVALID, but this one said CKR_GENERAL_ERROR/,
  });
  t.match(await probed(token, true), { verdict: 'refused' });
  t.match(await encrypt(token, hsm.customers), { error: { kind: 'token-unavailable' } });
  await token.close();
  hsm.shim.setFaults('iv append');
  const appending = await hsm.start('softhsm');
  t.match(appending.status(), {
    reason:
      /profile = "softhsm" says that the token takes the caller’s IV .*, but this one makes the IV and appends it/,
  });
  await appending.close();
  // Another statement is a new beginning.
  await until(await hsm.start('luna'), active);
});

t.test('an ill token is no other token', async (t) => {
  const hsm = await bench(t);
  const first = await hsm.start();
  await until(first, active);
  await first.close();
  hsm.shim.setFaults('C_Encrypt fail 0x5');
  const token = await hsm.start();
  t.match(await probed(token), { verdict: 'unknown', reason: /in none of the forms/ });
  hsm.shim.setFaults();
  await until(token, active);
  // One call in a probe that fails by chance is none of its ways.
  let verdict = 'agrees';
  // A check on its test key may come first, and have the fault for itself.
  for (let turn = 0; turn < 20 && verdict === 'agrees'; turn += 1) {
    hsm.shim.setFaults('C_DecryptInit fail 0x6 1');
    ({ verdict } = await probed(token));
  }
  t.equal(verdict, 'unknown');
  t.match(await probed(token), { verdict: 'agrees' });
  // Nor is the form that is tried next, where the pinned one fails once: here both work.
  hsm.shim.setFaults('iv zero-in', 'C_EncryptInit fail 0x71 1');
  t.match(await probed(token), { verdict: 'agrees', found: /caller’s IV/ });
  t.match(token.status(), { reason: null });
});

t.test('a pin that cannot be read: an operator has to accept what is found', async (t) => {
  const hsm = await bench(t);
  const first = await hsm.start();
  await until(first, active);
  await first.close();
  const [file = ''] = hsm.pinFiles();
  writeFileSync(join(hsm.dataDir, file), '{"version":1');
  const token = await hsm.start();
  t.match(token.status(), { state: 'UNAVAILABLE', reason: /damaged.*hsm probe --accept/ });
  t.match(await probed(token), { verdict: 'refused' });
  t.match(await probed(token, true), { verdict: 'accepted' });
  await until(token, active);
  t.ok(existsSync(join(hsm.dataDir, file)));
});
