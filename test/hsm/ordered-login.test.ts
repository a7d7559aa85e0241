import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { loadNativeBinding } from '../../src/base/native.js';
import { systemRandom } from '../../src/base/random.js';
import { err, ok } from '../../src/base/result.js';
import { systemTimers } from '../../src/base/timers.js';
import type { LoginState, ManagementResult } from '../../src/hsm/management-protocol.js';
import { type LoginOutcome, loginInOrder } from '../../src/hsm/ordered-login.js';
import { Pin } from '../../src/hsm/pin.js';
import { PinRefusals } from '../../src/hsm/pin-refusals.js';

const native = loadNativeBinding();
const token = { slotId: 1n, label: 'xks', serial: '1', manufacturer: 'M', model: 'm', firmware: '1.0' };
const loggedOut: LoginState = {
  loggedIn: false,
  loginRequired: true,
  pinInitialised: true,
  finalTry: false,
  locked: false,
};

/** A token that answers as told, and counts; real ones cannot be brought into these states here. */
class FakeToken {
  state: LoginState = loggedOut;
  /** `CKR_…` of C_Login; `null`: the call does not return in time. */
  answer: string | null = 'CKR_OK';
  logins = 0;

  async loginState() {
    return ok(this.state);
  }

  /** What the last call that did not return in time comes back with. */
  late: (result: ManagementResult<null>) => void = () => {};

  async login(_slotId: bigint, _pin: Pin, onLate: (result: ManagementResult<null>) => void) {
    this.logins += 1;
    this.late = onLate;
    if (this.answer === 'CKR_OK') return ok(null);
    const message = this.answer === null ? 'login has not returned' : `C_Login returned ${this.answer}`;
    return err({ code: 'token-unavailable' as const, rv: this.answer, functionName: 'C_Login', message });
  }
}

/** Whether the processes that began a login still run. */
let loginProcessesRun = true;
t.beforeEach(() => {
  loginProcessesRun = true;
});

/** A login as a process after a restart would make it. */
function logIn(t: Test, fake: FakeToken, pin = '4711', forgive = false): Promise<LoginOutcome> {
  return loginInOrder({
    management: fake,
    token,
    pin: new Pin(pin),
    refusals: new PinRefusals({
      directory: t.testdirName,
      tryLockFile: (fd) => native.tryLockFile(fd),
      clock: systemClock,
      timers: systemTimers,
      random: systemRandom,
      isProcessRunning: () => loginProcessesRun,
    }),
    forgive,
  });
}

const states: readonly (readonly [string, Partial<LoginState>, object])[] = [
  ['logged in already', { loggedIn: true }, { kind: 'logged-in' }],
  ['a token without login', { loginRequired: false }, { kind: 'logged-in' }],
  [
    'CKF_USER_PIN_FINAL_TRY',
    { finalTry: true },
    { kind: 'failed', reason: /CKF_USER_PIN_FINAL_TRY.*none is tried/ },
  ],
  ['CKF_USER_PIN_LOCKED', { locked: true }, { kind: 'failed', reason: /locked its user PIN/ }],
  ['no user PIN yet', { pinInitialised: false }, { kind: 'failed', reason: /no user PIN yet/ }],
];
for (const [what, state, outcome] of states) {
  t.test(`the PIN is not spent: ${what}`, async (t) => {
    t.testdir();
    const fake = new FakeToken();
    fake.state = { ...loggedOut, ...state };
    t.match(await logIn(t, fake), outcome);
    t.match(await logIn(t, fake, '4711', true), outcome, 'nor at an operator’s word');
    t.equal(fake.logins, 0);
  });
}

for (const rv of ['CKR_PIN_INCORRECT', 'CKR_PIN_LEN_RANGE', 'CKR_PIN_INVALID', 'CKR_PIN_EXPIRED']) {
  t.test(`${rv} is a verdict: not again, but another PIN, and this one at an operator’s word`, async (t) => {
    t.testdir();
    const fake = new FakeToken();
    fake.answer = rv;
    t.match(await logIn(t, fake), { kind: 'refused', reason: rv });
    t.match(await logIn(t, fake), { kind: 'refused', reason: /not tried again/ });
    t.equal(fake.logins, 1);
    t.match(await logIn(t, fake, '4712'), { kind: 'refused' });
    t.equal(fake.logins, 2);
    fake.answer = 'CKR_OK';
    t.match(await logIn(t, fake, '4711', true), { kind: 'logged-in' });
  });
}

