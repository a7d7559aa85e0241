import { equalInConstantTime } from '../../base/bytes.js';
import { formText, type GcmForm } from './gcm-form.js';

/**
 * What a token makes of known cases with its test key. Nothing here interprets a code: `profile-verdict.ts` decides what
 * follows.
 */

/** What came back from one case, as the token said it. */
export type TrialAnswer<T> =
  | { readonly kind: 'done'; readonly value: T }
  /** `rv`: `null` where the call succeeded with an output of another length. */
  | { readonly kind: 'refused'; readonly rv: string | null; readonly functionName: string }
  /** The IV cannot be fresh: zero, what was given, or one that came before. */
  | { readonly kind: 'unsafe-iv' }
  /** Nothing can be concluded: hung, busy, logged out, the key is gone. */
  | { readonly kind: 'unreachable'; readonly reason: string };

export interface Sealed {
  /** 12 bytes; 16 in one of the cases that are to be refused. */
  readonly iv: Uint8Array;
  readonly ciphertext: Uint8Array;
  /** 16 bytes. */
  readonly tag: Uint8Array;
}

/** The token's side of a probe: one call each, under the test key. */
export interface Trials {
  encrypt(form: GcmForm, plaintext: Uint8Array, aad: Uint8Array): Promise<TrialAnswer<Sealed>>;
  decrypt(form: GcmForm, sealed: Sealed, aad: Uint8Array): Promise<TrialAnswer<Uint8Array>>;
}

/** One line of a probe, for people. */
export interface ProbeCase {
  readonly what: string;
  readonly answer: string;
}

/** What a token is like. */
export interface LearntProfile extends GcmForm {
  /** The `CKR_…` by which it refuses a wrong tag or AAD; sorted, each once. */
  readonly badTagCodes: readonly string[];
  /** The same for what is odd besides: a wrong tag with a 16-byte IV (X-D1), or without any ciphertext. */
  readonly oddCodes: readonly string[];
}

export interface ProbeReport {
  readonly cases: readonly ProbeCase[];
  /**
   * `learnt`; `unsafe`: the first form that was tried makes IVs that must not be used; `unauthentic`: a bad ciphertext was
   * opened; `nothing-works`; `unreachable`.
   */
  readonly outcome:
    | { readonly kind: 'learnt'; readonly profile: LearntProfile }
    | { readonly kind: 'unsafe'; readonly form: GcmForm }
    | { readonly kind: 'unauthentic'; readonly what: string }
    | { readonly kind: 'nothing-works' }
    | { readonly kind: 'unreachable'; readonly reason: string };
}

// The same with every probe: where an HSM leaves the IV zero, equal bytes under it tell nobody anything.
const plaintext = Uint8Array.from(Buffer.from('xksd: what is this token like? 1', 'latin1'));
const aad = Uint8Array.from([0xff, 0xff, ...Buffer.from('xksd profile probe 1', 'latin1')]);
const anotherAad = Uint8Array.from([0xff, 0xff, ...Buffer.from('xksd profile probe 2', 'latin1')]);
const longIvBytes = 16;

/** Ends a probe early. */
class Unreachable {
  readonly reason: string;

  constructor(reason: string) {
    this.reason = reason;
  }
}

/** Tries the forms in turn until one works, then sees how the token refuses. The first form is the one expected. */
export async function probeToken(trials: Trials, forms: readonly GcmForm[]): Promise<ProbeReport> {
  const cases: ProbeCase[] = [];
  try {
    return { cases, outcome: await run(trials, forms, cases) };
  } catch (thrown) {
    if (!(thrown instanceof Unreachable)) throw thrown;
    return { cases, outcome: { kind: 'unreachable', reason: thrown.reason } };
  }
}

async function run(
  trials: Trials,
  forms: readonly GcmForm[],
  cases: ProbeCase[],
): Promise<ProbeReport['outcome']> {
  for (const [place, form] of forms.entries()) {
    const tried = await tryForm(trials, form, cases);
    if (tried === 'refused') continue;
    if (tried === 'unsafe-iv') {
      // What is asked for beyond the expected form may well be misunderstood: SoftHSM encrypts under twelve zeros. And a
      // module that replaces the caller's IV makes its own, in a form that is still to be found.
      if (place === 0 && form.ivSource !== 'caller') return { kind: 'unsafe', form };
      continue;
    }
    return seeRefusals(trials, form, tried, cases);
  }
  return { kind: 'nothing-works' };
}

