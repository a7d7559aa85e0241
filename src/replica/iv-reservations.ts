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
  /** By object: what processes that are gone had used without a reservation. No more objects than key versions. */
  readonly #leftBehind = new Map<string, number>();
  #isWritingOff = false;
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
    for (const { wants } of this.#holders.values()) for (const { used } of wants ?? []) sum += used;
    return sum;
  }

  /** The same of one object. */
  unreservedOf(objectId: string): number {
    let sum = this.#leftBehind.get(objectId) ?? 0;
    for (const { wants } of this.#holders.values()) {
      sum += wants?.find((wanted) => wanted.objectId === objectId)?.used ?? 0;
    }
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
    for (const { objectId, used } of wants ?? []) {
      if (used > 0) this.#leftBehind.set(objectId, (this.#leftBehind.get(objectId) ?? 0) + used);
    }
    void this.#writeOff();
  }

  async #writeOff(): Promise<void> {
    if (this.#isWritingOff) return;
    this.#isWritingOff = true;
    while (this.#leftBehind.size > 0 && !this.#closed) {
      const some = [...this.#leftBehind].slice(0, ivLimits.reservationsPerCommandMax);
      const reservations = some.map(([objectId, all]) => {
        return { objectId, used: Math.min(all, ivLimits.encryptionsMax), ahead: 0 };
      });
      if ((await this.#propose('left behind', reservations)) === null) {
        this.#cancelRetry = this.#options.timers.after(retryMs, () => void this.#writeOff());
        break;
      }
      for (const { objectId, used } of reservations) {
        const rest = (this.#leftBehind.get(objectId) ?? 0) - used;
        if (rest > 0) this.#leftBehind.set(objectId, rest);
        else this.#leftBehind.delete(objectId);
      }
    }
    this.#isWritingOff = false;
  }

  /** @returns its index; `null` when it is not known to have been committed. */
  async #propose(holder: string, reservations: readonly IvReservation[]): Promise<number | null> {
    const { log, encodeCommand, activeFormat, clock, random } = this.#options;
    const atMs = clock.wallMs();
    const requestId = mintRequestId(atMs, random.bytes(requestIdRandomBytes));
    const command: Command = { type: 'iv.reserve', requestId, atMs, by: 'xksd', holder, reservations };
    if (checkActiveFormat(command, activeFormat()) !== null) return null;
    const proposed = await log.propose(encodeCommand(command), { timeoutMs: proposeTimeoutMs });
    const failure = proposed.ok ? null : proposed.error;
    this.#tell(failure === null ? null : 'reason' in failure ? failure.reason : failure.kind);
    return proposed.ok ? proposed.value.index : null;
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
