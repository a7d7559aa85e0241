import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { callersForm, type GcmForm } from '../../../src/hsm/profile/gcm-form.js';
import { profilePins } from '../../../src/hsm/profile/profile-pins.js';
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
  const process = async (stated: ProfileName = 'auto', refusals: TokenRefusals = tokenRefusals(dataDir)) => {
    const logger = new CapturedLogger();
    const profile = new TokenProfile({
      ...{ stated, pins: profilePins(dataDir), refusals, clock: time, logger, onChange: () => {} },
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
