import type { ObjectId } from '../types.js';

const rememberFirstMs = 10_000;
const rememberMaxMs = 600_000;
/** Of one token. A key that is forgotten costs one more search of the token. */
const lostKeysMax = 10_000;

interface Loss {
  readonly untilMs: number;
  readonly spanMs: number;
}

/**
 * The keys that one token was found not to hold, or to hold another key in their place. Pure. Remembered for 10 s,
 * then twice as long each time that it is still so, up to ten minutes: an operator's copy of the key is seen by
 * itself, and a fleet with keys on one token only does not search the others for them all the time.
 */
export class LostKeys {
  readonly #losses = new Map<ObjectId, Loss>();

  lost(key: ObjectId, nowMs: number): void {
    const known = this.#losses.get(key);
    if (known !== undefined && nowMs < known.untilMs) return;
    const spanMs = known === undefined ? rememberFirstMs : Math.min(rememberMaxMs, 2 * known.spanMs);
    this.#losses.delete(key);
    for (const oldest of this.#losses.keys()) {
      if (this.#losses.size < lostKeysMax) break;
      this.#losses.delete(oldest);
    }
    this.#losses.set(key, { untilMs: nowMs + spanMs, spanMs });
  }

  found(key: ObjectId): void {
    if (this.#losses.size > 0) this.#losses.delete(key);
  }

  isLost(key: ObjectId, nowMs: number): boolean {
    if (this.#losses.size === 0) return false;
    const loss = this.#losses.get(key);
    return loss !== undefined && nowMs < loss.untilMs;
  }

  /** Of a token that was opened anew nothing is known. */
  forgetAll(): void {
    this.#losses.clear();
  }
}
