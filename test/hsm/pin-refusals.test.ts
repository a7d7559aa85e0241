import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { loadNativeBinding } from '../../src/base/native.js';
import { systemRandom } from '../../src/base/random.js';
import { systemTimers } from '../../src/base/timers.js';
import { Pin } from '../../src/hsm/pin.js';
import { type LoginRecord, loginLockWaitMs, PinRefusals, tokenIdentity } from '../../src/hsm/pin-refusals.js';
import { processIdentity } from '../../src/hsm/process-identity.js';

const native = loadNativeBinding();
const real = {
  tryLockFile: (fd: number) => native.tryLockFile(fd),
  clock: systemClock,
  timers: systemTimers,
  random: systemRandom,
};
const token = tokenIdentity({ manufacturer: 'M', model: 'm', serial: '1', label: 'xks' });
const otherToken = tokenIdentity({ manufacturer: 'M', model: 'm', serial: '2', label: 'xks' });
const pin = new Pin('4711-wrong');

/** As one process has it: each has its own. */
const open = (t: Test): PinRefusals => new PinRefusals({ ...real, directory: t.testdirName });

async function alone<T>(refusals: PinRefusals, login: (record: LoginRecord) => Promise<T>): Promise<T> {
  const outcome = await refusals.exclusively(login);
  if (!outcome.ok) throw new Error(outcome.error);
  return outcome.value;
}

t.test('a refused PIN is known to another process and after a restart; another PIN is not', async (t) => {
  t.testdir();
  await alone(open(t), (record) => record.refuse(token, pin, 'CKR_PIN_INCORRECT'));
  await alone(open(t), async (record) => {
    t.match(await record.refusalOf(token, pin), { rv: 'CKR_PIN_INCORRECT', atMs: Number });
    t.equal(await record.refusalOf(token, new Pin('4711-right')), null);
    t.equal(await record.refusalOf(otherToken, pin), null, 'nor the PIN at another token');
    t.equal(record.refusalsOf(token), 1);
  });
});

t.test('the record is 0600, has no PIN in it, and two records of one PIN differ', async (t) => {
  const directory = t.testdir();
  await alone(open(t), async (record) => {
    await record.refuse(token, pin, 'CKR_PIN_INCORRECT');
    await record.refuse(token, pin, 'CKR_PIN_INCORRECT');
  });
  const path = join(directory, 'pin-refusals.json');
  t.equal(statSync(path).mode & 0o777, 0o600);
  const text = readFileSync(path, 'utf8');
  t.notMatch(text, pin.reveal());
  const digests = [...text.matchAll(/"digest": "([0-9a-f]{64})"/g)].map(([, digest]) => digest);
  t.equal(new Set(digests).size, 2);
  t.strictSame(
    readdirSync(directory).sort(),
    ['pin-login.lock', 'pin-refusals.json'],
    'nothing temporary is left',
  );
});

t.test('an operator’s word forgets the refusals of that token alone', async (t) => {
  t.testdir();
  await alone(open(t), async (record) => {
    await record.refuse(token, pin, 'CKR_PIN_INCORRECT');
    await record.refuse(otherToken, pin, 'CKR_PIN_INCORRECT');
    await record.forget(token);
  });
  await alone(open(t), async (record) => {
    t.equal(await record.refusalOf(token, pin), null);
    t.not(await record.refusalOf(otherToken, pin), null);
  });
});

