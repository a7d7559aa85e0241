import type { Clock } from '../../base/clock.js';
import type { Logger } from '../../base/logger.js';
import type { Result } from '../../base/result.js';
import { allForms, callersForm, formText, type GcmForm, isSameForm } from './gcm-form.js';
import { HeldRefusals } from './held-refusals.js';
import { KnownPin } from './known-pin.js';
import { type LearntProfile, type ProbeCase, type ProbeReport, probeToken, type Trials } from './probe.js';
import type { ProfilePin, ProfilePins, TokenName } from './profile-pins.js';
import { judgeProbe, type ProfileVerdict } from './profile-verdict.js';
import type { KeptRefusal, TokenRefusals } from './token-refusals.js';
import { type ProfileName, vendorProfile } from './vendor-profiles.js';

export interface TokenProfileOptions {
  /** `[[hsm]] profile`. */
  readonly stated: ProfileName;
  readonly pins: ProfilePins;
  readonly refusals: TokenRefusals;
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
  readonly #pin: KnownPin;
  /** What holds on the whole node, until an operator accepts the token. */
  readonly #held: HeldRefusals;
  /** By the last probe of this process. */
  #refused: string | null = null;
  /** What is kept cannot be read: until it can, whatever is found, an operator has to accept it. */
  #damage: string | null = null;
  /** The last probe said nothing that counts. */
  #saidNothing = false;
  #fitsNoForm = false;
  /** Why the first probe of a token that nothing is pinned of came to nothing. */
  #unprobedReason: string | null = null;
  #probing: Promise<unknown> | null = null;
  /** Begun so far. */
  #probes = 0;
  /** What the acceptance under way has found to be held against the token; what comes later it does not clear. */
  #passed: readonly KeptRefusal[] = [];
  #isUnreadable = false;

  constructor(options: TokenProfileOptions) {
    this.#options = options;
    this.#pin = new KnownPin(options.pins, options.stated);
    this.#held = new HeldRefusals(options.refusals, options.stated);
  }

  get inForce(): ProfileInForce {
    const { profile } = this.#pin;
    if (profile !== null) {
      return { form: profile, badTagCodes: new Set([...profile.badTagCodes, ...profile.oddCodes]) };
    }
    const stated = vendorProfile(this.#options.stated);
    return { form: stated?.forms[0] ?? callersForm, badTagCodes: null };
  }

  /** Why the token may not be used; `null` when nothing is known against it. */
  get refusal(): string | null {
    return this.#refused ?? this.#mustBeAccepted;
  }

  /** Why only an operator can take the token into use again, whatever a probe finds. */
  get #mustBeAccepted(): string | null {
    return this.#damage ?? this.#held.reason ?? this.#pin.refused;
  }

  /**
   * Why a token that nothing is pinned of is not to be used: it was probed, and said nothing that counts. `null` before:
   * without a test key it cannot be probed, and what is stated, or that callers give the IV, holds until it has been.
   */
  get unprobed(): string | null {
    return this.#pin.isThere ? null : this.#unprobedReason;
  }

  /** The token was found and logged in to. Reads what is kept of it, if it is another one than before. */
  async met(token: TokenName & { readonly firmware: string }): Promise<void> {
    const { serial, label, firmware } = token;
    this.#metAs = JSON.stringify([serial, label, firmware]);
    if (this.#token?.serial === serial && this.#token.label === label) {
      await this.#held.look();
      return;
    }
    const pinned = await this.#pin.read({ serial, label });
    this.#token = { serial, label };
    this.#held.meets(this.#token);
    this.#unprobedReason = null;
    const looked = await this.#held.look();
    this.#probedAs = null;
    this.#pin.take(pinned.ok ? pinned.value : null);
    this.#damage = problemOf(pinned) ?? problemOf(looked);
    this.#refused = null;
  }

