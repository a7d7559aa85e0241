import type { Arrival } from '../../base/arrival-list.js';
import { err, type Result } from '../../base/result.js';
import type { HsmCrypto, HsmFailure, HsmRoute, ObjectId } from '../types.js';
import { Standing } from './choice.js';
import { failoverMsMin, nextStep, tellingFailure } from './failover.js';
import { hedgeAfterMs, silentAtMs } from './hedge.js';
import type { FleetMember, OperationName } from './member.js';
import { isWorthRepeating } from './repetition.js';

/** One encrypt or decrypt, as the fleet is asked for it. */
export interface FleetRequest<T> {
  readonly operation: OperationName;
  readonly key: ObjectId;
  readonly deadlineMs: number;
  readonly run: (crypto: HsmCrypto) => Promise<Result<T, HsmFailure>>;
  /** Of a result that nobody gets. */
  readonly discard: (value: T) => void;
  readonly route: HsmRoute | undefined;
}

/** What an operation needs of its fleet. */
export interface FleetSurroundings {
  monotonicMs(): number;
  /** The best token that is not among `leftOut` and stands no worse than `worst`; `null` when there is none. */
  choose(key: ObjectId, leftOut: number, worst: Standing): FleetMember | null;
  /** A token has answered; its outstanding work, statistics and breaker follow. */
  answered(
    member: FleetMember,
    request: Pick<FleetRequest<unknown>, 'operation' | 'key'>,
    tookMs: number,
    failure: HsmFailure | null,
  ): void;
  /** The token refused a ciphertext that another one has opened. */
  disproved(member: FleetMember, verdict: HsmFailure): void;
  mayHedge(): boolean;
  /** Whether this token refused something for want of room lately. */
  isOverloaded(member: FleetMember): boolean;
}

const never = Number.POSITIVE_INFINITY;
const noToken: HsmFailure = { kind: 'token-unavailable', rv: null, functionName: null };

/** An operation whose tokens may turn out slow. */
export interface WatchedOperation extends Arrival<WatchedOperation> {
  /** Whether `watch` has anything to look for. */
  readonly isWatched: boolean;
  /** To be called every few milliseconds: asks a second token where the first one is slow, or silent. */
  watch(nowMs: number): void;
}

/**
 * The way of one operation through the fleet: asks a token, another one where the policies say so, and answers once.
 * Every token asked answers by the deadline, so this ends by it too. After its answer nothing is asked any more: the
 * caller's plaintext may be wiped then.
 */
export class FleetOperation<T> implements WatchedOperation {
  before: WatchedOperation | null = null;
  after: WatchedOperation | null = null;
  readonly #fleet: FleetSurroundings;
  readonly #request: FleetRequest<T>;
  readonly #resolve: (result: Result<T, HsmFailure>) => void;
  readonly #reject: (thrown: unknown) => void;
  #first: FleetMember | null = null;
  #asked = 0;
  #out = 0;
  #retries = 0;
  #repetitions = 0;
  #isSettled = false;
  /** Of the failures so far the one to answer with. */
  #telling: HsmFailure | null = null;
  /** The first that refused the ciphertext, sure of it or not. */
  #refused: { readonly by: FleetMember; readonly verdict: HsmFailure } | null = null;
  /** When a second token is asked although the first one has said nothing yet. */
  #hedgeAtMs = never;
  #silentAtMs = never;

  constructor(
    fleet: FleetSurroundings,
    request: FleetRequest<T>,
    resolve: (result: Result<T, HsmFailure>) => void,
    reject: (thrown: unknown) => void,
  ) {
    this.#fleet = fleet;
    this.#request = request;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  get isWatched(): boolean {
    return !this.#isSettled && Math.min(this.#hedgeAtMs, this.#silentAtMs) !== never;
  }

  begin(): void {
    const { key, operation, deadlineMs, route } = this.#request;
    const member = this.#fleet.choose(key, 0, Standing.withoutKey);
    if (member === null) {
      this.#settle(err(noToken));
      return;
    }
    this.#first = member;
    if (route !== undefined) route.hsm = member.name;
    const nowMs = this.#fleet.monotonicMs();
    const { p95Ms } = member.latency[operation];
    this.#hedgeAtMs = nowMs + hedgeAfterMs(p95Ms);
    this.#silentAtMs = silentAtMs(nowMs, deadlineMs, p95Ms);
    this.#ask(member, nowMs);
  }

