import type { Clock } from '../../base/clock.js';
import { errorText } from '../../base/guards.js';
import type { Logger } from '../../base/logger.js';
import { allForms, callersForm, formText, type GcmForm, isSameForm } from './gcm-form.js';
import { type LearntProfile, type ProbeCase, type ProbeReport, probeToken, type Trials } from './probe.js';
import type { ProfilePin, ProfilePins, TokenName } from './profile-pins.js';
import { judgeProbe, type ProfileVerdict } from './profile-verdict.js';
import { type ProfileName, vendorProfile } from './vendor-profiles.js';

export interface TokenProfileOptions {
  /** `[[hsm]] profile`. */
  readonly stated: ProfileName;
  readonly pins: ProfilePins;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told after every change of what is in force, or refused. */
  readonly onChange: () => void;
}

/** What sessions are to be told. */
export interface ProfileInForce {
  readonly form: GcmForm;
  /** `null`: not probed, any code may be a bad tag. */
  readonly badTagCodes: ReadonlySet<string> | null;
}

/** What `xksctl hsm probe` shows of a token. */
export interface ProfileProbe {
  readonly stated: ProfileName;
  /** For people: what was pinned before this probe, what was found; `null` where nothing was. */
  readonly pinned: string | null;
  readonly found: string | null;
  readonly verdict: ProfileVerdict['kind'] | 'accepted';
  readonly reason: string | null;
  readonly cases: readonly ProbeCase[];
}

/** A difference counts when two probes in a row agree on it: one call that failed must not take a token out of use. */
const probesToDiffer = 2;
const notKnown = 'what it is like could not be found out (xksctl hsm probe)';

/**
 * What one token of one process is like (hsm.md, _Vendor differences_): stated, pinned, probed; and whether it may be
 * used. Knows no session: its owner brings `Trials` and reads `inForce` and `refusal`.
 */
export class TokenProfile {
  readonly #options: TokenProfileOptions;
  #token: TokenName | null = null;
  /** What the last probe was of: serial, label, firmware. */
  #probedAs: string | null = null;
  #metAs: string | null = null;
  #pin: ProfilePin | null = null;
  #refused: string | null = null;
  /** What was pinned cannot be read: whatever is found, an operator has to accept it. */
  #damage: string | null = null;
  /** The last probe said nothing that counts. */
  #saidNothing = false;
  #fitsNoForm = false;
  /** Why the first probe of a token that nothing is pinned of came to nothing. */
  #unprobedReason: string | null = null;
  #probing: Promise<unknown> | null = null;

  /** The form in which a request met an unsafe IV since the last probe began; `null` for none. */
  #unsafeIn: GcmForm | null = null;

  constructor(options: TokenProfileOptions) {
    this.#options = options;
  }

