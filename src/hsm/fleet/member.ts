import type { RandomSource } from '../../base/random.js';
import type { Token, TokenStatus } from '../token.js';
import type { TokenState } from '../token-health.js';
import type { HsmCrypto, HsmFailure, ObjectId } from '../types.js';
import { Breaker } from './breaker.js';
import { Standing } from './choice.js';
import { isTokenFault } from './failover.js';
import { overloadMemoryMs } from './hedge.js';
import { RecentLatency } from './latency.js';
import { LostKeys } from './lost-keys.js';
import { RepetitionBudget } from './repetition.js';

export type OperationName = 'encrypt' | 'decrypt';

/** What the fleet has counted of one token since the process started. */
export interface MemberStats {
  /** Serial or label. */
  readonly hsm: string;
  readonly outstanding: number;
  /** Operations that went to another token because this one failed or refused them, or said nothing. */
  readonly retries: number;
  /** Operations that this token was asked for because another one was slow. */
  readonly hedges: number;
  readonly breakerIsOpen: boolean;
  readonly failures: Readonly<Partial<Record<HsmFailure['kind'], number>>>;
}

/** One token of the fleet, and what is known of it. */
export class FleetMember {
  readonly token: Token;
  /** The token's, counted. */
  readonly crypto: HsmCrypto;
  /** Its bit in `Choice.leftOut`. */
  readonly bit: number;
  readonly breaker: Breaker;
  readonly latency: Readonly<Record<OperationName, RecentLatency>> = {
    encrypt: new RecentLatency(),
    decrypt: new RecentLatency(),
  };
  readonly lostKeys = new LostKeys();
  /** Of what it may be asked again, while it is the only one that is well. */
  readonly repetitions = new RepetitionBudget();
  /** Kept, as it is asked for with every request. */
  name = '';
  state: TokenState = 'UNAVAILABLE';
  /** Whether it has ever passed a check in this process. */
  wasActive = false;
  outstanding = 0;
  retries = 0;
  hedges = 0;
  readonly failures: Partial<Record<HsmFailure['kind'], number>> = {};
  /** When it last refused an operation for want of room. */
  #overloadedAtMs = Number.NEGATIVE_INFINITY;
  /** The last that spoke against it. */
  lastFault: HsmFailure | null = null;

  constructor(token: Token, crypto: HsmCrypto, index: number, random: RandomSource) {
    this.token = token;
    this.crypto = crypto;
    this.bit = 1 << index;
    this.breaker = new Breaker(random);
    this.learn(token.status());
  }

  /** @returns whether it has come back into use by this. */
  learn({ serial, label, uri, state }: TokenStatus): boolean {
    this.name = serial ?? label ?? uri;
    const cameBack = this.state === 'UNAVAILABLE' && state !== 'UNAVAILABLE';
    this.state = state;
    if (cameBack) this.lostKeys.forgetAll();
    if (state === 'ACTIVE') this.wasActive = true;
    return cameBack;
  }

  standing(key: ObjectId, nowMs: number): Standing {
    if (this.lostKeys.isLost(key, nowMs)) return Standing.withoutKey;
    if (this.state === 'UNAVAILABLE') return Standing.unavailable;
    return this.breaker.isOpen ? Standing.out : Standing.well;
  }

  succeeded(operation: OperationName, key: ObjectId, tookMs: number, nowMs: number): void {
    this.latency[operation].took(tookMs);
    this.breaker.succeeded(nowMs);
    this.repetitions.succeeded();
    this.lostKeys.found(key);
  }

  /** @returns whether its breaker opened by this. */
  failed(
    operation: OperationName,
    key: ObjectId,
    failure: HsmFailure,
    tookMs: number,
    nowMs: number,
  ): boolean {
    this.failures[failure.kind] = (this.failures[failure.kind] ?? 0) + 1;
    if (failure.kind === 'key-lost') this.lostKeys.lost(key, nowMs);
    if (failure.kind === 'overloaded') this.#overloadedAtMs = nowMs;
    return isTokenFault(operation, failure, tookMs) && this.atFault(failure, nowMs);
  }

  isOverloaded(nowMs: number): boolean {
    return nowMs - this.#overloadedAtMs < overloadMemoryMs;
  }

  /** @returns whether its breaker opened by this. */
  atFault(failure: HsmFailure, nowMs: number): boolean {
    this.lastFault = failure;
    return this.breaker.failed(nowMs);
  }

  stats(): MemberStats {
    return {
      hsm: this.name,
      outstanding: this.outstanding,
      retries: this.retries,
      hedges: this.hedges,
      breakerIsOpen: this.breaker.isOpen,
      failures: this.failures,
    };
  }
}
