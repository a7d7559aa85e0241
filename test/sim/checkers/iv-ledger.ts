import { ivLimits, withinBudget } from '../../../src/keystate/iv-budget.js';
import type { CommandOf, CommandResult, KeyStateQueries } from '../../../src/keystate/types.js';
import type { Verdict } from './verdict.js';

/** Encryptions under one object that simulated clusters may make: small, so that they come to the end. */
export const simulatedIvsMax = 40_000;

/** What a committed reservation gave its holder of one object. */
interface Grant {
  readonly index: number;
  /** What it had used, and of its block what lies within the budget. */
  readonly allowed: number;
  /** The same with the whole block. */
  readonly counted: number;
}

/**
 * Random IVs by a small model of its own, fed once with each committed reservation, in order. Checked is that key state
 * counts each of them once and loses none; at each encryption, that its process has it: of a block within the budget, or
 * of its share of what is left; and of what a process has made, that it is counted or still to be reported.
 */
export class IvLedger {
  readonly #verdict: Verdict;
  readonly #reserved = new Map<string, number>();
  readonly #sequences = new Map<string, number>();
  /** By holder and object. */
  readonly #grants = new Map<string, Grant[]>();
  /** By holder and object: encryptions made. */
  readonly #made = new Map<string, number>();
  encryptions = 0;

  constructor(verdict: Verdict) {
    this.#verdict = verdict;
  }

  /** By its first replica. @param state as of this command. */
  applied(
    index: number,
    command: CommandOf<'iv.reserve'>,
    result: CommandResult,
    state: Pick<KeyStateQueries, 'ivBudget' | 'keyOfObject'>,
  ): void {
    const { holder, sequence, reservations } = command;
    if (!result.ok) return;
    const isNew = sequence === undefined || sequence > (this.#sequences.get(holder) ?? 0);
    if (isNew && sequence !== undefined) this.#sequences.set(holder, sequence);
    for (const { objectId, used, ahead } of reservations) {
      if (state.keyOfObject(objectId) === null) continue;
      const reserved = (this.#reserved.get(objectId) ?? 0) + (isNew ? used + ahead : 0);
      this.#reserved.set(objectId, reserved);
      const counted = state.ivBudget(objectId)?.reserved ?? 0;
      if (counted !== reserved) {
        this.#verdict.broken(
          'random IVs count once',
          `${counted} of ${objectId} are counted at ${index}, and ${reserved} were reserved`,
        );
      }
      if (!isNew) continue;
      const grants = this.#grants.get(`${holder} ${objectId}`) ?? [];
      this.#grants.set(`${holder} ${objectId}`, grants);
      const allowed = used + withinBudget(ahead, reserved, simulatedIvsMax);
      grants.push({ index, allowed, counted: used + ahead });
    }
  }

  /** A replica was told that its proposal is in key state. */
  acknowledged({ holder, sequence }: CommandOf<'iv.reserve'>): void {
    if (sequence === undefined || sequence <= (this.#sequences.get(holder) ?? 0)) return;
    this.#verdict.broken(
      'granted random IVs are counted',
      `${holder} was granted ${sequence}, which is not there`,
    );
  }

  /** A process encrypts, by a state as of `appliedIndex`. */
  encrypts(
    holder: string,
    objectId: string,
    state: Pick<KeyStateQueries, 'appliedIndex' | 'ivBudget'>,
  ): void {
    const place = `${holder} ${objectId}`;
    const made = (this.#made.get(place) ?? 0) + 1;
    this.#made.set(place, made);
    this.encryptions += 1;
    const allowed = this.#sum(place, state.appliedIndex, 'allowed');
    if (made <= allowed) return;
    const rest = simulatedIvsMax - (state.ivBudget(objectId)?.reserved ?? 0);
    if ((made - allowed) * ivLimits.unreservedShare <= rest) return;
    this.#verdict.broken(
      'random IVs within the budget',
      `${holder} encrypts ${made} times with ${objectId}, has ${allowed}, and ${rest} are left`,
    );
  }
  /** What a process, by a state as of `appliedIndex`, takes to be used without a reservation, and will report. */
  reports(
    holder: string,
    objectId: string,
    used: number,
    { appliedIndex }: Pick<KeyStateQueries, 'appliedIndex'>,
  ): void {
    const place = `${holder} ${objectId}`;
    const made = this.#made.get(place) ?? 0;
    const counted = this.#sum(place, appliedIndex, 'counted');
    if (made <= counted + used) return;
    this.#verdict.broken(
      'random IVs are counted or reported',
      `${holder} has encrypted ${made} times with ${objectId}, of which ${counted} are counted, and reports ${used}`,
    );
  }

  #sum(place: string, appliedIndex: number, of: 'allowed' | 'counted'): number {
    let sum = 0;
    for (const grant of this.#grants.get(place) ?? []) if (grant.index <= appliedIndex) sum += grant[of];
    return sum;
  }
}
