/**
 * The bytes of unfinished bodies that one process holds, over all connections. When they are used up, whoever began to
 * send first gives way: an honest body is whole within milliseconds, so the oldest is the one that takes its time.
 */
export class ReceivingBudget {
  #free: number;
  /** What each body that holds bytes calls when it has to give way, with its share. In order of arrival. */
  readonly #shares = new Map<() => void, number>();

  constructor(bytesMax: number) {
    this.#free = bytesMax;
  }

  /** Makes the share of a body `bytes` in all; false when it is itself the one to give way. */
  hold(giveWay: () => void, bytes: number): boolean {
    const held = this.#shares.get(giveWay) ?? 0;
    // Takes its place in the queue; a Map leaves a name that is set again where it was.
    this.#shares.set(giveWay, held);
    while (bytes - held > this.#free) {
      const oldest = this.#oldest();
      if (oldest === giveWay || oldest === null) return false;
      this.release(oldest);
      oldest();
    }
    this.#free -= bytes - held;
    this.#shares.set(giveWay, bytes);
    return true;
  }

  /** Gives the share of a body back. */
  release(giveWay: () => void): void {
    this.#free += this.#shares.get(giveWay) ?? 0;
    this.#shares.delete(giveWay);
  }

  #oldest(): (() => void) | null {
    for (const giveWay of this.#shares.keys()) return giveWay;
    return null;
  }
}
