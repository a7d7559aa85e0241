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

  /** Whether the same is held already. */
  holds(form: GcmForm, reason: string): boolean {
    return this.all.some((held) => isSameFinding(held, form, reason));
  }

  /** Whether the same is being written, or could not be, and is none of `passed`: one more would say nothing more. */
  isAdding(form: GcmForm, reason: string, passed: readonly KeptRefusal[]): boolean {
    return without(this.#own, passed).some((own) => isSameFinding(own, form, reason));
  }

  /** Holds from now on, and on the whole node once this has returned. Fails, with a sentence, where the disk does not take it. */
  add(refusal: Omit<TokenRefusal, 'stated'>): Promise<Result<void, string>> {
    const id = randomUUID();
    const whole = { ...refusal, stated: this.#stated };
    const one: KeptRefusal = { id, refusal: whole };
    this.#own = [...this.#own, one];
    return this.#inTurn(async (token) => {
      const written = await this.#files.add(token, id, whole);
      if (written.ok) {
        this.#own = without(this.#own, [one]);
        this.#kept = [...this.#kept, one];
      }
      return written;
    });
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
