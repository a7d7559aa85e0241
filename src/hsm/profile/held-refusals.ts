import { randomUUID } from 'node:crypto';
import { errorText } from '../../base/guards.js';
import { err, ok, type Result } from '../../base/result.js';
import { type GcmForm, isSameForm } from './gcm-form.js';
import type { TokenName } from './profile-pins.js';
import type { KeptRefusal, TokenRefusal, TokenRefusals } from './token-refusals.js';
import type { ProfileName } from './vendor-profiles.js';

/**
 * What one process knows to be held against its token: what is kept in the data directory as of the last look, and what it
 * has met itself and not written yet. Its own counts from the moment in which it was met, whatever the disk says.
 */
export class HeldRefusals {
  readonly #files: TokenRefusals;
  readonly #stated: ProfileName;
  #token: TokenName | null = null;
  #kept: readonly KeptRefusal[] = [];
  /** Being written, or not taken by the disk: held until this process accepts the token. */
  #own: readonly KeptRefusal[] = [];
  /** Of `#own`, those that are being written, by id: whether the same was found again meanwhile. */
  readonly #cameAgain = new Map<string, boolean>();
  /** Of this process, as far as the disk took it: the last of each finding, and what could not be removed. */
  #written: readonly KeptRefusal[] = [];
  #turn: Promise<void> = Promise.resolve();

  constructor(files: TokenRefusals, stated: ProfileName) {
    this.#files = files;
    this.#stated = stated;
  }

  /** Those that count, the oldest first. */
  get all(): readonly KeptRefusal[] {
    const own = this.#own.filter(({ id }) => !this.#kept.some((kept) => kept.id === id));
    return [...this.#kept, ...own];
  }

  /** `null`: nothing is held against the token. */
  get reason(): string | null {
    const [first] = this.all;
    return first === undefined ? null : (first.refusal?.reason ?? unreadable);
  }

  /** Another token is meant from now on. */
  meets(token: TokenName): void {
    this.#token = token;
    this.#kept = [];
    this.#own = [];
    this.#written = [];
  }

  /** Fails, with a sentence, when what is kept cannot be looked for; then what was known holds on. */
  look(): Promise<Result<void, string>> {
    return this.#inTurn(async (token) => {
      const read = await this.#files.read(token);
      if (!read.ok) return read;
      this.#kept = read.value.filter(({ refusal }) => refusal === null || refusal.stated === this.#stated);
      return ok(undefined);
    });
  }

  /** Whether the same is held already, besides `passed`. */
  holds(form: GcmForm, reason: string, passed: readonly KeptRefusal[] = []): boolean {
    return without(this.all, passed).some((held) => isSameFinding(held, form, reason));
  }

  /**
   * Holds from now on, and on the whole node once this has returned. What this process has found before and finds again
   * is kept anew, as an acceptance under way may have passed what is kept already, and in the place of that: no more files
   * than processes for a finding. Fails, with a sentence, where the disk does not take it.
   *
   * @param passed what the acceptance under way in this process has seen.
   */
  async add(
    refusal: Omit<TokenRefusal, 'stated'>,
    passed: readonly KeptRefusal[] = [],
  ): Promise<Result<void, string>> {
    const { form, reason } = refusal;
    const same = without(this.#own, passed).find((own) => isSameFinding(own, form, reason));
    if (same !== undefined) {
      // What the disk does not take it would not take now either.
      if (this.#cameAgain.has(same.id)) this.#cameAgain.set(same.id, true);
      return ok(undefined);
    }
    const one: KeptRefusal = { id: randomUUID(), refusal: { ...refusal, stated: this.#stated } };
    this.#own = [...this.#own, one];
    this.#cameAgain.set(one.id, false);
    const written = await this.#inTurn((token) => this.#write(token, one));
    const cameAgain = this.#cameAgain.get(one.id) === true;
    this.#cameAgain.delete(one.id);
    return written.ok && cameAgain ? this.add(refusal) : written;
  }

  async #write(token: TokenName, one: KeptRefusal): Promise<Result<void, string>> {
    const { id, refusal } = one;
    if (refusal === null) return ok(undefined);
    const written = await this.#files.add(token, id, refusal);
    if (!written.ok) return written;
    const earlier = this.#written.filter((other) => isSameFinding(other, refusal.form, refusal.reason));
    this.#own = without(this.#own, [one]);
    this.#kept = [...without(this.#kept, earlier), one];
    this.#written = [...this.#written, one];
    if ((await this.#files.remove(token, earlier)).ok) this.#written = without(this.#written, earlier);
    return written;
  }

  /** They count no longer, on the whole node. Fails, with a sentence, where the disk holds on to them. */
  drop(refusals: readonly KeptRefusal[]): Promise<Result<void, string>> {
    return this.#inTurn(async (token) => {
      const removed = await this.#files.remove(token, refusals);
      if (removed.ok) {
        this.#kept = without(this.#kept, refusals);
        this.#own = without(this.#own, refusals);
      }
      return removed;
    });
  }

  /** One after the other: what was read before a removal must not come back after it. */
  #inTurn(work: (token: TokenName) => Promise<Result<void, string>>): Promise<Result<void, string>> {
    const token = this.#token;
    if (token === null) return Promise.resolve(err('the token has not been met'));
    const result = this.#turn.then(() =>
      token === this.#token ? work(token) : err('another token was met meanwhile'),
    );
    this.#turn = result.then(
      () => {},
      () => {},
    );
    return result.catch((error: unknown) => err(errorText(error)));
  }
}

const isSameFinding = ({ refusal }: KeptRefusal, form: GcmForm, reason: string): boolean =>
  refusal !== null && refusal.reason === reason && isSameForm(refusal.form, form);

const without = (list: readonly KeptRefusal[], some: readonly KeptRefusal[]): readonly KeptRefusal[] =>
  list.filter(({ id }) => !some.some((one) => one.id === id));

const unreadable =
  'what is kept against it in the data directory cannot be read; accept the token anew: xksctl hsm probe --accept TOKEN';
