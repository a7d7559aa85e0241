/**
 * How often a key may be used with random IVs, and how that is counted. NIST SP 800-38D §8.3: with random 96-bit IVs one
 * AES key encrypts at most 2^32 times, or the chance that an IV came twice is no longer negligible; one that comes twice
 * gives away the XOR of two plaintexts and the key of the authentication.
 *
 * Counted is what serving processes have reserved: each takes a block ahead of its use and counts it down in memory, so
 * the sum in key state is what was encrypted or somewhat more. Everything here is pure.
 */

/** What becomes of an Encrypt when all random IVs of its key version are used up. */
export type IvRule = 'refuse' | 'continue';

/** Of one HSM object: a key version. */
export interface IvBudget {
  /** CKA_ID, lower-case hexadecimal. */
  readonly objectId: string;
  /** Encryptions that were made, or that a process may still make or had not made when it ended. */
  readonly reserved: number;
  readonly rule: IvRule;
}

/** Who has reserved, and how far. */
export interface IvHolder {
  /** `processId` of a serving process. */
  readonly holder: string;
  /** Of the last reservation that was counted. */
  readonly sequence: number;
}

/** What a serving process asks for of one object. */
export interface IvReservation {
  readonly objectId: string;
  /** Encryptions that it has made without a reservation: counted late, never refused. */
  readonly used: number;
  /** The block that it goes on with: `blockMin` … `blockMax`, or 0 for none. */
  readonly ahead: number;
}

export const ivLimits = {
  /** NIST SP 800-38D §8.3. */
  encryptionsMax: 2 ** 32,
  blockMin: 2 ** 12,
  blockMax: 2 ** 20,
  /**
   * A process that has no block left, since none can be reserved, goes on to this part of what was left when it last heard.
   * So many processes that hear nothing of each other stay within the budget together; P of them, where they are more, are
   * beyond it by P / 16 - 1 of what was left at most, and by the blocks that the first get before the last have reported.
   */
  unreservedShare: 16,
  /** 64 KiB hold so many, with ids of their greatest length. */
  reservationsPerCommandMax: 64,
  /**
   * Holders whose sequence is remembered, those that reserved last: several times as many as processes run at once. A
   * reservation of one that was forgotten counts again, should it come a second time after all that.
   */
  holdersMax: 1_024,
} as const;

/** A block lasts about so long at the rate of its process: a new one is taken when half of it is used. */
const blockSeconds = 600;
/** Near the end a block is this part of what is left at most, so that little of it lies in blocks that nobody uses. */
const leftPerBlock = 64;

/**
 * The block that a process reserves: a power of two, after its own rate and what is left of the budget.
 *
 * @param perSecond encryptions with the key in this process.
 * @param left of the budget; 0 or less where all of it is reserved and the rule is to continue.
 */
export function ivBlock(perSecond: number, left: number): number {
  const { blockMin, blockMax } = ivLimits;
  const wanted = powerOfTwoFrom(perSecond * blockSeconds);
  const bound = left > 0 ? powerOfTwoUpTo(left / leftPerBlock) : blockMax;
  return Math.max(blockMin, Math.min(blockMax, wanted, bound));
}

const powerOfTwoFrom = (count: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, count)));
const powerOfTwoUpTo = (count: number): number => 2 ** Math.floor(Math.log2(Math.max(1, count)));

/** What of a block lies within the budget; `reserved` with the block in it. */
export function withinBudget(ahead: number, reserved: number, max: number): number {
  return Math.min(ahead, Math.max(0, max - (reserved - ahead)));
}

export type IvLevel = 'ok' | 'warning' | 'critical' | 'exhausted';

export const ivLevels = { warning: 0.5, critical: 0.9, exhausted: 1 } as const;

/** @param fraction of the budget that is reserved. */
export function ivLevelOf(fraction: number): IvLevel {
  if (fraction >= ivLevels.exhausted) return 'exhausted';
  if (fraction >= ivLevels.critical) return 'critical';
  return fraction >= ivLevels.warning ? 'warning' : 'ok';
}
