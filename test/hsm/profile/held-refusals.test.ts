import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { callersForm, type GcmForm } from '../../../src/hsm/profile/gcm-form.js';
import { type ProfilePins, profilePins } from '../../../src/hsm/profile/profile-pins.js';
import { TokenProfile } from '../../../src/hsm/profile/token-profile.js';
import { type TokenRefusals, tokenRefusals } from '../../../src/hsm/profile/token-refusals.js';
import type { ProfileName } from '../../../src/hsm/profile/vendor-profiles.js';
import { CapturedLogger } from '../../support/captured-logger.js';
import { FakeTrials } from '../../support/fake-trials.js';
import { VirtualTime } from '../../support/virtual-time.js';

/** What several serving processes of one node hold against one token. */

const inPlace: GcmForm = { ivSource: 'in-place', layout: 'with-iv-bits' };
const unsafe = /gave an IV that is zero/;

async function node(t: Test) {
  const dataDir = t.testdir();
  const time = new VirtualTime();
  const process = async (
    stated: ProfileName = 'auto',
    refusals: TokenRefusals = tokenRefusals(dataDir),
    pins: ProfilePins = profilePins(dataDir),
  ) => {
    const logger = new CapturedLogger();
    const profile = new TokenProfile({
      ...{ stated, pins, refusals, clock: time, logger, onChange: () => {} },
    });
    await profile.met({ serial: '1', label: 'one', firmware: '1' });
    return { profile, logger };
  };
  const files = () => readdirSync(dataDir).filter((name) => name.startsWith('hsm-refused-'));
  return { dataDir, time, process, files };
}

t.test(
  'what one process refuses all do, and after their restarts, until one is told to accept it',
  async (t) => {
    const { process, files } = await node(t);
    const [one, other] = [await process(), await process()];
    for (const { profile } of [one, other])
      t.match(await profile.probe(new FakeTrials(), false), { verdict: 'agrees' });
    await one.profile.sawUnsafeIv();
    t.match(one.profile.refusal, unsafe);
    await other.profile.look();
    t.match(other.profile.refusal, unsafe);
    t.match(other.logger.last('token refused by another process of this node'), { reason: unsafe });
    t.match((await process()).profile.refusal, unsafe, 'one that starts');
    t.match(await other.profile.probe(new FakeTrials(), false), { verdict: 'refused', reason: unsafe });

    t.match(await other.profile.probe(new FakeTrials({ works: inPlace }), true), { verdict: 'accepted' });
    t.equal(other.profile.refusal, null);
    t.strictSame(files(), []);
    await one.profile.look();
    t.equal(one.profile.refusal, null);
    t.match(one.profile.inForce.form, inPlace, 'and knows how the token was accepted');
    t.equal(one.profile.isDue, true, 'which it sees for itself');
  },
);

t.test('the first pin of another process does not undo a refusal', async (t) => {
  const { process } = await node(t);
  const [one, other] = [await process(), await process()];
  const trials = new FakeTrials();
  trials.onCall = async (call) => {
    if (call === 3) await one.profile.sawUnsafeIv();
  };
  await other.profile.probe(trials, false);
  t.match(other.profile.refusal, unsafe, 'although its probe began before');
  t.match((await process()).profile.refusal, unsafe);
  t.match(one.profile.refusal, unsafe);
});

t.test('an acceptance clears only what it has looked at', async (t) => {
  const { process, files } = await node(t);
  const [one, other] = [await process(), await process()];
  for (const { profile } of [one, other]) await profile.probe(new FakeTrials(), false);
  await one.profile.sawUnsafeIv();
  await other.profile.look();
  for (const again of [one, other]) {
    const trials = new FakeTrials();
    trials.onCall = async (call) => {
      if (call === 3) await again.profile.sawUnsafeIv();
    };
    t.match(await other.profile.probe(trials, true), { verdict: 'refused', reason: unsafe });
    t.match(other.profile.refusal, unsafe);
  }
  t.match(await other.profile.probe(new FakeTrials(), true), { verdict: 'accepted' });
  t.strictSame(files(), []);
});

t.test('an IV replaced before it was known what the token wants says nothing against that', async (t) => {
  const { process, files } = await node(t);
  const [one, other] = [await process(), await process()];
  const trials = new FakeTrials({ works: inPlace });
  trials.onCall = async (call) => {
    if (call === 3) for (const { profile } of [one, other]) await profile.sawUnsafeIv();
  };
  t.match(await other.profile.probe(trials, false), { verdict: 'agrees' });
  t.equal(other.profile.refusal, null);
  t.strictSame(files(), []);
  await one.profile.look();
  t.equal(one.profile.refusal, null);
});