t.test('an error of the token is no verdict on the PIN', async (t) => {
  t.testdir();
  const fake = new FakeToken();
  fake.answer = 'CKR_DEVICE_ERROR';
  for (let login = 0; login < 5; login += 1) t.match(await logIn(t, fake), { kind: 'failed' });
  fake.answer = 'CKR_OK';
  t.match(await logIn(t, fake), { kind: 'logged-in' });
});

t.test('a locked token says nothing of the PIN', async (t) => {
  t.testdir();
  const fake = new FakeToken();
  fake.answer = 'CKR_PIN_LOCKED';
  t.match(await logIn(t, fake), { kind: 'failed', reason: /locked its user PIN/ });
  fake.answer = 'CKR_OK';
  t.match(await logIn(t, fake), { kind: 'logged-in' }, 'unlocked, the same PIN is tried');
});

/** What three processes leave behind that began a login. */
function begunByThree(t: Test): void {
  const unfinished = [1, 2, 3].map((pid) => ({
    token: JSON.stringify(['M', 'm', '1', 'xks']),
    process: `${pid}@1`,
  }));
  t.testdir({ 'pin-refusals.json': JSON.stringify({ version: 1, refusals: [], unfinished }) });
}

t.test('logins that have not returned: three at once, then the next waits for them', async (t) => {
  begunByThree(t);
  const fake = new FakeToken();
  t.match(await logIn(t, fake), { kind: 'failed', reason: /3 logins .* have not returned from C_Login/ });
  t.equal(fake.logins, 0);
});

t.test('a process that is logged in by a login that took long concludes it', async (t) => {
  begunByThree(t);
  const fake = new FakeToken();
  fake.state = { ...loggedOut, loggedIn: true };
  t.match(await logIn(t, fake), { kind: 'logged-in' });
  loginProcessesRun = false;
  fake.state = loggedOut;
  t.match(await logIn(t, fake), { kind: 'logged-in' });
});

t.test('a verdict that comes too late is recorded', async (t) => {
  t.testdir();
  const fake = new FakeToken();
  fake.answer = null;
  t.match(await logIn(t, fake), { kind: 'failed' });
  const record = (): { refusals: unknown[]; unfinished: unknown[] } =>
    JSON.parse(readFileSync(join(t.testdirName, 'pin-refusals.json'), 'utf8'));
  fake.late(
    err({ code: 'failed', rv: 'CKR_PIN_INCORRECT', functionName: 'C_Login', message: 'C_Login returned it' }),
  );
  while (record().refusals.length === 0) await new Promise(setImmediate);
  t.match(await logIn(t, fake), { kind: 'refused', reason: /not tried again/ });
  t.equal(fake.logins, 1);

  for (let login = 0; login < 5; login += 1) {
    t.match(await logIn(t, fake, '4712'), { kind: 'failed' });
    fake.late(ok(null));
    while (record().unfinished.length > 0) await new Promise(setImmediate);
  }
  t.equal(fake.logins, 6, 'slow logins that succeed shut nobody out');
});

t.test('logins that end without a verdict: three, then an operator has to look', async (t) => {
  begunByThree(t);
  loginProcessesRun = false;
  const fake = new FakeToken();
  t.match(await logIn(t, fake), { kind: 'refused', reason: /without a verdict/ });
  t.equal(fake.logins, 0);
  t.match(await logIn(t, fake, '4711', true), { kind: 'logged-in' });
  t.match(await logIn(t, fake), { kind: 'logged-in' });
});

t.test('after 16 refused PINs no other is tried', async (t) => {
  const refusal = {
    token: JSON.stringify(['M', 'm', '1', 'xks']),
    salt: '00'.repeat(16),
    digest: '00'.repeat(32),
    rv: 'CKR_PIN_INCORRECT',
    atMs: 0,
  };
  const record = { version: 1, refusals: Array.from({ length: 16 }, () => refusal), unfinished: [] };
  t.testdir({ 'pin-refusals.json': JSON.stringify(record) });
  const fake = new FakeToken();
  t.match(await logIn(t, fake), { kind: 'refused', reason: /16 different PINs/ });
  t.equal(fake.logins, 0);
});
