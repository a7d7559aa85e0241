import type { Timers } from '../base/timers.js';
import { type IvReservation, ivLimits } from '../keystate/iv-budget.js';
import type { AskedIvs, IvProposals } from './iv-proposals.js';

/** After one that did not get through: without a quorum every attempt costs a place in the log's queue. */
const retryMs = 5_000;
/** Processes that are gone and may come back; of more the oldest are added up, object by object. */
const goneMax = 16;

export type UsedIvs = Pick<IvReservation, 'objectId' | 'used'>;

/** What somebody has used or wants, and key state does not have yet. */
export interface UncountedIvs {
  readonly asked: AskedIvs | null;
  /** Used besides, as far as it was reported: each something, and each object once. */
  readonly later: readonly UsedIvs[];
}

/** One that is to be proposed. */
interface WriteOff {
  /** Whose it is, and what it had. */
  readonly of: string;
  readonly uncounted: UncountedIvs;
  /** In whose name. */
  readonly holder: string;
  readonly asked: AskedIvs;
}

export interface IvWriteOffsOptions {
  readonly proposals: Pick<IvProposals, 'propose'>;
  readonly timers: Timers;
  /** A holder's name that nobody else has ever had. */
  readonly ownName: string;
}

/**
 * What processes have used that are gone: it is wanted until it is counted.
 *
 * The numbers of a process are given by that process only, which may live: that one of them is counted has to say that all
 * is that it asked for under that number. So what it asked for is written off under its own number, and what it used
 * besides under numbers of this replica.
 */
export class IvWriteOffs {
  readonly #options: IvWriteOffsOptions;
  /**
   * By processId, the oldest first. By `ownName`: what was theirs and is now this replica's own to see through; of no more
   * objects than there are key versions.
   */
  readonly #gone = new Map<string, UncountedIvs>();
  /** The last number of `ownName` that is counted. */
  #ownSequence = 0;
  /** Under the next number of `ownName`, and perhaps in the log: nothing else gets that number. */
  #ownAsked: AskedIvs | null = null;
  /** Whose is on its way. */
  #underWay: string | null = null;
  /** Whose did not get through since all others were last tried. */
  readonly #failed = new Set<string>();
  #cancelRetry: (() => void) | null = null;
  #closed = false;

  constructor(options: IvWriteOffsOptions) {
    this.#options = options;
  }

  /** A process is gone. */
  left(processId: string, { asked, later }: UncountedIvs): void {
    // Of its block nobody makes any use.
    const used = asked === null ? null : usedOnly(asked.sequence, asked.reservations);
    if (used !== null || later.length > 0) this.#gone.set(processId, { asked: used, later });
    this.#addUpOldest();
    this.#writeOff();
  }

  /** It was only its link that went, and it has reported all anew. */
  cameBack(processId: string): void {
    this.#gone.delete(processId);
  }

  *uncounted(): Iterable<UsedIvs> {
    for (const gone of this.#gone.values()) yield* usedIn(gone);
  }

  close(): void {
    this.#closed = true;
    this.#cancelRetry?.();
  }

  #addUpOldest(): void {
    for (const [processId, gone] of this.#gone) {
      if (this.#gone.size <= goneMax) return;
      if (processId === this.#underWay || processId === this.#options.ownName) continue;
      this.#gone.delete(processId);
      this.#takeOver(usedIn(gone));
    }
  }

  #takeOver(used: readonly UsedIvs[]): void {
    const later = this.#gone.get(this.#options.ownName)?.later ?? [];
    this.#gone.set(this.#options.ownName, { asked: null, later: added([...later, ...used]) });
  }

  /** One after the other, until nothing is left behind or one fails. */
  #writeOff(): void {
    if (this.#underWay !== null || this.#closed) return;
    const due = this.#nextDue();
    if (due === null) return;
    this.#underWay = due.of;
    this.#options.proposals.propose(due.holder, due.asked, (outcome) => {
      this.#underWay = null;
      if (outcome.kind === 'counted') {
        this.#counted(due);
        this.#writeOff();
        return;
      }
      if (outcome.kind === 'unknown' && due.holder === this.#options.ownName) this.#seeThrough(due);
      this.#failed.add(due.of);
      this.#cancelRetry?.();
      this.#cancelRetry = this.#options.timers.after(retryMs, () => this.#writeOff());
    });
  }

