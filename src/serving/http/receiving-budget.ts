import { type Arrival, ArrivalList } from '../../base/arrival-list.js';

/** What one body holds of a budget. */
export interface BodyShare extends Arrival<BodyShare> {
  /** Called when it has to give way; the share has been given back then. */
  readonly giveWay: () => void;
  /** `null`: it is not in the budget. */
  bytes: number | null;
}

export const bodyShare = (giveWay: () => void): BodyShare => ({
  giveWay,
  bytes: null,
  before: null,
  after: null,
});

/**
 * The bytes of unfinished bodies that one process holds, over all connections. When they are used up, whoever began to
 * send first gives way: an honest body is whole within milliseconds, so the oldest is the one that takes its time.
 */
export class ReceivingBudget {
  #free: number;
  readonly #shares = new ArrivalList<BodyShare>();

  constructor(bytesMax: number) {
    this.#free = bytesMax;
  }

  /** Makes the share of a body `bytes` in all; false when it is itself the one to give way. */
  hold(share: BodyShare, bytes: number): boolean {
    if (share.bytes === null) this.#shares.add(share);
    const held = share.bytes ?? 0;
    share.bytes = held;
    while (bytes - held > this.#free) {
      const oldest = this.#shares.first;
      if (oldest === share || oldest === null) return false;
      this.release(oldest);
      oldest.giveWay();
      // What gave way may have ended this body, too, as where both came on one connection.
      if (share.bytes === null) return false;
    }
    this.#free -= bytes - held;
    share.bytes = bytes;
    return true;
  }

  /** Gives the share of a body back, if it has one. */
  release(share: BodyShare): void {
    if (share.bytes === null) return;
    this.#free += share.bytes;
    share.bytes = null;
    this.#shares.remove(share);
  }
}