t.test('calls that give more of them at once make one refusal', async (t) => {
  const { process, files } = await node(t);
  const { profile } = await process();
  await Promise.all(Array.from({ length: 64 }, () => profile.sawUnsafeIv()));
  t.equal(files().length, 1);
});

t.test('however many of them come, each process keeps one of them, the last', async (t) => {
  const { process, files } = await node(t);
  const [one, other] = [await process(), await process()];
  for (let count = 0; count < 20; count += 1) {
    await one.profile.sawUnsafeIv();
    await Promise.all([one.profile.sawUnsafeIv(), other.profile.sawUnsafeIv()]);
  }
  t.equal(files().length, 2);
  const said = one.logger.lines.filter(({ message }) => message === 'token gave an unsafe IV');
  t.equal(said.length, 1, 'and says so once');
  t.match((await process()).profile.refusal, unsafe);
  t.match(await other.profile.probe(new FakeTrials(), true), { verdict: 'accepted' });
  t.strictSame(files(), []);
  await one.profile.look();
  t.equal(one.profile.refusal, null);
});

t.test(
  'one that comes while another is being written is newer than what was accepted meanwhile',
  async (t) => {
    const { dataDir, process, files } = await node(t);
    const real = tokenRefusals(dataDir);
    let whileWriting = async () => {};
    const slow: TokenRefusals = {
      ...real,
      add: async (...args) => {
        const added = await real.add(...args);
        const happens = whileWriting;
        whileWriting = async () => {};
        await happens();
        return added;
      },
    };
    const [one, other] = [await process('auto', slow), await process()];
    for (const { profile } of [one, other]) await profile.probe(new FakeTrials(), false);
    whileWriting = async () => {
      const trials = new FakeTrials();
      trials.onCall = async (call) => {
        // It is not to be waited for: it waits for what is being written.
        if (call === 3) void one.profile.sawUnsafeIv();
      };
      await other.profile.probe(trials, true);
    };
    await one.profile.sawUnsafeIv();
    t.equal(files().length, 1);
    t.match((await process()).profile.refusal, unsafe);
  },
);

t.test('another statement is a new beginning, and the former one still holds what it held', async (t) => {
  const { process } = await node(t);
  await (await process('softhsm')).profile.sawUnsafeIv();
  t.equal((await process('cloudhsm')).profile.refusal, null);
  t.match((await process('softhsm')).profile.refusal, unsafe);
});

t.test('a refusal that cannot be read is one', async (t) => {
  const { dataDir, process, files } = await node(t);
  await (await process()).profile.sawUnsafeIv();
  const [file = ''] = files();
  writeFileSync(join(dataDir, file), '{"version":1');
  for (const stated of ['auto', 'softhsm'] as const) {
    t.match((await process(stated)).profile.refusal, /cannot be read.*hsm probe --accept/);
  }
  t.match(await (await process()).profile.probe(new FakeTrials(), true), { verdict: 'accepted' });
  t.notOk(existsSync(join(dataDir, file)));
});

t.test('a disk that takes nothing: this process holds it, and says so', async (t) => {
  const { process, dataDir } = await node(t);
  const broken: TokenRefusals = {
    ...tokenRefusals(dataDir),
    add: async () => ({ ok: false, error: 'no space left' }),
  };
  const { profile, logger } = await process('auto', broken);
  await profile.sawUnsafeIv();
  await profile.look();
  t.match(profile.refusal, unsafe);
  t.match(logger.last('token refusal not kept'), { reason: 'no space left' });
  t.match(await profile.probe(new FakeTrials(), true), { verdict: 'accepted' });
  t.equal(profile.refusal, null);
});

t.test('what an earlier release kept in the pin holds until it is accepted', async (t) => {
  const { dataDir, process } = await node(t);
  const pins = profilePins(dataDir);
  const token = { serial: '1', label: 'one' };
  const profile = { ...callersForm, badTagCodes: ['CKR_ENCRYPTED_DATA_INVALID'], oddCodes: [] };
  await pins.write(token, { stated: 'auto', profile, refused: 'an unsafe IV', atMs: 1 });
  const one = await process();
  t.equal(one.profile.refusal, 'an unsafe IV');
  t.match(await one.profile.probe(new FakeTrials(), false), { verdict: 'refused', reason: 'an unsafe IV' });
  t.match(await one.profile.probe(new FakeTrials(), true), { verdict: 'accepted' });
  t.equal((await process()).profile.refusal, null);
});