/** Two round trips: an IV that stays the same shows in the second. */
async function tryForm(
  trials: Trials,
  form: GcmForm,
  cases: ProbeCase[],
): Promise<Sealed | 'refused' | 'unsafe-iv'> {
  const what = `encrypt and decrypt; the token ${formText(form)}`;
  const note = (answer: string): void => void cases.push({ what, answer });
  let last: Sealed | null = null;
  for (let round = 0; round < 2; round++) {
    const sealed = reached(await trials.encrypt(form, plaintext, aad), cases, what);
    if (
      sealed.kind === 'unsafe-iv' ||
      (sealed.kind === 'done' && isSame(sealed.value.iv, last?.iv ?? null))
    ) {
      note('the IV is zero, the one given or one that came before: never to be used');
      return 'unsafe-iv';
    }
    if (sealed.kind === 'refused') {
      note(answerText(sealed));
      return 'refused';
    }
    const opened = reached(await trials.decrypt(form, sealed.value, aad), cases, what);
    if (opened.kind !== 'done' || !equalInConstantTime(opened.value, plaintext)) {
      note(opened.kind === 'refused' ? answerText(opened) : 'it decrypted to something else');
      return 'refused';
    }
    last = sealed.value;
  }
  note('works');
  return last ?? 'refused';
}

async function seeRefusals(
  trials: Trials,
  form: GcmForm,
  good: Sealed,
  cases: ProbeCase[],
): Promise<ProbeReport['outcome']> {
  const wrongTag = flipped(good.tag);
  const longIv = new Uint8Array(longIvBytes);
  longIv.set(good.iv);
  const bad: readonly { what: string; sealed: Sealed; aad: Uint8Array; odd: boolean }[] = [
    { what: 'decrypt: a wrong tag', sealed: { ...good, tag: wrongTag }, aad, odd: false },
    { what: 'decrypt: another AAD', sealed: good, aad: anotherAad, odd: false },
    {
      what: 'decrypt: a changed ciphertext',
      sealed: { ...good, ciphertext: flipped(good.ciphertext) },
      aad,
      odd: false,
    },
    { what: 'decrypt: a wrong tag with a 16-byte IV', sealed: { ...good, iv: longIv }, aad, odd: true },
    {
      what: 'decrypt: a wrong tag without ciphertext',
      sealed: { ...good, ciphertext: new Uint8Array() },
      aad,
      odd: true,
    },
  ];
  const badTagCodes = new Set<string>();
  const oddCodes = new Set<string>();
  for (const one of bad) {
    const answer = reached(await trials.decrypt(form, one.sealed, one.aad), cases, one.what);
    cases.push({ what: one.what, answer: answerText(answer) });
    if (answer.kind !== 'refused') return { kind: 'unauthentic', what: one.what };
    (one.odd ? oddCodes : badTagCodes).add(answer.rv ?? 'CKR_OK');
  }
  // What came before counts only if the token is well.
  const what = 'decrypt: the first ciphertext again';
  const again = reached(await trials.decrypt(form, good, aad), cases, what);
  cases.push({ what, answer: answerText(again) });
  if (again.kind !== 'done') return { kind: 'unreachable', reason: `${what}: ${answerText(again)}` };
  const sorted = (codes: ReadonlySet<string>): readonly string[] => [...codes].sort();
  return {
    kind: 'learnt',
    profile: { ...form, badTagCodes: sorted(badTagCodes), oddCodes: sorted(oddCodes) },
  };
}

function reached<T>(
  answer: TrialAnswer<T>,
  cases: ProbeCase[],
  what: string,
): Exclude<TrialAnswer<T>, { readonly kind: 'unreachable' }> {
  if (answer.kind !== 'unreachable') return answer;
  cases.push({ what, answer: answer.reason });
  throw new Unreachable(`${what}: ${answer.reason}`);
}

function answerText(answer: TrialAnswer<unknown>): string {
  switch (answer.kind) {
    case 'done':
      return 'done';
    case 'refused':
      return answer.rv === null
        ? `${answer.functionName} gave an output of another length`
        : `${answer.functionName} returned ${answer.rv}`;
    case 'unsafe-iv':
      return 'an IV that must not be used';
    case 'unreachable':
      return answer.reason;
  }
}

const isSame = (one: Uint8Array, other: Uint8Array | null): boolean =>
  other !== null && Buffer.compare(one, other) === 0;

function flipped(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  copy[0] = (copy[0] ?? 0) ^ 1;
  return copy;
}
