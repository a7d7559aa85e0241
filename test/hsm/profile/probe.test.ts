import t from 'tap';
import { allForms, callersForm, formFlags, type GcmForm } from '../../../src/hsm/profile/gcm-form.js';
import { type LearntProfile, probeToken } from '../../../src/hsm/profile/probe.js';
import { judgeProbe } from '../../../src/hsm/profile/profile-verdict.js';
import { profileNames, vendorProfile } from '../../../src/hsm/profile/vendor-profiles.js';
import { hsmProfiles } from '../../../src/ops/config-schema.js';
import { FakeTrials } from '../../support/fake-trials.js';

const inPlace: GcmForm = { ivSource: 'in-place', layout: 'with-iv-bits' };
const appended: GcmForm = { ivSource: 'appended', layout: 'with-iv-bits' };

t.test('each form is found, with what a bad tag looks like', async (t) => {
  for (const works of allForms) {
    const trials = new FakeTrials({ works, badTag: 'CKR_GENERAL_ERROR' });
    const { outcome, cases } = await probeToken(trials, allForms);
    const profile = { ...works, badTagCodes: ['CKR_GENERAL_ERROR'], oddCodes: ['CKR_GENERAL_ERROR'] };
    t.strictSame(outcome, { kind: 'learnt', profile });
    t.match(cases.at(-1), { what: /first ciphertext again/, answer: 'done' });
  }
});

t.test('the other layout is asked for only where nothing else works', async (t) => {
  const trials = new FakeTrials({ works: inPlace });
  await probeToken(trials, allForms);
  t.notOk(trials.forms.some(({ layout }) => layout === 'without-iv-bits'));
});

t.test('what is no profile', async (t) => {
  const outcomeOf = async (changes: Partial<FakeTrials>, forms: readonly GcmForm[] = allForms) =>
    (await probeToken(new FakeTrials(changes), forms)).outcome;
  t.match(await outcomeOf({ works: inPlace, unsafe: true }, [inPlace, ...allForms]), { kind: 'unsafe' });
  t.match(await outcomeOf({ works: inPlace, sameIv: true }, [inPlace]), { kind: 'unsafe' });
  t.match(await outcomeOf({ works: inPlace, unsafe: true }), { kind: 'nothing-works' });
  t.match(await outcomeOf({ opensAnything: true }), { kind: 'unauthentic', what: /wrong tag/ });
  t.match(await outcomeOf({ works: appended }, [inPlace]), { kind: 'nothing-works' });
});

t.test('a token that breaks off at any call says nothing, or what it was', async (t) => {
  const whole = new FakeTrials({});
  const { outcome } = await probeToken(whole, [callersForm]);
  for (let brokenFrom = 1; brokenFrom <= whole.calls; brokenFrom++) {
    const broken = await probeToken(new FakeTrials({ brokenFrom }), [callersForm]);
    t.match(broken.outcome, { kind: 'unreachable', reason: /deadline/ }, `call ${brokenFrom}`);
    // One that answers every call with the same error must not pass for one whose bad tags look so.
    const refused = { kind: 'refused', rv: 'CKR_GENERAL_ERROR', functionName: 'C_Decrypt' } as const;
    const failing = await probeToken(new FakeTrials({ brokenFrom, broken: refused }), [callersForm]);
    t.not(failing.outcome.kind, 'learnt', `call ${brokenFrom}`);
  }
  t.equal(outcome.kind, 'learnt');
});

const learnt = (form: GcmForm, ...badTagCodes: string[]): LearntProfile => ({
  ...form,
  badTagCodes,
  oddCodes: [],
});

t.test('the verdict', async (t) => {
  const found = (profile: LearntProfile) => ({ kind: 'learnt', profile }) as const;
  const soft = learnt(callersForm, 'CKR_GENERAL_ERROR');
  const auto = { stated: null, pinned: null };
  t.strictSame(judgeProbe({ ...auto, outcome: found(soft) }), { kind: 'agrees', profile: soft, isNew: true });
  t.strictSame(judgeProbe({ ...auto, pinned: soft, outcome: found(soft) }), {
    kind: 'agrees',
    profile: soft,
    isNew: false,
  });
  t.match(judgeProbe({ ...auto, pinned: soft, outcome: found(learnt(inPlace, 'CKR_GENERAL_ERROR')) }), {
    kind: 'differs',
    reason: /takes the caller’s IV .* now makes the IV and writes it back/,
  });
  t.match(judgeProbe({ ...auto, pinned: soft, outcome: found(learnt(callersForm, 'CKR_DATA_INVALID')) }), {
    kind: 'differs',
    reason: /with CKR_GENERAL_ERROR now says CKR_DATA_INVALID/,
  });
  const luna = vendorProfile('luna');
  t.match(judgeProbe({ stated: luna, pinned: null, outcome: found(learnt(appended, 'CKR_X')) }), {
    kind: 'agrees',
  });
  t.match(judgeProbe({ stated: luna, pinned: null, outcome: found(learnt(inPlace, 'CKR_X')) }), {
    kind: 'refused',
    reason:
      /profile = "luna" says that the token makes the IV and appends it .*, but this one makes the IV and writes/,
  });
  const nss = vendorProfile('nss');
  t.match(judgeProbe({ stated: nss, pinned: null, outcome: found(soft) }), {
    kind: 'refused',
    reason: /profile = "nss" .* CKR_ENCRYPTED_DATA_INVALID, but this one said CKR_GENERAL_ERROR/,
  });
  t.match(
    judgeProbe({
      stated: vendorProfile('cloudhsm'),
      pinned: null,
      outcome: { kind: 'unsafe', form: inPlace },
    }),
    {
      kind: 'refused',
      reason: /profile = "cloudhsm" says that it makes the IV and writes it back .* is zero/,
    },
  );
  for (const outcome of [{ kind: 'nothing-works' }, { kind: 'unreachable', reason: 'deadline' }] as const) {
    t.match(judgeProbe({ ...auto, pinned: soft, outcome }), { kind: 'unknown' });
  }
});

t.test('the names are those of the configuration; each but auto has a profile', async (t) => {
  t.strictSame([...profileNames], [...hsmProfiles]);
  for (const name of profileNames) t.equal(vendorProfile(name) === null, name === 'auto');
});

t.test('codes that were not seen are never the ciphertext’s fault', async (t) => {
  const [generalError, functionFailed, vendorCode] = [1 << 12, 1 << 13, 1 << 14];
  t.equal(formFlags(callersForm, null), 0);
  t.equal(formFlags(callersForm, new Set(['CKR_DATA_INVALID'])), generalError | functionFailed | vendorCode);
  t.equal(formFlags(callersForm, new Set(['CKR_GENERAL_ERROR'])), functionFailed | vendorCode);
  t.equal(formFlags(callersForm, new Set(['CKR_FUNCTION_FAILED'])), generalError | vendorCode);
  t.equal(formFlags(callersForm, new Set(['CKR_VENDOR_DEFINED+0x1'])), generalError | functionFailed);
});