t.test('what could not be read is read again', async (t) => {
  const { dataDir, process } = await node(t);
  t.match(await (await process()).profile.probe(new FakeTrials({ works: inPlace }), false), {
    verdict: 'agrees',
  });
  let failing = true;
  const unreadable = { ok: false, error: 'EIO: i/o error, read' } as const;
  const pins = profilePins(dataDir);
  const refusals = tokenRefusals(dataDir);
  for (const { profile } of [
    await process('auto', refusals, {
      ...pins,
      read: async (token) => (failing ? unreadable : pins.read(token)),
    }),
    await process('auto', {
      ...refusals,
      read: async (token) => (failing ? unreadable : refusals.read(token)),
    }),
  ]) {
    failing = true;
    t.match(await profile.probe(new FakeTrials({ works: inPlace }), false), { reason: /EIO/ });
    await profile.look();
    t.match(profile.refusal, /EIO/);
    failing = false;
    await profile.look();
    t.equal(profile.refusal, null);
    t.match(profile.inForce.form, inPlace);
    t.equal(profile.isDue, true);
    failing = true;
    await profile.look();
    t.equal(profile.refusal, null, 'what was known holds on');
    failing = false;
  }
});

t.test('what one process accepts is known to the others, whatever they refused it for', async (t) => {
  const { dataDir, process } = await node(t);
  const [one, other] = [await process(), await process()];
  for (const { profile } of [one, other]) await profile.probe(new FakeTrials(), false);
  await one.profile.look();
  t.equal(one.profile.isDue, false, 'the other has pinned the same');
  const changed = () => new FakeTrials({ works: inPlace });
  for (const { profile } of [one, other])
    t.match(await profile.probe(changed(), false), { verdict: 'differs' });
  t.match(await other.profile.probe(changed(), true), { verdict: 'accepted' });
  await one.profile.look();
  t.equal(one.profile.isDue, true);
  t.match(await one.profile.probe(changed(), false), { verdict: 'agrees' });
  t.equal(one.profile.refusal, null);

  const [file = ''] = readdirSync(dataDir).filter((name) => name.startsWith('hsm-profile-'));
  writeFileSync(join(dataDir, file), 'not JSON');
  const late = await process();
  t.match(late.profile.refusal, /damaged/);
  await late.profile.look();
  t.match(late.profile.refusal, /damaged/);
  t.match(await other.profile.probe(changed(), true), { verdict: 'accepted' });
  await late.profile.look();
  t.equal(late.profile.refusal, null);
  t.match(late.profile.inForce.form, inPlace);
});

t.test('what a process with another statement has pinned is its own', async (t) => {
  const { process } = await node(t);
  const one = await process();
  await one.profile.probe(new FakeTrials(), false);
  const other = await process('cloudhsm');
  t.match(await other.profile.probe(new FakeTrials({ works: inPlace }), false), { verdict: 'agrees' });
  await one.profile.look();
  t.match(one.profile.inForce.form, callersForm);
  t.equal(one.profile.isDue, false);
});

t.test('an acceptance that cannot be kept is none', async (t) => {
  const { dataDir, process, files } = await node(t);
  let full = false;
  const pins = profilePins(dataDir);
  const { profile, logger } = await process('auto', tokenRefusals(dataDir), {
    ...pins,
    write: async (...args) => (full ? { ok: false, error: 'no space left' } : pins.write(...args)),
  });
  await profile.probe(new FakeTrials(), false);
  await profile.sawUnsafeIv();
  full = true;
  const changed = () => new FakeTrials({ works: inPlace });
  t.match(await profile.probe(changed(), true), {
    verdict: 'refused',
    reason: /not accepted.*no space left/,
  });
  t.match(logger.last('token profile not kept'), { reason: 'no space left' });
  t.ok(profile.refusal);
  t.match(profile.inForce.form, callersForm);
  t.equal(files().length, 1);
  t.match((await process()).profile.refusal, unsafe);
  full = false;
  t.match(await profile.probe(changed(), true), { verdict: 'accepted' });
  t.strictSame(files(), []);
  t.equal(profile.refusal, null);
  t.match((await process()).profile.inForce.form, inPlace);

  full = true;
  t.match(await profile.probe(new FakeTrials(), false), { verdict: 'differs' });
  t.match(await profile.probe(new FakeTrials(), true), { verdict: 'refused', reason: /no space left/ });
  t.match(profile.refusal, /hsm probe --accept/);
  t.match(profile.inForce.form, inPlace);
});

t.test('a disk that keeps nothing holds up no first contact', async (t) => {
  const { dataDir, process } = await node(t);
  const { profile } = await process('auto', tokenRefusals(dataDir), {
    ...profilePins(dataDir),
    write: async () => ({ ok: false, error: 'no space left' }),
  });
  const trials = () => new FakeTrials({ works: inPlace });
  t.match(await profile.probe(trials(), false), { verdict: 'agrees', reason: 'no space left' });
  await profile.look();
  t.equal(profile.refusal, null);
  t.match(profile.inForce.form, inPlace);
  t.match(await profile.probe(trials(), true), { verdict: 'accepted' });
});
