import { callersForm, type GcmForm, isSameForm } from '../../src/hsm/profile/gcm-form.js';
import type { Sealed, TrialAnswer, Trials } from '../../src/hsm/profile/probe.js';

/** A token of the mind: works in one form, and refuses as it is told. */
export class FakeTrials implements Trials {
  works: GcmForm = callersForm;
  badTag = 'CKR_ENCRYPTED_DATA_INVALID';
  unsafe = false;
  sameIv = false;
  /** The answer to every call from the so-manieth on. */
  brokenFrom = Number.POSITIVE_INFINITY;
  broken: TrialAnswer<never> = { kind: 'unreachable', reason: 'deadline' };
  opensAnything = false;
  calls = 0;
  /** Happens during the so-manieth call, from 1 on, before it is answered. */
  onCall: (call: number) => Promise<void> = async () => {};
  readonly forms: GcmForm[] = [];
  #sealed: Sealed | null = null;
  #aad: Uint8Array = new Uint8Array();

  constructor(changes: Partial<FakeTrials> = {}) {
    Object.assign(this, changes);
  }

  async encrypt(form: GcmForm, plaintext: Uint8Array, aad: Uint8Array): Promise<TrialAnswer<Sealed>> {
    this.calls += 1;
    await this.onCall(this.calls);
    this.forms.push(form);
    if (this.calls >= this.brokenFrom) return this.broken;
    if (!isSameForm(form, this.works)) {
      return { kind: 'refused', rv: 'CKR_MECHANISM_PARAM_INVALID', functionName: 'C_EncryptInit' };
    }
    if (this.unsafe) return { kind: 'unsafe-iv' };
    const iv = new Uint8Array(12).fill(this.sameIv ? 7 : this.calls);
    this.#aad = aad;
    this.#sealed = { iv, ciphertext: plaintext.slice(), tag: new Uint8Array(16) };
    return { kind: 'done', value: this.#sealed };
  }

  async decrypt(form: GcmForm, sealed: Sealed, aad: Uint8Array): Promise<TrialAnswer<Uint8Array>> {
    this.calls += 1;
    await this.onCall(this.calls);
    if (this.calls >= this.brokenFrom) return this.broken;
    const good = this.#sealed;
    const same = (one: Uint8Array, other: Uint8Array | undefined): boolean =>
      other !== undefined && Buffer.compare(one, other) === 0;
    const opens =
      this.opensAnything ||
      (isSameForm(form, this.works) &&
        same(sealed.iv, good?.iv) &&
        same(sealed.tag, good?.tag) &&
        same(sealed.ciphertext, good?.ciphertext) &&
        same(aad, this.#aad));
    return opens
      ? { kind: 'done', value: sealed.ciphertext.slice() }
      : { kind: 'refused', rv: this.badTag, functionName: 'C_Decrypt' };
  }
}
