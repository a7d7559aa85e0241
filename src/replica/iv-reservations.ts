import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import type { RandomSource } from '../base/random.js';
import type { Timers } from '../base/timers.js';
import { checkActiveFormat } from '../keystate/command-format.js';
import { type IvReservation, ivLimits } from '../keystate/iv-budget.js';
import { mintRequestId, requestIdRandomBytes } from '../keystate/request-id.js';
import type { Command, CommandResult } from '../keystate/types.js';
import type { Hello, IvWants } from '../ops/state-link.js';
import type { OrderedLog } from '../replication/ordered-log.js';
import type { PublicationObserver } from './state-publication.js';

/** After a reservation that was not made: without a quorum every attempt costs a place in the log's queue. */
const retryMs = 5_000;
const proposeTimeoutMs = 5_000;
/** Processes that are gone and may come back; of more the oldest are added up, object by object. */
const goneMax = 16;

/** One serving process that has asked. */
interface Holder {
  /** The newest; `null` when that was granted. */
  wants: readonly IvReservation[] | null;
  /** Log index of its last grant: what it asked before it had applied that is answered. */
  grantedIndex: number;
  isUnderWay: boolean;
  retryAtMs: number;
  isLinked: boolean;
}

export interface IvReservationsOptions {
  readonly log: Pick<OrderedLog<CommandResult>, 'propose'>;
  readonly encodeCommand: (command: Command) => Uint8Array;
  readonly activeFormat: () => number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: RandomSource;
  readonly logger: Logger;
}

/**
 * Puts what the serving processes of this node want of random IVs into the log. Whatever goes wrong, it counts rather
 * twice than not at all: what a process has reported stays wanted after its end, until it is counted. What it used since
 * its last report is lost with it only where it had no reservation.
 */
export class IvReservations implements PublicationObserver {
  readonly #options: IvReservationsOptions;
  /** By processId. */
  readonly #holders = new Map<string, Holder>();
  /** By processId: what those whose link went had used without a reservation. Who comes back reports it anew. */
  readonly #gone = new Map<string, readonly IvReservation[]>();
  /** By object: the same of older ones. No more objects than key versions. */
  readonly #leftBehind = new Map<string, number>();
  #isWritingOff = false;
  /** Whose is in the log, or on its way there. */
  #writtenOff: string | null = null;
  #cancelRetry: (() => void) | null = null;
  #isFailing = false;
  #closed = false;

  constructor(options: IvReservationsOptions) {
    this.#options = options;
  }

  onHello(_: unknown, { processId }: Hello): void {
    const holder = this.#holders.get(processId);
    // It was only its link that went, and it reports all anew.
    if (holder !== undefined) holder.isLinked = true;
  }