  watch(nowMs: number): void {
    const { key, deadlineMs } = this.#request;
    const first = this.#first;
    if (this.#isSettled || first === null) return;
    const isSilent = nowMs >= this.#silentAtMs;
    if (!isSilent && (nowMs < this.#hedgeAtMs || deadlineMs - nowMs < failoverMsMin)) return;
    const other = this.#fleet.choose(key, this.#asked, Standing.well);
    if (other === null) return;
    if (isSilent) {
      this.#silentAtMs = never;
      this.#hedgeAtMs = never;
      // Where work waits there, too, silence is no fault, and twice the work no help.
      if (this.#fleet.isOverloaded(other)) return;
      this.#retries += 1;
      first.retries += 1;
    } else {
      this.#hedgeAtMs = never;
      if (!this.#fleet.mayHedge()) return;
      other.hedges += 1;
    }
    this.#ask(other, nowMs);
  }

  #ask(member: FleetMember, nowMs: number): void {
    if (member !== this.#first) {
      this.#hedgeAtMs = never;
      this.#silentAtMs = never;
    }
    this.#asked |= member.bit;
    this.#out += 1;
    member.outstanding += 1;
    this.#request.run(member.crypto).then(
      (result) => this.#answered(member, nowMs, result),
      (thrown: unknown) => {
        member.outstanding -= 1;
        this.#isSettled = true;
        this.#reject(thrown);
      },
    );
  }

  #answered(member: FleetMember, askedAtMs: number, result: Result<T, HsmFailure>): void {
    this.#out -= 1;
    const tookMs = this.#fleet.monotonicMs() - askedAtMs;
    this.#fleet.answered(member, this.#request, tookMs, result.ok ? null : result.error);
    if (result.ok && this.#refused !== null) {
      this.#fleet.disproved(this.#refused.by, this.#refused.verdict);
    }
    if (this.#isSettled) {
      if (result.ok) this.#request.discard(result.value);
      return;
    }
    if (result.ok) {
      this.#tellRoute(member);
      this.#settle(result);
    } else {
      this.#failed(member, result.error);
    }
  }

  #failed(member: FleetMember, failure: HsmFailure): void {
    const { operation, deadlineMs } = this.#request;
    const step = nextStep({
      operation,
      failure,
      retries: this.#retries,
      refusedElsewhere: this.#refused !== null,
      msLeft: deadlineMs - this.#fleet.monotonicMs(),
    });
    this.#telling = tellingFailure(this.#telling, failure);
    const isDefinite =
      step === 'answer' && (failure.kind === 'bad-ciphertext' || failure.kind === 'too-large');
    if (isDefinite) {
      this.#tellRoute(member);
      this.#settle(err(failure));
      return;
    }
    if (step === 'second-opinion' || failure.isDoubted === true) {
      this.#refused ??= { by: member, verdict: failure };
    }
    // Who is still out may have the answer.
    if (this.#out > 0) return;
    if (step === 'retry' && this.#mayRepeat(member, failure)) {
      this.#repetitions += 1;
      this.#ask(member, this.#fleet.monotonicMs());
      return;
    }
    const worst = step === 'second-opinion' ? Standing.well : Standing.withoutKey;
    const other = step === 'answer' ? null : this.#fleet.choose(this.#request.key, this.#asked, worst);
    if (other === null) {
      this.#tellRoute(member);
      this.#settle(err(this.#telling));
      return;
    }
    if (step === 'retry') this.#retries += 1;
    member.retries += 1;
    this.#ask(other, this.#fleet.monotonicMs());
  }

  /**
   * The only token that is well is asked again, as a single one would be: the others are no better. But should it call bad
   * then what it has just failed over, the answer stays that it failed.
   */
  #mayRepeat(member: FleetMember, failure: HsmFailure): boolean {
    const { key, deadlineMs } = this.#request;
    const msLeft = deadlineMs - this.#fleet.monotonicMs();
    return (
      isWorthRepeating(failure, this.#repetitions, msLeft) &&
      this.#fleet.choose(key, this.#asked, Standing.well) === null &&
      this.#fleet.choose(key, ~member.bit, Standing.well) === member &&
      member.repetitions.take()
    );
  }

  #tellRoute(member: FleetMember): void {
    const { route } = this.#request;
    if (route === undefined || member === this.#first) return;
    route.hsm = member.name;
    route.askedFirst = this.#first?.name ?? null;
  }

  #settle(result: Result<T, HsmFailure>): void {
    this.#isSettled = true;
    this.#resolve(result);
  }
}
