import type { RandomSource } from '../../base/random.js';

const consecutiveFailuresMax = 5;
/** More than half of at least so many in a second. */
const sampleMin = 20;
const bucketMs = 100;
const buckets = 10;
const outFirstMs = 1_000;
const outMaxMs = 30_000;
/** Give or take, so that the processes of a cluster do not come back together. */
const jitter = 0.2;
/** A breaker that opens again so soon after it closed stays open twice as long. */
const relapseMs = 60_000;

/**
 * Takes a token that fails out of the fleet's choice for a while. Pure: it is told of outcomes and of the time.
 * `closed` → `open` (for a second, twice as long after each canary that failed and each relapse, up to 30 s) → `due`
 * (a canary is wanted) → `closed` or `open`. That the last token is asked all the same is `chooseToken`'s business.
 */
export class Breaker {
  readonly #random: RandomSource;
  #consecutive = 0;
  readonly #failed = new Int32Array(buckets);
  readonly #total = new Int32Array(buckets);
  /** The number of the newest bucket since the clock's origin. */
  #bucket = 0;
  /** `null` while closed. */
  #openUntilMs: number | null = null;
  #outMs = 0;
  #closedAtMs = Number.NEGATIVE_INFINITY;
  #opened = 0;
  /** It was closed by a canary, and opened again soon after. */
  #relapsed = false;

  constructor(random: RandomSource) {
    this.#random = random;
  }

  get isOpen(): boolean {
    return this.#openUntilMs !== null;
  }

  /** How often it has opened. */
  get opened(): number {
    return this.#opened;
  }

  /** When a canary is due; `null` while closed. */
  get openUntilMs(): number | null {
    return this.#openUntilMs;
  }

  succeeded(nowMs: number): void {
    this.#consecutive = 0;
    count(this.#total, this.#bucketAt(nowMs));
  }

  /** @returns whether it opened by this. */
  failed(nowMs: number): boolean {
    this.#consecutive += 1;
    const bucket = this.#bucketAt(nowMs);
    count(this.#failed, bucket);
    count(this.#total, bucket);
    if (this.isOpen || !this.#isTooMuch()) return false;
    this.#open(nowMs, nowMs - this.#closedAtMs < relapseMs);
    return true;
  }

  /**
   * It is in use again. On trial, where the canary proves little: the first failure opens it again, the first success ends
   * that. So it is where there is no test key to run one with, and where the last one passed and the token failed all the same.
   */
  canaryPassed(nowMs: number, hasTestKey: boolean): void {
    if (!this.isOpen) return;
    this.#openUntilMs = null;
    this.#closedAtMs = nowMs;
    const isOnTrial = !hasTestKey || this.#relapsed;
    this.#consecutive = isOnTrial ? consecutiveFailuresMax - 1 : 0;
    this.#failed.fill(0);
    this.#total.fill(0);
  }

  canaryFailed(nowMs: number): void {
    if (this.isOpen) this.#open(nowMs, true);
  }

  #open(nowMs: number, isRelapse: boolean): void {
    if (!this.isOpen) {
      this.#opened += 1;
      this.#relapsed = isRelapse;
    }
    this.#outMs = isRelapse && this.#outMs > 0 ? Math.min(outMaxMs, 2 * this.#outMs) : outFirstMs;
    const [low = 0, high = 0] = this.#random.bytes(2);
    const share = (high * 256 + low) / 65_536;
    this.#openUntilMs = nowMs + this.#outMs * (1 - jitter + 2 * jitter * share);
  }

  #isTooMuch(): boolean {
    if (this.#consecutive >= consecutiveFailuresMax) return true;
    let failed = 0;
    let total = 0;
    for (let index = 0; index < buckets; index++) {
      failed += this.#failed[index] ?? 0;
      total += this.#total[index] ?? 0;
    }
    return total >= sampleMin && 2 * failed > total;
  }

  /** The bucket of now, those of the second that is over emptied. */
  #bucketAt(nowMs: number): number {
    const bucket = Math.floor(nowMs / bucketMs);
    const stale = Math.min(buckets, bucket - this.#bucket);
    for (let back = 0; back < stale; back++) {
      const index = (bucket - back) % buckets;
      this.#failed[index] = 0;
      this.#total[index] = 0;
    }
    this.#bucket = Math.max(this.#bucket, bucket);
    return bucket % buckets;
  }
}

function count(counts: Int32Array, index: number): void {
  counts[index] = (counts[index] ?? 0) + 1;
}
