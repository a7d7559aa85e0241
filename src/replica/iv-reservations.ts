import { encodeHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { errorText } from '../base/guards.js';
import type { Logger } from '../base/logger.js';
import type { RandomSource } from '../base/random.js';
import type { Result } from '../base/result.js';
import type { Timers } from '../base/timers.js';
import { checkActiveFormat } from '../keystate/command-format.js';
import { type IvReservation, ivLimits } from '../keystate/iv-budget.js';
import { mintRequestId, requestIdRandomBytes } from '../keystate/request-id.js';
import type { Command, CommandResult } from '../keystate/types.js';
import type { Hello, IvWants } from '../ops/state-link.js';
import type { AppliedEntry, OrderedLog, ProposeFailure } from '../replication/ordered-log.js';
import type { PublicationObserver } from './state-publication.js';

/** After a reservation that was not made: without a quorum every attempt costs a place in the log's queue. */
const retryMs = 5_000;
const proposeTimeoutMs = 5_000;
/** Processes that are gone and may come back; of more the oldest are added up, object by object. */
const goneMax = 16;
/** Since which active format reservations have numbers. */
const numberedSinceFormat = 4;

type Used = Pick<IvReservation, 'objectId' | 'used'>;

/** A reservation on its way: the same until it is in key state. */
interface Asked {
  /** Of its holder; `null` from a process that does not number. */
  readonly sequence: number | null;
  readonly reservations: readonly IvReservation[];
}

/** What somebody has used or wants, and key state does not have yet. */
interface Uncounted {
  readonly asked: Asked | null;
  /** Used besides, as far as it was reported: each something. */
  readonly later: readonly Used[];
  /** The last number that its holder has given; `null` where it gives none. */
  readonly sequence: number | null;
}

/** One serving process that has asked. */
interface Holder {
  uncounted: Uncounted;
  /** Log index of its last grant: what it asked before it had applied that is answered. */
  grantedIndex: number;
  isUnderWay: boolean;
  retryAtMs: number;
  isLinked: boolean;
}

type Proposed = Result<AppliedEntry<CommandResult>, ProposeFailure>;

export interface IvReservationsOptions {
  /** To be settled once, later or at once. */
  readonly propose: (command: Uint8Array, timeoutMs: number, settled: (outcome: Proposed) => void) => void;
  readonly encodeCommand: (command: Command) => Uint8Array;
  readonly activeFormat: () => number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: RandomSource;
  readonly logger: Logger;
}

/** `IvReservationsOptions.propose` over a log. */
export const proposingTo =
  (log: Pick<OrderedLog<CommandResult>, 'propose'>): IvReservationsOptions['propose'] =>
  (command, timeoutMs, settled) => {
    log.propose(command, { timeoutMs }).then(settled, (error: unknown) => {
      settled({ ok: false, error: { kind: 'unknown', reason: errorText(error) } });
    });
  };

/**
 * Puts what the serving processes of this node want of random IVs into the log. What is proposed again, as nobody knows
 * what became of it, is the same under the same number, and counts once. Otherwise, whatever goes wrong, it counts rather
 * twice than not at all: what a process has reported stays wanted after its end, until it is counted. What it used since
 * its last report is lost with it only where it had no reservation.
 */
export class IvReservations implements PublicationObserver {
  readonly #options: IvReservationsOptions;
  /** By processId. */
  readonly #holders = new Map<string, Holder>();
  /** By processId: of those whose link went. Who comes back reports it anew. */
  readonly #gone = new Map<string, Uncounted>();
  /** By object: what older ones have used. No more objects than key versions. */
  readonly #leftBehind = new Map<string, number>();
  /** Of `#leftBehind`, in the name of this replica. */
  #leftAsked: Asked | null = null;
  readonly #ownName: string;
  #ownSequence = 0;
  /** Whose is in the log, or on its way there. */
  #writtenOff: string | null = null;
  #cancelRetry: (() => void) | null = null;
  #isFailing = false;
  #closed = false;

  constructor(options: IvReservationsOptions) {
    this.#options = options;
    this.#ownName = `left behind ${encodeHex(options.random.bytes(requestIdRandomBytes))}`;
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
    if (this.#writtenOff !== processId) this.#gone.delete(processId);
    holder.uncounted = {
      asked: reservations.length === 0 ? null : { sequence: sequence ?? null, reservations },
      later: (later ?? []).filter(({ used }) => used > 0),
      sequence: sequence ?? holder.uncounted.sequence,
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

  *#uncounted(): Iterable<Used> {
    for (const [objectId, used] of this.#leftBehind) yield { objectId, used };
    for (const gone of this.#gone.values()) yield* usedIn(gone);
    for (const { uncounted } of this.#holders.values()) yield* usedIn(uncounted);
  }

  close(): void {
    this.#closed = true;
    this.#cancelRetry?.();
  }

  #pump(processId: string, holder: Holder): void {
    const { asked } = holder.uncounted;
    if (asked === null || holder.isUnderWay || this.#closed) return;
    if (this.#options.clock.monotonicMs() < holder.retryAtMs) return;
    holder.isUnderWay = true;
    this.#propose(processId, asked, (index) => {
      holder.isUnderWay = false;
      if (index === null) {
        holder.retryAtMs = this.#options.clock.monotonicMs() + retryMs;
      } else {
        // What came meanwhile was asked before the grant was known there.
        holder.uncounted = { ...holder.uncounted, asked: null };
        holder.grantedIndex = index;
      }
      if (!holder.isLinked) this.#leave(processId, holder);
    });
  }

  /** Of a process that is gone nobody uses a block; what it used stays to be counted. */
  #leave(processId: string, { uncounted }: Holder): void {
    this.#holders.delete(processId);
    const { asked } = uncounted;
    const left =
      asked === null ? uncounted : { ...uncounted, asked: usedOnly(asked.sequence, asked.reservations) };
    if (left.asked !== null || left.later.length > 0) this.#gone.set(processId, left);
    this.#addUpOldest();
    this.#writeOff();
  }

  #addUpOldest(): void {
    for (const [processId, gone] of this.#gone) {
      if (this.#gone.size <= goneMax) return;
      if (processId === this.#writtenOff) continue;
      this.#gone.delete(processId);
      for (const { objectId, used } of usedIn(gone)) {
        this.#leftBehind.set(objectId, (this.#leftBehind.get(objectId) ?? 0) + used);
      }
    }
  }

  /** One after the other, until nothing is left behind or it fails. */
  #writeOff(): void {
    if (this.#writtenOff !== null || this.#closed) return;
    const [first] = this.#gone;
    const [holder, asked] = first === undefined ? [this.#ownName, this.#nextLeftBehind()] : nextOf(...first);
    if (asked === null) return;
    this.#writtenOff = holder;
    this.#propose(holder, asked, (index) => {
      this.#writtenOff = null;
      if (index === null) {
        this.#cancelRetry?.();
        this.#cancelRetry = this.#options.timers.after(retryMs, () => this.#writeOff());
        return;
      }
      if (first === undefined) this.#countedLeftBehind(asked);
      else this.#countedGone(...first, asked);
      this.#writeOff();
    });
  }

  #countedGone(processId: string, gone: Uncounted, asked: Asked): void {
    // Not what has been reported anew meanwhile.
    if (this.#gone.get(processId) !== gone) return;
    this.#gone.delete(processId);
    if (gone.asked === null || gone.later.length === 0) return;
    this.#gone.set(processId, { ...gone, asked: null, sequence: asked.sequence });
  }

  #nextLeftBehind(): Asked | null {
    if (this.#leftAsked !== null) return this.#leftAsked;
    const some = [...this.#leftBehind].slice(0, ivLimits.reservationsPerCommandMax);
    const used = some.map(([objectId, count]) => ({
      objectId,
      used: Math.min(count, ivLimits.encryptionsMax),
    }));
    if (used.length === 0) return null;
    this.#ownSequence += 1;
    this.#leftAsked = usedOnly(this.#ownSequence, used);
    return this.#leftAsked;
  }

  #countedLeftBehind({ reservations }: Asked): void {
    this.#leftAsked = null;
    for (const { objectId, used } of reservations) {
      const rest = (this.#leftBehind.get(objectId) ?? 0) - used;
      if (rest > 0) this.#leftBehind.set(objectId, rest);
      else this.#leftBehind.delete(objectId);
    }
  }

  /** @param settled with its index; `null` when it is not known to have been committed. */
  #propose(holder: string, { sequence, reservations }: Asked, settled: (index: number | null) => void): void {
    const { propose, encodeCommand, activeFormat, clock, random } = this.#options;
    let bytes: Uint8Array;
    try {
      const atMs = clock.wallMs();
      const requestId = mintRequestId(atMs, random.bytes(requestIdRandomBytes));
      const envelope = { type: 'iv.reserve', requestId, atMs, by: 'xksd', holder, reservations } as const;
      const isNumbered = sequence !== null && activeFormat() >= numberedSinceFormat;
      const command: Command = isNumbered ? { ...envelope, sequence } : envelope;
      if (checkActiveFormat(command, activeFormat()) !== null) {
        settled(null);
        return;
      }
      bytes = encodeCommand(command);
    } catch (error) {
      // Later ones must not wait for ever for one that cannot be made.
      this.#options.logger.error('a bug ended a reservation of random IVs', { error: errorText(error) });
      settled(null);
      return;
    }
    propose(bytes, proposeTimeoutMs, (proposed) => settled(this.#judge(proposed)));
  }

  #judge(proposed: Proposed): number | null {
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
  uncounted: { asked: null, later: [], sequence: null },
  grantedIndex: 0,
  isUnderWay: false,
  retryAtMs: 0,
  isLinked: true,
});

/** What was used, without a block, which nobody would use; `null` when it was nothing. */
function usedOnly(sequence: number | null, used: readonly Used[]): Asked | null {
  const reservations = used
    .filter((one) => one.used > 0)
    .map((one) => ({ objectId: one.objectId, used: one.used, ahead: 0 }));
  return reservations.length === 0 ? null : { sequence, reservations };
}

const usedIn = ({ asked, later }: Uncounted): readonly Used[] => [...(asked?.reservations ?? []), ...later];

/** What is to be proposed of somebody who is gone. */
const nextOf = (
  processId: string,
  { asked, later, sequence }: Uncounted,
): readonly [string, Asked | null] => [
  processId,
  // The next in its own row, as it would have come itself.
  asked ?? usedOnly(sequence === null ? null : sequence + 1, later),
];