  onIvWants(_: unknown, { processId }: Hello, { appliedIndex, reservations }: IvWants): void {
    const holder = this.#holders.get(processId) ?? newHolder();
    this.#holders.set(processId, holder);
    if (appliedIndex < holder.grantedIndex) return;
    if (this.#writtenOff !== processId) this.#gone.delete(processId);
    holder.wants = reservations.length === 0 ? null : reservations;
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
    for (const used of this.#leftBehind.values()) sum += used;
    for (const reservations of this.#gone.values()) for (const { used } of reservations) sum += used;
    for (const { wants } of this.#holders.values()) for (const { used } of wants ?? []) sum += used;
    return sum;
  }

  /** The same of one object. */
  unreservedOf(objectId: string): number {
    const usedIn = (reservations: readonly IvReservation[] | null): number =>
      reservations?.find((wanted) => wanted.objectId === objectId)?.used ?? 0;
    let sum = this.#leftBehind.get(objectId) ?? 0;
    for (const reservations of this.#gone.values()) sum += usedIn(reservations);
    for (const { wants } of this.#holders.values()) sum += usedIn(wants);
    return sum;
  }

  close(): void {
    this.#closed = true;
    this.#cancelRetry?.();
  }

  #pump(processId: string, holder: Holder): void {
    const { wants } = holder;
    if (wants === null || holder.isUnderWay || this.#closed) return;
    if (this.#options.clock.monotonicMs() < holder.retryAtMs) return;
    holder.isUnderWay = true;
    void this.#propose(processId, wants).then((index) => {
      holder.isUnderWay = false;
      if (index === null) {
        holder.retryAtMs = this.#options.clock.monotonicMs() + retryMs;
      } else {
        // What came meanwhile was asked before the grant was known there.
        holder.wants = null;
        holder.grantedIndex = index;
      }
      if (!holder.isLinked) this.#leave(processId, holder);
    });
  }

  /** Of a process that is gone nobody uses a block; what it used stays to be counted. */
  #leave(processId: string, { wants }: Holder): void {
    this.#holders.delete(processId);
    const reservations = (wants ?? [])
      .filter(({ used }) => used > 0)
      .map(({ objectId, used }) => ({ objectId, used, ahead: 0 }));
    if (reservations.length > 0) this.#gone.set(processId, reservations);
    this.#addUpOldest();
    void this.#writeOff();
  }

  #addUpOldest(): void {
    for (const [processId, reservations] of this.#gone) {
      if (this.#gone.size <= goneMax) return;
      if (processId === this.#writtenOff) continue;
      this.#gone.delete(processId);
      for (const { objectId, used } of reservations) {
        this.#leftBehind.set(objectId, (this.#leftBehind.get(objectId) ?? 0) + used);
      }
    }
  }

  async #writeOff(): Promise<void> {
    if (this.#isWritingOff) return;
    this.#isWritingOff = true;
    while ((this.#gone.size > 0 || this.#leftBehind.size > 0) && !this.#closed) {
      const [gone] = this.#gone;
      const isWritten = gone === undefined ? await this.#writeOffOldest() : await this.#writeOffGone(...gone);
      if (isWritten) continue;
      this.#cancelRetry?.();
      this.#cancelRetry = this.#options.timers.after(retryMs, () => void this.#writeOff());
      break;
    }
    this.#isWritingOff = false;
  }

  async #writeOffGone(processId: string, reservations: readonly IvReservation[]): Promise<boolean> {
    this.#writtenOff = processId;
    const index = await this.#propose('left behind', reservations);
    this.#writtenOff = null;
    if (index === null) return false;
    if (this.#gone.get(processId) === reservations) this.#gone.delete(processId);
    return true;
  }

  async #writeOffOldest(): Promise<boolean> {
    const some = [...this.#leftBehind].slice(0, ivLimits.reservationsPerCommandMax);
    const reservations = some.map(([objectId, all]) => {
      return { objectId, used: Math.min(all, ivLimits.encryptionsMax), ahead: 0 };
    });
    if ((await this.#propose('left behind', reservations)) === null) return false;
    for (const { objectId, used } of reservations) {
      const rest = (this.#leftBehind.get(objectId) ?? 0) - used;
      if (rest > 0) this.#leftBehind.set(objectId, rest);
      else this.#leftBehind.delete(objectId);
    }
    return true;
  }

  /** @returns its index; `null` when it is not known to have been committed. */
  async #propose(holder: string, reservations: readonly IvReservation[]): Promise<number | null> {
    const { log, encodeCommand, activeFormat, clock, random } = this.#options;
    const atMs = clock.wallMs();
    const requestId = mintRequestId(atMs, random.bytes(requestIdRandomBytes));
    const command: Command = { type: 'iv.reserve', requestId, atMs, by: 'xksd', holder, reservations };
    if (checkActiveFormat(command, activeFormat()) !== null) return null;
    const proposed = await log.propose(encodeCommand(command), { timeoutMs: proposeTimeoutMs });
    if (!proposed.ok) {
      this.#tell('reason' in proposed.error ? proposed.error.reason : proposed.error.kind);
      return null;
    }
    const { index, result } = proposed.value;
    const refusal = result === null || result.ok ? null : result.error;
    this.#tell(refusal?.message ?? null);
    return refusal === null ? index : null;
  }

  /** One line when it begins to fail, one when it does no longer. */
  #tell(reason: string | null): void {
    const isFailing = reason !== null;
    if (isFailing === this.#isFailing) return;
    this.#isFailing = isFailing;
    const { logger } = this.#options;
    if (isFailing) {
      logger.warn('random IVs cannot be reserved: they are counted on this node, and reported later', {
        reason,
      });
    } else {
      logger.info('random IVs are reserved again');
    }
  }
}

const newHolder = (): Holder => ({
  wants: null,
  grantedIndex: 0,
  isUnderWay: false,
  retryAtMs: 0,
  isLinked: true,
});