  get inForce(): ProfileInForce {
    const profile = this.#pin?.profile ?? null;
    if (profile !== null) {
      return { form: profile, badTagCodes: new Set([...profile.badTagCodes, ...profile.oddCodes]) };
    }
    const stated = vendorProfile(this.#options.stated);
    return { form: stated?.forms[0] ?? callersForm, badTagCodes: null };
  }

  /** Why the token may not be used; `null` when nothing is known against it. */
  get refusal(): string | null {
    return this.#refused;
  }

  /**
   * Why a token that nothing is pinned of is not to be used: it was probed, and said nothing that counts. `null` before:
   * without a test key it cannot be probed, and what is stated, or that callers give the IV, holds until it has been.
   */
  get unprobed(): string | null {
    return this.#pin === null ? this.#unprobedReason : null;
  }

  /** The token was found and logged in to. Reads what is pinned of it, once. */
  async met(token: TokenName & { readonly firmware: string }): Promise<void> {
    const { serial, label, firmware } = token;
    this.#metAs = JSON.stringify([serial, label, firmware]);
    if (this.#token?.serial === serial && this.#token.label === label) return;
    const pinned = await this.#options.pins.read({ serial, label });
    this.#token = { serial, label };
    this.#probedAs = null;
    this.#unprobedReason = null;
    const pin = pinned.ok ? pinned.value : null;
    this.#pin = pin?.stated === this.#options.stated ? pin : null;
    this.#damage = pinned.ok ? null : pinned.error;
    this.#refused = this.#damage ?? this.#pin?.refused ?? null;
  }

  /** Whether the token has not been probed as it is now. Not once it is refused: an operator probes it then. */
  get isDue(): boolean {
    return this.#metAs !== null && this.#probedAs !== this.#metAs && this.#probing === null;
  }

  /** Whether the last probe could neither encrypt nor decrypt in any form. */
  get fitsNoForm(): boolean {
    return this.#fitsNoForm;
  }

  /** Whether it has been tried, and the token was not well enough to say anything. */
  get saidNothing(): boolean {
    return this.#saidNothing;
  }

  /** A session met an IV that must not be used. Stays so over restarts, until an operator accepts the token. */
  async sawUnsafeIv(): Promise<void> {
    this.#unsafeIn = this.inForce.form;
    if (this.#refused === unsafeIvReason) return;
    this.#refused = unsafeIvReason;
    this.#options.logger.error('token gave an unsafe IV', this.#fields({ reason: unsafeIvReason }));
    this.#options.onChange();
    await this.#write({ profile: this.#pin?.profile ?? null, refused: unsafeIvReason });
  }

  /** Probes the token, and pins it at the first contact. `trials`: with its test key. */
  probe(trials: Trials, accept: boolean): Promise<ProfileProbe> {
    // One after the other: both would pin.
    const probing = (this.#probing ?? Promise.resolve()).then(() => this.#probe(trials, accept));
    const ended = probing
      .catch(() => {})
      .then(() => {
        if (this.#probing === ended) this.#probing = null;
      });
    this.#probing = ended;
    return probing;
  }

  async #probe(trials: Trials, accept: boolean): Promise<ProfileProbe> {
    const { stated: name, logger } = this.#options;
    const stated = vendorProfile(name);
    const metAs = this.#metAs;
    const pinned = this.#pin?.profile ?? null;
    const wasRefused = this.#pin?.refused ?? this.#damage;
    this.#unsafeIn = null;
    // Whoever accepts it asks what it is now: the form that it had may be unsafe by now, and another one well.
    const expected = pinned === null || accept ? (stated?.forms ?? [callersForm]) : [pinned];
    const forms = [...expected, ...allForms.filter((form) => !expected.some((one) => isSameForm(one, form)))];
    let report: ProbeReport | null = null;
    let verdict: ProfileVerdict | null = null;
    for (let probes = 0; probes < probesToDiffer; probes++) {
      report = await probeToken(trials, forms);
      const next: ProfileVerdict = judgeProbe({ stated, pinned, outcome: report.outcome });
      const repeats: boolean = verdict === null || JSON.stringify(verdict) === JSON.stringify(next);
      const isAsPinned = next.kind === 'agrees' && !next.isNew;
      verdict = repeats || isAsPinned ? next : { kind: 'unknown', reason: 'two probes in a row differ' };
      if (isAsPinned || next.kind === 'unknown') break;
    }
    if (report === null || verdict === null || metAs !== this.#metAs) {
      return this.#shown(name, pinned, null, 'unknown', 'the token was met anew meanwhile', []);
    }
    const { outcome, cases } = report;
    const found = outcome.kind === 'learnt' ? outcome.profile : null;
    this.#saidNothing = verdict.kind === 'unknown';
    this.#fitsNoForm = outcome.kind === 'nothing-works';
    if (verdict.kind === 'unknown') {
      this.#unprobedReason = `${notKnown}: ${verdict.reason}`;
      this.#options.onChange();
      return this.#shown(name, pinned, found, 'unknown', verdict.reason, cases);
    }
    this.#probedAs = metAs;
    const mayPin =
      verdict.kind !== 'refused' &&
      !this.#wasUnsafeIn(found) &&
      (accept || (verdict.kind === 'agrees' && verdict.isNew));
    if (mayPin && verdict.kind !== 'refused' && (wasRefused === null || accept)) {
      const unwritten = await this.#write({ profile: verdict.profile, refused: null });
      this.#damage = null;
      if (this.#wasUnsafeIn(found)) {
        await this.#write({ profile: verdict.profile, refused: unsafeIvReason });
        return this.#shown(name, pinned, found, 'refused', unsafeIvReason, cases);
      }
      this.#refuse(null);
      const message = accept ? 'token profile accepted' : 'token profile learnt';
      logger.info(message, this.#fields({ profile: profileText(verdict.profile) }));
      return this.#shown(name, pinned, found, accept ? 'accepted' : 'agrees', unwritten, cases);
    }
    // A restart must not make an IV fresh.
    if (outcome.kind === 'unsafe' && verdict.kind === 'refused') {
      await this.#write({ profile: pinned, refused: refusalText(verdict) });
    }
    const stillRefused = this.#wasUnsafeIn(found) ? unsafeIvReason : wasRefused;
    const reason = verdict.kind === 'agrees' ? stillRefused : refusalText(verdict);
    this.#refuse(reason);
    const kind = verdict.kind === 'agrees' && reason !== null ? 'refused' : verdict.kind;
    return this.#shown(name, pinned, found, kind, reason, cases);
  }

  /**
   * A probe that ran meanwhile does not clear that. An IV that the token replaced because it wants another form, which the
   * probe finds, says nothing against it.
   */
  #wasUnsafeIn(found: LearntProfile | null): boolean {
    return this.#unsafeIn !== null && found !== null && isSameForm(this.#unsafeIn, found);
  }

  #refuse(reason: string | null): void {
    const changed = this.#refused !== reason;
    this.#refused = reason;
    if (changed && reason !== null)
      this.#options.logger.error('token profile refused', this.#fields({ reason }));
    this.#options.onChange();
  }

  /** @returns why it was not written. */
  async #write(pin: Pick<ProfilePin, 'profile' | 'refused'>): Promise<string | null> {
    const token = this.#token;
    if (token === null) return 'the token has not been met';
    this.#pin = { ...pin, stated: this.#options.stated, atMs: this.#options.clock.wallMs() };
    const written = await this.#options.pins
      .write(token, this.#pin)
      .catch((error: unknown) => ({ ok: false as const, error: errorText(error) }));
    if (written.ok) return null;
    this.#options.logger.error('token profile not kept', this.#fields({ reason: written.error }));
    return written.error;
  }

  #fields(more: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
    return { serial: this.#token?.serial, label: this.#token?.label, ...more };
  }

  #shown(
    stated: ProfileName,
    pinned: LearntProfile | null,
    found: LearntProfile | null,
    verdict: ProfileProbe['verdict'],
    reason: string | null,
    cases: readonly ProbeCase[],
  ): ProfileProbe {
    return {
      stated,
      pinned: pinned === null ? null : profileText(pinned),
      found: found === null ? null : profileText(found),
      verdict,
      reason,
      cases,
    };
  }
}

const unsafeIvReason =
  'it gave an IV that is zero, the one given or one that came before: nothing is encrypted with it until `xksctl hsm probe --accept` has probed it';

const profileText = (profile: LearntProfile): string =>
  `${formText(profile)}; refuses a wrong tag with ${profile.badTagCodes.join(', ')}`;

const refusalText = (verdict: ProfileVerdict & { readonly kind: 'differs' | 'refused' }): string =>
  verdict.kind === 'differs'
    ? `${verdict.reason}; look at it (xksctl hsm probe), then: xksctl hsm probe --accept TOKEN`
    : `${verdict.reason}; see: xksctl hsm probe`;