t.test('a login whose process died in it is counted, until one ends with a verdict', async (t) => {
  t.testdir();
  await alone(open(t), (record) => record.begin(token));
  const other = spawn(process.execPath, ['-e', 'process.stdin.resume()'], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const path = join(t.testdirName, 'pin-refusals.json');
  const { unfinished, ...rest } = JSON.parse(readFileSync(path, 'utf8'));
  const theirs = { token, process: processIdentity(other.pid) };
  writeFileSync(path, JSON.stringify({ ...rest, unfinished: [...unfinished, theirs] }));
  await alone(open(t), async (record) => t.same(record.unfinishedLogins(token), { running: 2, ended: 0 }));
  other.kill('SIGKILL');
  await once(other, 'exit');
  await alone(open(t), async (record) => {
    t.same(record.unfinishedLogins(token), { running: 1, ended: 1 });
    await record.begin(token);
    t.same(record.unfinishedLogins(token), { running: 1, ended: 1 }, 'one process, one login at a time');
    await record.withdraw(token);
    t.same(record.unfinishedLogins(token), { running: 0, ended: 1 }, 'ours alone');
    await record.conclude(token);
  });
  await alone(open(t), async (record) => t.same(record.unfinishedLogins(token), { running: 0, ended: 0 }));
});

t.test('logins go one after the other, and who waits sees the verdict of the first', async (t) => {
  t.testdir();
  const order: string[] = [];
  const login = (name: string) =>
    alone(open(t), async (record) => {
      order.push(`${name} begins`);
      const earlier = await record.refusalOf(token, pin);
      if (earlier === null) await record.refuse(token, pin, 'CKR_PIN_INCORRECT');
      order.push(`${name} ${earlier === null ? 'tried' : 'saw the refusal'}`);
    });
  await Promise.all([login('a'), login('b'), login('c')]);
  const [first, second, third] = order.filter((_, index) => index % 2 === 0).map((line) => line[0]);
  t.strictSame(order, [
    `${first} begins`,
    `${first} tried`,
    `${second} begins`,
    `${second} saw the refusal`,
    `${third} begins`,
    `${third} saw the refusal`,
  ]);
});

t.test('who waits too long for the lock is told so', async (t) => {
  const directory = t.testdir();
  const held = openSync(join(directory, 'pin-login.lock'), 'w+', 0o600);
  t.teardown(() => closeSync(held));
  t.equal(native.tryLockFile(held), 0);
  let nowMs = 0;
  const waiting = new PinRefusals({
    ...real,
    directory,
    clock: { wallMs: () => nowMs, monotonicMs: () => nowMs },
    timers: {
      after: (delayMs, run) => {
        nowMs += delayMs;
        queueMicrotask(run);
        return () => {};
      },
    },
  });
  const outcome = await waiting.exclusively(async () => t.fail('the lock is held'));
  t.match(outcome, { ok: false, error: /another process of this host has been logging in/ });
  t.ok(nowMs >= loginLockWaitMs);
});

t.test('a damaged record lets nobody log in, until an operator says so', async (t) => {
  const directory = t.testdir();
  const path = join(directory, 'pin-refusals.json');
  for (const damage of [
    '',
    '{',
    '[]',
    '{"version":2}',
    '{"version":1,"refusals":[{"token":"a"}],"unfinished":[]}',
  ]) {
    writeFileSync(path, damage);
    await alone(open(t), async (record) => {
      t.match(await record.begin(token), { ok: false, error: /damaged.*xksctl hsm login/ });
    });
    t.equal(readFileSync(path, 'utf8'), damage, 'and stays as it is');
  }
  await alone(open(t), async (record) => {
    t.match(await record.forget(token), { ok: true });
    t.match(await record.begin(token), { ok: true });
  });
});

t.test('what cannot be written is remembered by this process at least', async (t) => {
  const directory = t.testdir();
  // A directory in its place: rename(2) fails, whoever runs this.
  mkdirSync(join(directory, 'pin-refusals.json'));
  const refusals = new PinRefusals({ ...real, directory });
  await alone(refusals, async (record) => {
    t.match(await record.refuse(token, pin, 'CKR_PIN_INCORRECT'), { ok: false });
  });
  await alone(refusals, async (record) => t.not(await record.refusalOf(token, pin), null));
  t.strictSame(readdirSync(directory).sort(), ['pin-login.lock', 'pin-refusals.json']);
});
