/** A hedge for every so many operations, at most; unused ones are kept up to the burst. */
const operationsPerHedge = 20;
const hedgesBurstMax = 10;
/** No token is quick enough for less to be worth it. */
const hedgeFloorMs = 10;
/** Before enough of a token is known. */
const hedgeUnknownMs = 50;
/** A token that refused for want of room so lately has no time for the same work twice. */
export const overloadMemoryMs = 1_000;

/** When an operation that a token has not answered goes to a second one, too. Pure: told of work, time and refusals. */
export class HedgeBudget {
  /** In operations: whole hedges are `operationsPerHedge`. */
  #saved = operationsPerHedge * hedgesBurstMax;
  #overloadedAtMs = Number.NEGATIVE_INFINITY;

  /** An operation came. */
  earn(): void {
    this.#saved = Math.min(operationsPerHedge * hedgesBurstMax, this.#saved + 1);
  }

  /** A token had no room. */
  overloaded(nowMs: number): void {
    this.#overloadedAtMs = nowMs;
  }

  isOverloaded(nowMs: number): boolean {
    return nowMs - this.#overloadedAtMs < overloadMemoryMs;
  }

  /** Takes a hedge out of the budget; false when there is none, or under overload. */
  take(nowMs: number): boolean {
    if (this.#saved < operationsPerHedge || this.isOverloaded(nowMs)) return false;
    this.#saved -= operationsPerHedge;
    return true;
  }
}

/** @param p95Ms of the token lately; `null` while too little is known. */
export const hedgeAfterMs = (p95Ms: number | null): number => Math.max(hedgeFloorMs, p95Ms ?? hedgeUnknownMs);

/** Left for the other token when one has said nothing for so long that the deadline comes near. */
const silenceReserveMs = 50;
const silenceMsMin = 100;

/**
 * When a token that has said nothing counts as failed, so that another is asked whatever the budget says. The first
 * one's answer still counts if it comes first.
 *
 * @param askedAtMs when it was asked. @returns a moment on the same clock; never, where the deadline is too near.
 */
export function silentAtMs(askedAtMs: number, deadlineMs: number, p95Ms: number | null): number {
  const patient = askedAtMs + Math.max(silenceMsMin, 3 * (p95Ms ?? 0));
  const latest = deadlineMs - silenceReserveMs;
  return latest <= askedAtMs ? Number.POSITIVE_INFINITY : Math.min(patient, latest);
}
