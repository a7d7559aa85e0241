import { isDeepStrictEqual } from 'node:util';
import { errorText } from '../../base/guards.js';
import type { Result } from '../../base/result.js';
import type { LearntProfile } from './probe.js';
import type { ProfilePin, ProfilePins, TokenName } from './profile-pins.js';
import type { ProfileName } from './vendor-profiles.js';

type PinRead = Result<ProfilePin | null, string>;

/** What one process knows to be pinned of its token: as of the last look at the disk, or what it would have pinned itself. */
export class KnownPin {
  readonly #pins: ProfilePins;
  readonly #stated: ProfileName;
  #pin: ProfilePin | null = null;
  /** The last that was read or written; `#pin` is another one where that could not be written. */
  #onDisk: ProfilePin | null = null;

  constructor(pins: ProfilePins, stated: ProfileName) {
    this.#pins = pins;
    this.#stated = stated;
  }

  get profile(): LearntProfile | null {
    return this.#pin?.profile ?? null;
  }

  get refused(): string | null {
    return this.#pin?.refused ?? null;
  }

  /** Whether something is pinned, be it only that the token is refused. */
  get isThere(): boolean {
    return this.#pin !== null;
  }

  /** Fails, with a sentence, where it cannot be read, or is damaged. */
  read(token: TokenName): Promise<PinRead> {
    return this.#pins
      .read(token)
      .catch((error: unknown) => ({ ok: false, error: errorText(error) }) as const);
  }

  /** As it was read: what was pinned under another statement is nothing. */
  take(read: ProfilePin | null): void {
    this.#onDisk = read;
    this.#pin = read?.stated === this.#stated ? read : null;
  }

  /**
   * Takes what another process has pinned meanwhile, which was told to accept it. What it pinned under another statement, or
   * that nothing is pinned any more, says nothing to this one.
   *
   * @returns whether that is another profile than the one known here.
   */
  takeFromOthers(read: ProfilePin | null): boolean {
    if (read?.stated !== this.#stated || isDeepStrictEqual(read, this.#onDisk)) return false;
    this.#onDisk = read;
    const known = this.#pin;
    this.#pin = read;
    return !isDeepStrictEqual([read.profile, read.refused], [known?.profile, known?.refused]);
  }

  /**
   * @param mustBeKept whether it counts only where the disk takes it; otherwise for this process all the same.
   * @returns why it was not written.
   */
  async write(
    token: TokenName,
    profile: LearntProfile,
    atMs: number,
    mustBeKept: boolean,
  ): Promise<string | null> {
    const pin: ProfilePin = { profile, refused: null, stated: this.#stated, atMs };
    if (!mustBeKept) this.#pin = pin;
    const written = await this.#pins
      .write(token, pin)
      .catch((error: unknown) => ({ ok: false, error: errorText(error) }) as const);
    if (!written.ok) return written.error;
    this.#pin = pin;
    this.#onDisk = pin;
    return null;
  }
}
