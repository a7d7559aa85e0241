import type { Random } from './random.js';

export interface NetworkPlan {
  readonly lossChance: number;
  readonly duplicateChance: number;
  readonly delayMeanMs: number;
  /** Of messages that take far longer than the others. */
  readonly stragglerChance: number;
  readonly stragglerMsMax: number;
}

/** Which messages arrive, and when. Each direction of each link can be cut. Every message may overtake every other. */
export class Network {
  readonly #plan: NetworkPlan;
  readonly #random: Random;
  readonly #size: number;
  readonly #cut: Uint8Array;
  /** No more faults since then; infinite before. */
  #calmSinceMs = Number.POSITIVE_INFINITY;

  /** Whose requests for votes are all lost; -1 for nobody's. */
  #voteless = -1;

  /** The link on which nobody hears that entries were taken; -1 for none. */
  #acceptlessLink = -1;

  /** The link whose messages stay on the way, and those that do. */
  #heldLink = -1;
  #held: (() => void)[] = [];

  constructor(plan: NetworkPlan, size: number, random: Random) {
    this.#plan = plan;
    this.#random = random;
    this.#size = size;
    this.#cut = new Uint8Array(size * size);
  }

  isCut(from: number, to: number): boolean {
    return this.#cut[from * this.#size + to] === 1;
  }

  cut(from: number, to: number): void {
    this.#cut[from * this.#size + to] = 1;
  }

  /** All links of one node. */
  mend(slot: number): void {
    for (let other = 0; other < this.#size; other += 1) {
      this.#cut[slot * this.#size + other] = 0;
      this.#cut[other * this.#size + slot] = 0;
    }
  }

  mendAll(): void {
    this.#cut.fill(0);
  }

  /** Until all is calm. */
  loseVoteRequests(from: number): void {
    this.#voteless = from;
  }

  losesVoteRequests(from: number): boolean {
    return this.#voteless === from;
  }

  /** Until all is calm, or `hearAcceptances`. */
  loseAcceptances(from: number, to: number): void {
    this.#acceptlessLink = from * this.#size + to;
  }

  hearAcceptances(): void {
    this.#acceptlessLink = -1;
  }

  losesAcceptances(from: number, to: number): boolean {
    return this.#acceptlessLink === from * this.#size + to;
  }

  /** What is sent on this link from now on arrives only once all is let through. */
  holdBack(from: number, to: number): void {
    this.#heldLink = from * this.#size + to;
  }

  /** @param travels sends it on. @returns whether that is left to `letThrough`. */
  keeps(from: number, to: number, travels: () => void): boolean {
    if (this.#heldLink !== from * this.#size + to) return false;
    this.#held.push(travels);
    return true;
  }

  letThrough(): void {
    this.#heldLink = -1;
    for (const travels of this.#held.splice(0)) travels();
  }

  calm(nowMs: number): void {
    this.#calmSinceMs = nowMs;
    this.#voteless = -1;
    this.#acceptlessLink = -1;
    this.mendAll();
  }

  /** Connections are new after healing: what was on its way for long is lost, or it could hold up elections for as long. */
  forgets(sentMs: number): boolean {
    return this.#calmSinceMs !== Number.POSITIVE_INFINITY && sentMs < this.#calmSinceMs;
  }

  get #calm(): boolean {
    return this.#calmSinceMs !== Number.POSITIVE_INFINITY;
  }

  /** Milliseconds until a message arrives, one for each time that it does. */
  delays(from: number, to: number): readonly number[] {
    const random = this.#random;
    if (this.isCut(from, to)) return [];
    if (this.#calm) return [this.#delay()];
    if (random.chance(this.#plan.lossChance)) return [];
    if (random.chance(this.#plan.duplicateChance)) return [this.#delay(), this.#delay()];
    return [this.#delay()];
  }

  #delay(): number {
    const { delayMeanMs, stragglerChance, stragglerMsMax } = this.#plan;
    if (!this.#calm && this.#random.chance(stragglerChance)) {
      return this.#random.between(delayMeanMs, stragglerMsMax);
    }
    return 0.05 + this.#random.exponential(this.#calm ? Math.min(delayMeanMs, 5) : delayMeanMs);
  }
}
