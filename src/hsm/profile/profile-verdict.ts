import { formText, type GcmForm, isSameForm } from './gcm-form.js';
import type { LearntProfile, ProbeReport } from './probe.js';
import type { VendorProfile } from './vendor-profiles.js';

/** What a probe means for a token. Pure. */
export type ProfileVerdict =
  /** It may be used so. `isNew`: to be pinned. */
  | { readonly kind: 'agrees'; readonly profile: LearntProfile; readonly isNew: boolean }
  /** Not to be used: another one than was pinned. An operator may accept it. */
  | { readonly kind: 'differs'; readonly profile: LearntProfile; readonly reason: string }
  /** Not to be used, whoever accepts it. */
  | { readonly kind: 'refused'; readonly reason: string }
  /** The token said nothing that counts; what held before the probe holds on. */
  | { readonly kind: 'unknown'; readonly reason: string };

export interface ProfileFacts {
  readonly stated: VendorProfile | null;
  readonly pinned: LearntProfile | null;
  readonly outcome: ProbeReport['outcome'];
}

export function judgeProbe({ stated, pinned, outcome }: ProfileFacts): ProfileVerdict {
  switch (outcome.kind) {
    case 'unreachable':
      return { kind: 'unknown', reason: outcome.reason };
    case 'nothing-works':
      return {
        kind: 'unknown',
        reason:
          'it encrypts and decrypts in none of the forms that xksd knows: `xksctl hsm probe` shows what came back',
      };
    case 'unsafe':
      return {
        kind: 'refused',
        reason: `${expectation(stated, pinned, outcome.form)}, and the IV that came back is zero, the one given or one that came before: nothing may be encrypted so`,
      };
    case 'unauthentic':
      return { kind: 'refused', reason: `it opened what it had to refuse (${outcome.what})` };
    case 'learnt': {
      const { profile } = outcome;
      const mismatch = stated === null ? null : mismatchWith(stated, profile);
      if (mismatch !== null) return { kind: 'refused', reason: mismatch };
      if (pinned === null) return { kind: 'agrees', profile, isNew: true };
      const change = whatDiffers(pinned, profile);
      return change === null
        ? { kind: 'agrees', profile: pinned, isNew: false }
        : { kind: 'differs', profile, reason: change };
    }
  }
}

function expectation(stated: VendorProfile | null, pinned: LearntProfile | null, form: GcmForm): string {
  const who =
    stated !== null
      ? `profile = "${stated.name}" says that it`
      : pinned === null
        ? 'it'
        : 'it was found to be one that';
  return `${who} ${formText(form)}`;
}

function mismatchWith(stated: VendorProfile, found: LearntProfile): string | null {
  const says = `profile = "${stated.name}" says that the token`;
  if (!stated.forms.some((form) => isSameForm(form, found))) {
    return `${says} ${stated.forms.map(formText).join(' or ')}, but this one ${formText(found)}`;
  }
  const known = stated.badTagCodes;
  const unknown = found.badTagCodes.filter((code) => known !== null && !known.includes(code));
  return known === null || unknown.length === 0
    ? null
    : `${says} refuses a wrong tag with ${known.join(' or ')}, but this one said ${unknown.join(', ')}`;
}

/** A sentence's part; `null` when they are the same. */
function whatDiffers(pinned: LearntProfile, found: LearntProfile): string | null {
  if (!isSameForm(pinned, found)) return `the token that ${formText(pinned)} now ${formText(found)}`;
  const codes = ({ badTagCodes, oddCodes }: LearntProfile): string =>
    [...new Set([...badTagCodes, ...oddCodes])].sort().join(', ');
  return codes(pinned) === codes(found)
    ? null
    : `the token that refused bad ciphertexts with ${codes(pinned)} now says ${codes(found)}`;
}