  /**
   * Looks, as often as a token is checked, at what the other processes of the node hold against it, or have had accepted:
   * each meets its own IVs only. What could not be read is read again.
   */
  async look(): Promise<void> {
    const token = this.#token;
    if (token === null || this.#probing !== null) return;
    const before = this.#held.reason;
    const probes = this.#probes;
    const looked = await this.#held.look();
    // After that: whoever accepts a token pins it before nothing is held against it.
    const pinned = await this.#pin.read(token);
    // What a probe has changed meanwhile, it has told.
    if (this.#probing !== null || this.#probes !== probes || token !== this.#token) return;
    this.#sayUnreadable(problemOf(looked) ?? problemOf(pinned));
    const isOther = this.#seePin(pinned, looked);
    // As it is pinned now, it has not been probed yet.
    if (isOther) this.#probedAs = null;
    const reason = this.#held.reason;
    if (reason === before && !isOther) return;
    if (reason !== before) this.#sayHeld(reason);
    this.#options.onChange();
  }

  /** @returns whether it is another one than was known. */
  #seePin(pinned: Result<ProfilePin | null, string>, looked: Result<void, string>): boolean {
    const damage = problemOf(pinned) ?? problemOf(looked);
    if (this.#damage === null || damage === this.#damage)
      return pinned.ok && this.#pin.takeFromOthers(pinned.value);
    this.#damage = damage;
    if (pinned.ok) this.#pin.take(pinned.value);
    return true;
  }

  #sayHeld(reason: string | null): void {
    const { logger } = this.#options;
    if (reason === null) logger.info('token accepted by another process of this node', this.#fields({}));
    else logger.error('token refused by another process of this node', this.#fields({ reason }));
  }

  #sayUnreadable(reason: string | null): void {
    if (reason !== null && !this.#isUnreadable && this.#damage === null)
      this.#options.logger.error('what is kept of the token cannot be read', this.#fields({ reason }));
    this.#isUnreadable = reason !== null;
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

  /** A session met an IV that must not be used. Holds on the whole node, and over restarts, until an operator accepts it. */
  async sawUnsafeIv(): Promise<void> {
    const { clock, logger, onChange } = this.#options;
    const { form } = this.inForce;
    const isKnown = this.#held.holds(form, unsafeIvReason, this.#passed);
    // One that is kept already is another process's to have accepted: this one is newer.
    const kept = this.#held.add({ form, reason: unsafeIvReason, atMs: clock.wallMs() }, this.#passed);
    if (!isKnown) {
      logger.error('token gave an unsafe IV', this.#fields({ reason: unsafeIvReason }));
      onChange();
    }
    this.#sayUnkept(await kept);
  }

  /** Probes the token, and pins it at the first contact. `trials`: with its test key. */
  probe(trials: Trials, accept: boolean): Promise<ProfileProbe> {
    // One after the other: both would pin.
    const probing = (this.#probing ?? Promise.resolve()).then(() => this.#probe(trials, accept));
    const ended = probing
      .catch(() => {})
      .then(() => {
        if (this.#probing !== ended) return;
        this.#probing = null;
        this.#passed = [];
      });
    this.#probing = ended;
    return probing;
  }

  async #probe(trials: Trials, accept: boolean): Promise<ProfileProbe> {
    const { stated: name, logger } = this.#options;
    this.#probes += 1;
    const stated = vendorProfile(name);
    const metAs = this.#metAs;
    const pinned = this.#pin.profile;
    await this.#held.look();
    const passed = accept ? this.#held.all : [];
    this.#passed = passed;
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
    await this.#held.look();
    if (verdict.kind !== 'refused' && (accept || this.#isFirst(verdict))) {
      const isPassed = ({ id }: KeptRefusal): boolean => passed.some((one) => one.id === id);
      const others = this.#held.all.filter((held) => !isPassed(held));
      // An IV that the token replaced because it wants another form, which is found now, says nothing against it.
      if (!others.some((refusal) => speaksAgainst(refusal, verdict.profile))) {
        // What has to be accepted holds over restarts, so its acceptance must, too.
        const mustBeKept = accept && (verdict.kind === 'differs' || this.#mustBeAccepted !== null);
        const unwritten = await this.#pinAs(verdict.profile, mustBeKept);
        if (unwritten !== null && mustBeKept) {
          this.#refuse(verdict.kind === 'differs' ? refusalText(verdict) : null);
          const reason = `it is not accepted, as that cannot be kept: ${unwritten}`;
          return this.#shown(name, pinned, found, 'refused', reason, cases);
        }
        this.#sayUnkept(await this.#held.drop([...passed, ...others]));
        this.#damage = null;
        // What came while this was written stands.
        if (this.#held.reason === null) {
          this.#refuse(null);
          const message = accept ? 'token profile accepted' : 'token profile learnt';
          logger.info(message, this.#fields({ profile: profileText(verdict.profile) }));
          return this.#shown(name, pinned, found, accept ? 'accepted' : 'agrees', unwritten, cases);
        }
      }
    }
    // A restart must not make an IV fresh.
    if (outcome.kind === 'unsafe' && verdict.kind === 'refused')
      await this.#hold(outcome.form, refusalText(verdict));
    this.#refuse(verdict.kind === 'agrees' ? null : refusalText(verdict));
    const reason = this.refusal;
    const kind = verdict.kind === 'agrees' && reason !== null ? 'refused' : verdict.kind;
    return this.#shown(name, pinned, found, kind, reason, cases);
  }

  /** Nothing is pinned yet, and what is found may be without an operator. */
  #isFirst(verdict: ProfileVerdict): boolean {
    const isHeld = this.#damage !== null || this.#pin.refused !== null;
    return verdict.kind === 'agrees' && verdict.isNew && !isHeld;
  }

  async #hold(form: GcmForm, reason: string): Promise<void> {
    if (this.#held.holds(form, reason)) return;
    this.#sayUnkept(await this.#held.add({ form, reason, atMs: this.#options.clock.wallMs() }));
  }

  #sayUnkept(written: Result<void, string>): void {
    if (written.ok) return;
    this.#options.logger.error('token refusal not kept', this.#fields({ reason: written.error }));
  }

  #refuse(reason: string | null): void {
    const changed = this.#refused !== reason;
    this.#refused = reason;
    if (changed && reason !== null)
      this.#options.logger.error('token profile refused', this.#fields({ reason }));
    this.#options.onChange();
  }

  /** @returns why it was not written. */
  async #pinAs(profile: LearntProfile, mustBeKept: boolean): Promise<string | null> {
    if (this.#token === null) return 'the token has not been met';
    const { clock, logger } = this.#options;
    const unwritten = await this.#pin.write(this.#token, profile, clock.wallMs(), mustBeKept);
    if (unwritten !== null) logger.error('token profile not kept', this.#fields({ reason: unwritten }));
    return unwritten;
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

const problemOf = (read: Result<unknown, string>): string | null => (read.ok ? null : read.error);

const speaksAgainst = ({ refusal }: KeptRefusal, found: GcmForm): boolean =>
  refusal === null || isSameForm(refusal.form, found);

const unsafeIvReason =
  'it gave an IV that is zero, the one given or one that came before: nothing is encrypted with it until `xksctl hsm probe --accept` has probed it';

const profileText = (profile: LearntProfile): string =>
  `${formText(profile)}; refuses a wrong tag with ${profile.badTagCodes.join(', ')}`;

const refusalText = (verdict: ProfileVerdict & { readonly kind: 'differs' | 'refused' }): string =>
  verdict.kind === 'differs'
    ? `${verdict.reason}; look at it (xksctl hsm probe), then: xksctl hsm probe --accept TOKEN`
    : `${verdict.reason}; see: xksctl hsm probe`;