  /** One that does not get through holds up no other. */
  #nextDue(): WriteOff | null {
    for (const of of this.#gone.keys()) {
      const due = this.#failed.has(of) ? null : this.#dueOf(of);
      if (due !== null) return due;
    }
    if (this.#failed.size === 0) return null;
    this.#failed.clear();
    return this.#nextDue();
  }

  #dueOf(of: string): WriteOff | null {
    const uncounted = this.#gone.get(of);
    if (uncounted === undefined) return null;
    const { asked, later } = uncounted;
    if (asked !== null) return { of, uncounted, holder: of, asked };
    const holder = this.#options.ownName;
    if (this.#ownAsked !== null) {
      return of === holder ? { of, uncounted, holder, asked: this.#ownAsked } : null;
    }
    const some = later
      .slice(0, ivLimits.reservationsPerCommandMax)
      .map(({ objectId, used }) => ({ objectId, used: Math.min(used, ivLimits.encryptionsMax) }));
    const own = usedOnly(this.#ownSequence + 1, some);
    return own === null ? null : { of, uncounted, holder, asked: own };
  }

  #counted({ of, uncounted, holder, asked }: WriteOff): void {
    if (holder !== this.#options.ownName) {
      // Not what has been reported anew meanwhile.
      if (this.#gone.get(of) === uncounted) this.#put(of, { ...uncounted, asked: null });
      return;
    }
    this.#ownSequence += 1;
    this.#ownAsked = null;
    if (of === holder || this.#gone.get(of) === uncounted) this.#subtract(of, asked.reservations);
  }

  /** It may be in the log, so it stays as it is until it is counted, whether its process comes back or not. */
  #seeThrough({ of, uncounted, asked }: WriteOff): void {
    if (this.#ownAsked !== null) return;
    this.#ownAsked = asked;
    if (of === this.#options.ownName) return;
    if (this.#gone.get(of) === uncounted) this.#subtract(of, asked.reservations);
    this.#takeOver(asked.reservations);
  }

  #subtract(of: string, used: readonly UsedIvs[]): void {
    const uncounted = this.#gone.get(of);
    if (uncounted === undefined) return;
    const taken = used.map((one) => ({ objectId: one.objectId, used: -one.used }));
    this.#put(of, { ...uncounted, later: added([...uncounted.later, ...taken]) });
  }

  /** In its place. */
  #put(of: string, uncounted: UncountedIvs): void {
    if (uncounted.asked === null && uncounted.later.length === 0) this.#gone.delete(of);
    else this.#gone.set(of, uncounted);
  }
}

/** What was used, without a block, which nobody would use; `null` when it was nothing. */
function usedOnly(sequence: number | null, used: readonly UsedIvs[]): AskedIvs | null {
  const reservations = used
    .filter((one) => one.used > 0)
    .map((one) => ({ objectId: one.objectId, used: one.used, ahead: 0 }));
  return reservations.length === 0 ? null : { sequence, reservations };
}

export const usedIn = ({ asked, later }: UncountedIvs): readonly UsedIvs[] => [
  ...(asked?.reservations ?? []),
  ...later,
];

/** Each object once, and none of which nothing remains. */
function added(used: readonly UsedIvs[]): readonly UsedIvs[] {
  const sums = new Map<string, number>();
  for (const one of used) sums.set(one.objectId, (sums.get(one.objectId) ?? 0) + one.used);
  return [...sums].flatMap(([objectId, sum]) => (sum > 0 ? [{ objectId, used: sum }] : []));
}
