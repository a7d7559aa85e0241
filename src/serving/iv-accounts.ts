import type { Clock } from '../base/clock.js';
import type { EncryptionCount } from '../hsm/encryption-count.js';
import { type IvBudget, type IvReservation, ivBlock, ivLimits, withinBudget } from '../keystate/iv-budget.js';
import type { KeyStateQueries } from '../keystate/types.js';

/** Rates over less say little. */
const rateOverMsMin = 1_000;
/** Since which active format random IVs are reserved at all. */
const reservedSinceFormat = 3;

/** Random IVs of one HSM object in this process. */
interface Account {
  /** Reserved and not used yet; below 0: used and not reserved. */
  left: number;
  /** Of `left`: beyond the budget, so of use only while the operator lets the key go on. What is within goes first. */
  beyond: number;
  /** From here on down another block is wanted. */
  wantedAt: number;
  /** As of the last block, or of the first use. */
  leftThen: number;
  thenMs: number;
}

export interface IvAccountsOptions {
  readonly clock: Pick<Clock, 'monotonicMs'>;
  /** Encryptions under one object; only tests know another number. */
  readonly encryptionsMax?: number;
}

/**
 * What this process may encrypt with random IVs, and has: a number per HSM object, counted down with each C_Encrypt.
 * Blocks are reserved behind it (`iv-reports.ts`); it never waits for one. Without a quorum it goes on below 0, as far as
 * its share of what is left, and that is reported with the next block.
 */
export class IvAccounts implements EncryptionCount {
  readonly #options: IvAccountsOptions;
  readonly #max: number;
  #onWant: () => void = () => {};
  readonly #accounts = new Map<string, Account>();
  /** Those at or below `wantedAt` that have something to ask for. */
  readonly #wanting = new Map<string, Account>();

  constructor(options: IvAccountsOptions) {
    this.#options = options;
    this.#max = options.encryptionsMax ?? ivLimits.encryptionsMax;
  }

  /** @param listener called when something is wanted that was not before. */
  whenWanted(listener: () => void): void {
    this.#onWant = listener;
  }

  asked(objectId: string): void {
    this.#take(objectId, this.#accounts.get(objectId) ?? this.#open(objectId), 1);
  }

  corrected(objectId: string, more: number): void {
    const account = this.#accounts.get(objectId);
    if (account !== undefined) this.#take(objectId, account, more);
  }

  /** Whether one more encryption is within the budget and this process's part of it, or the operator lets it be beyond. */
  mayEncrypt(objectId: string, state: Pick<KeyStateQueries, 'ivBudget' | 'activeFormat'>): boolean {
    const account = this.#accounts.get(objectId);
    const left = account?.left ?? 0;
    if (left > (account?.beyond ?? 0)) return true;
    const budget = state.ivBudget(objectId);
    if (budget?.rule === 'continue') return true;
    const rest = this.#max - (budget?.reserved ?? 0);
    if (rest <= 0) return false;
    const share = state.activeFormat() < reservedSinceFormat ? 1 : ivLimits.unreservedShare;
    return (1 - left) * share <= rest;
  }

  get wantsAny(): boolean {
    return this.#wanting.size > 0;
  }

  /** What this process asks for now, those first that have wanted for longest. Who turns out to need nothing wants no more. */
  wants(state: Pick<KeyStateQueries, 'ivBudget'>): readonly IvReservation[] {
    const nowMs = this.#options.clock.monotonicMs();
    const wanted: IvReservation[] = [];
    for (const [objectId, account] of this.#wanting) {
      if (wanted.length === ivLimits.reservationsPerCommandMax) break;
      const used = usedOf(account);
      const ahead = this.#ahead(account, nowMs, state.ivBudget(objectId));
      if (used + ahead > 0) {
        wanted.push({ objectId, used, ahead });
        continue;
      }
      // All of the budget is reserved. The next encryption, if there is one, wants it to be counted.
      account.wantedAt = Math.min(account.wantedAt, -1);
      this.#wanting.delete(objectId);
    }
    return wanted;
  }

  /** What is used without a reservation beside `asked`, which is on its way: for the next one. */
  usedBeside(asked: readonly IvReservation[]): readonly Pick<IvReservation, 'objectId' | 'used'>[] {
    const others: Pick<IvReservation, 'objectId' | 'used'>[] = [];
    for (const [objectId, account] of this.#wanting) {
      if (others.length === ivLimits.reservationsPerCommandMax) break;
      const known = asked.find((one) => one.objectId === objectId)?.used ?? 0;
      const used = usedOf(account) - known;
      if (used > 0) others.push({ objectId, used });
    }
    return others;
  }

  #ahead(account: Account, nowMs: number, budget: IvBudget | null): number {
    const left = this.#max - (budget?.reserved ?? 0);
    if (left <= 0 && budget?.rule !== 'continue') return 0;
    const perSecond =
      ((account.leftThen - account.left) * 1_000) / Math.max(rateOverMsMin, nowMs - account.thenMs);
    return ivBlock(perSecond, left);
  }

  /** They are committed, and `state` has them: what was used is accounted for, and the blocks are this process's. */
  granted(reservations: readonly IvReservation[], state: Pick<KeyStateQueries, 'ivBudget'>): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const { objectId, used, ahead } of reservations) {
      const account = this.#accounts.get(objectId);
      if (account === undefined) continue;
      const budget = state.ivBudget(objectId);
      if (budget === null) {
        // Left out, as an object that is no key's: there is nothing to count.
        this.#accounts.delete(objectId);
        this.#wanting.delete(objectId);
        continue;
      }
      account.left += used + ahead;
      account.beyond += ahead - withinBudget(ahead, budget.reserved, this.#max);
      clampBeyond(account);
      account.leftThen = account.left;
      account.thenMs = nowMs;
      account.wantedAt = Math.max(0, Math.floor(account.left / 2));
      if (account.left > account.wantedAt) this.#wanting.delete(objectId);
    }
  }

  #open(objectId: string): Account {
    const thenMs = this.#options.clock.monotonicMs();
    const account = { left: 0, beyond: 0, wantedAt: -1, leftThen: 0, thenMs };
    this.#accounts.set(objectId, account);
    return account;
  }

  #take(objectId: string, account: Account, count: number): void {
    account.left -= count;
    clampBeyond(account);
    if (account.left > account.wantedAt || this.#wanting.has(objectId)) return;
    this.#wanting.set(objectId, account);
    this.#onWant();
  }
}

/** As many at once as a command takes; the rest comes with the next. */
const usedOf = ({ left }: Account): number => Math.min(Math.max(0, -left), ivLimits.encryptionsMax);

const clampBeyond = (account: Account): void => {
  if (account.beyond > account.left) account.beyond = Math.max(0, account.left);
};
