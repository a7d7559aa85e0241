/** Notices writes that take too long. */
export class DiskWatch {
  readonly #ticksMax: () => number;
  /** What the disk was at in the last tick, and since when. */
  #ticket: number | null = null;
  #ticks = 0;
  #late = false;

  constructor(ticksMax: () => number) {
    this.#ticksMax = ticksMax;
  }

  /** `ticket` of what the disk is at; true in the tick in which that has taken too long. */
  tick(ticket: number | null): boolean {
    this.#ticks = ticket !== null && ticket === this.#ticket ? this.#ticks + 1 : 0;
    this.#ticket = ticket;
    if (this.#late || this.#ticks < this.#ticksMax()) return false;
    this.#late = true;
    return true;
  }

  /** The disk has done what it was at; true when that took too long. */
  finished(): boolean {
    const wasLate = this.#late;
    this.#late = false;
    return wasLate;
  }
}
