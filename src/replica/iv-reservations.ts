import { encodeHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import type { Timers } from '../base/timers.js';
import { requestIdRandomBytes } from '../keystate/request-id.js';
import type { Hello, IvWants } from '../ops/state-link.js';
import { IvProposals, type IvProposalsOptions } from './iv-proposals.js';
import { IvWriteOffs, type UncountedIvs, type UsedIvs, usedIn } from './iv-write-offs.js';
import type { PublicationObserver } from './state-publication.js';

/** After a reservation that was not made: without a quorum every attempt costs a place in the log's queue. */
const retryMs = 5_000;

/** One serving process that has asked. */
interface Holder {
  uncounted: UncountedIvs;
  /** Log index of its last grant: what it asked before it had applied that is answered. */
  grantedIndex: number;
  isUnderWay: boolean;
  retryAtMs: number;
  isLinked: boolean;
}

export interface IvReservationsOptions extends IvProposalsOptions {
  readonly timers: Timers;
}

/**
 * Puts what the serving processes of this node want of random IVs into the log. What is proposed again, as nobody knows
 * what became of it, is the same under the same number, and counts once. Otherwise, whatever goes wrong, it counts rather
 * twice than not at all: what a process has reported stays wanted after its end, until it is counted. What it used since
 * its last report is lost with it only where it had no reservation.
 */
export class IvReservations implements PublicationObserver {
  readonly #clock: Clock;
  readonly #proposals: IvProposals;
  readonly #writeOffs: IvWriteOffs;
  /** By processId. */
  readonly #holders = new Map<string, Holder>();
  #closed = false;

  constructor(options: IvReservationsOptions) {
    const { clock, timers, random } = options;
    this.#clock = clock;
    this.#proposals = new IvProposals(options);
    const ownName = `left behind ${encodeHex(random.bytes(requestIdRandomBytes))}`;
    this.#writeOffs = new IvWriteOffs({ proposals: this.#proposals, timers, ownName });
  }

  onHello(_: unknown, { processId }: Hello): void {
    const holder = this.#holders.get(processId);
    // It was only its link that went, and it reports all anew.
    if (holder !== undefined) holder.isLinked = true;
  }

  onIvWants(_: unknown, { processId }: Hello, wants: IvWants): void {
    const holder = this.#holders.get(processId) ?? newHolder();
    this.#holders.set(processId, holder);
    const { appliedIndex, sequence, reservations, later } = wants;
    if (appliedIndex < holder.grantedIndex) return;
    this.#writeOffs.cameBack(processId);
    holder.uncounted = {
      asked: reservations.length === 0 ? null : { sequence: sequence ?? null, reservations },
      later: (later ?? []).filter(({ used }) => used > 0),
    };
    this.#pump(processId, holder);
  }

  onClosed(_: unknown, { processId }: Hello): void {
    const holder = this.#holders.get(processId);
    if (holder === undefined) return;
    holder.isLinked = false;
    if (!holder.isUnderWay) this.#leave(processId, holder);
  }

  onMetrics(): void {}

  onHsmReply(): void {}

  /** Encryptions that the processes of this node have reported and that are not in key state yet. */
  unreserved(): number {
    let sum = 0;
    for (const { used } of this.#uncounted()) sum += used;
    return sum;
  }

  /** The same of one object. */
  unreservedOf(objectId: string): number {
    let sum = 0;
    for (const one of this.#uncounted()) if (one.objectId === objectId) sum += one.used;
    return sum;
  }

  *#uncounted(): Iterable<UsedIvs> {
    yield* this.#writeOffs.uncounted();
    for (const { uncounted } of this.#holders.values()) yield* usedIn(uncounted);
  }

  close(): void {
    this.#closed = true;
    this.#writeOffs.close();
  }

  #pump(processId: string, holder: Holder): void {
    const { asked } = holder.uncounted;
    if (asked === null || holder.isUnderWay || this.#closed) return;
    if (this.#clock.monotonicMs() < holder.retryAtMs) return;
    holder.isUnderWay = true;
    this.#proposals.propose(processId, asked, (outcome) => {
      holder.isUnderWay = false;
      if (outcome.kind === 'counted') {
        // What came meanwhile was asked before the grant was known there.
        holder.uncounted = { ...holder.uncounted, asked: null };
        holder.grantedIndex = outcome.index;
      } else {
        holder.retryAtMs = this.#clock.monotonicMs() + retryMs;
      }
      if (!holder.isLinked) this.#leave(processId, holder);
    });
  }

  #leave(processId: string, { uncounted }: Holder): void {
    this.#holders.delete(processId);
    this.#writeOffs.left(processId, uncounted);
  }
}

const newHolder = (): Holder => ({
  uncounted: { asked: null, later: [] },
  grantedIndex: 0,
  isUnderWay: false,
  retryAtMs: 0,
  isLinked: true,
});
