import { ArrivalList } from '../../base/arrival-list.js';
import { wipe } from '../../base/bytes.js';
import type { Clock } from '../../base/clock.js';
import { invariant } from '../../base/guards.js';
import type { Logger } from '../../base/logger.js';
import type { RandomSource } from '../../base/random.js';
import type { Result } from '../../base/result.js';
import type { Timers } from '../../base/timers.js';
import type { CallCounts } from '../call-counts.js';
import { countingEncryptions, type EncryptionCount } from '../encryption-count.js';
import type { Token, TokenStatus } from '../token.js';
import type { HsmCrypto, HsmFailure, ObjectId } from '../types.js';
import { chooseToken, fleetTokensMax, type Standing } from './choice.js';
import {
  FleetOperation,
  type FleetRequest,
  type FleetSurroundings,
  type WatchedOperation,
} from './fleet-operation.js';
import { HedgeBudget } from './hedge.js';
import { FleetMember, type MemberStats, type OperationName } from './member.js';
import { repeating } from './repetition.js';

/** How often slow operations are looked for while any is out. */
const sweepMs = 5;
/** A token that never passed a check here hangs because of the HSM, most likely, and would in another process, too. */
const unusedHangMsMax = 300_000;

export interface FleetOptions {
  /** 1 to 10, each with its own token. */
  readonly tokens: readonly Token[];
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: RandomSource;
  readonly logger: Logger;
  /** Is told of every encryption that a token is asked for. */
  readonly encryptions?: EncryptionCount;
  /** Of every answer of a token, also of those that nobody waits for any more. Not called where there is one token. */
  readonly onCall?: (hsm: string, operation: OperationName, tookMs: number) => void;
}

/**
 * The tokens of a serving process behind one `HsmCrypto`: each operation goes to the token with the least outstanding
 * work among those that are well and hold its key, to another one where that token fails, and to a second one as well
 * where it is slow.
 *
 * Which handle on a token is which key is not decided here, nor need the fleet compare what its tokens encrypt
 * (hsm.md's key-consistency gate): before a session uses a handle it decrypts the key's witness with it, and that was
 * encrypted once, on the token where the key was registered. So a token serves a key only after it has decrypted what
 * another one encrypted under it; one with other bytes behind the same CKA_ID answers `key-lost` instead. Only of a
 * key that cannot both encrypt and decrypt there is no witness; `xksctl key add` compares its check values.
 */
export class TokenFleet {
  readonly tokens: readonly Token[];
  /** With a single token it is that token's own, asked again where it fails now and then: there is nothing to choose. */
  readonly crypto: HsmCrypto;
  /** Settles when the first attempt to reach each token has ended. */
  readonly firstAttempt: Promise<void>;
  readonly #options: FleetOptions;
  readonly #members: readonly FleetMember[];
  readonly #listeners = new Set<() => void>();
  readonly #endings: (() => void)[] = [];
  readonly #canaries = new Map<FleetMember, () => void>();
  readonly #hangingSinceMs = new Map<FleetMember, number>();
  readonly #budget = new HedgeBudget();
  readonly #surroundings: FleetSurroundings;
  readonly #watched = new ArrivalList<WatchedOperation>();
  #isSweeping = false;
  #turn = 0;
  #closed = false;

  constructor(options: FleetOptions) {
    const { tokens, clock, random } = options;
    const [only] = tokens;
    invariant(only !== undefined && tokens.length <= fleetTokensMax, 'a fleet has 1 to 10 tokens');
    this.#options = options;
    this.tokens = tokens;
    const cryptoOf = ({ crypto }: Token): HsmCrypto =>
      options.encryptions === undefined ? crypto : countingEncryptions(crypto, options.encryptions);
    this.#members = tokens.map((token, index) => new FleetMember(token, cryptoOf(token), index, random));
    this.firstAttempt = Promise.all(tokens.map((token) => token.firstAttempt)).then(() => {});
    this.#surroundings = {
      monotonicMs: () => clock.monotonicMs(),
      choose: (key, leftOut, worst) => this.#choose(key, leftOut, worst),
      answered: (member, request, tookMs, failure) => this.#answered(member, request, tookMs, failure),
      disproved: (member, verdict) => {
        if (member.atFault(verdict, clock.monotonicMs())) this.#breakerOpened(member);
      },
      mayHedge: () => this.#budget.take(clock.monotonicMs()),
      isOverloaded: (member) => member.isOverloaded(clock.monotonicMs()),
    };
    this.crypto =
      tokens.length === 1
        ? repeating(cryptoOf(only), clock)
        : {
            encrypt: (operation, deadlineMs, route) =>
              this.#run({
                operation: 'encrypt',
                key: operation.key.objectId,
                deadlineMs,
                run: (crypto) => crypto.encrypt(operation, deadlineMs),
                discard: () => {},
                route,
              }),
            decrypt: (operation, deadlineMs, route) =>
              this.#run({
                operation: 'decrypt',
                key: operation.key.objectId,
                deadlineMs,
                run: (crypto) => crypto.decrypt(operation, deadlineMs),
                discard: wipe,
                route,
              }),
          };
    for (const member of this.#members) {
      this.#endings.push(member.token.onChange((status) => this.#tokenChanged(member, status)));
    }
  }

  /** The tokens as X-H3 wants them told: one whose breaker is open is DEGRADED. */
  status(): readonly TokenStatus[] {
    return this.#members.map(({ token, breaker, lastFault }) => {
      const status = token.status();
      if (!breaker.isOpen || status.state === 'UNAVAILABLE') return status;
      const last = lastFault === null ? '' : `; the last said ${failureText(lastFault)}`;
      return {
        ...status,
        state: 'DEGRADED',
        reason: `out of use for now: too many operations failed${last}`,
      };
    });
  }

  /** Of each of several tokens; of a single one nothing is counted. */
  stats(): readonly MemberStats[] {
    if (this.#members.length === 1) return [];
    return this.#members.map((member) => member.stats());
  }

  /** The PKCS#11 calls of each token. */
  calls(): readonly (CallCounts & { readonly hsm: string })[] {
    return this.#members.map(({ name, token }) => ({ hsm: name, ...token.calls() }));
  }

  /** Called after every change of `status()` but of its numbers. @returns ends it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Why only another process can use one of the tokens again; to be asked every second or so. */
  beyondRecovery(): string | null {
    const nowMs = this.#options.clock.monotonicMs();
    let reason: string | null = null;
    for (const member of this.#members) {
      const hang = member.token.beyondRecovery();
      if (hang === null) {
        this.#hangingSinceMs.delete(member);
        continue;
      }
      const sinceMs = this.#hangingSinceMs.get(member) ?? nowMs;
      this.#hangingSinceMs.set(member, sinceMs);
      // While others serve, an HSM that hangs for everybody must not have process after process replaced.
      const isWorthIt = member.wasActive || !this.#isAnyUsable() || nowMs - sinceMs >= unusedHangMsMax;
      if (isWorthIt) reason ??= this.#members.length === 1 ? hang : `${member.name}: ${hang}`;
    }
    return reason;
  }

  /** Closes every token. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const end of this.#endings) end();
    for (const cancel of this.#canaries.values()) cancel();
    this.#canaries.clear();
    await Promise.all(this.tokens.map((token) => token.close()));
  }

  #isAnyUsable(): boolean {
    return this.#members.some(({ state }) => state !== 'UNAVAILABLE');
  }

  #run<T>(request: FleetRequest<T>): Promise<Result<T, HsmFailure>> {
    return new Promise((resolve, reject) => {
      this.#budget.earn();
      const operation = new FleetOperation(this.#surroundings, request, resolve, reject);
      operation.begin();
      this.#watch(operation);
    });
  }

  #choose(key: ObjectId, leftOut: number, worst: Standing): FleetMember | null {
    const nowMs = this.#options.clock.monotonicMs();
    this.#turn = (this.#turn + 1) % this.#members.length;
    return chooseToken(this.#members, {
      leftOut,
      worst,
      standing: (member) => member.standing(key, nowMs),
      turn: this.#turn,
    });
  }

  #answered(
    member: FleetMember,
    { operation, key }: Pick<FleetRequest<unknown>, 'operation' | 'key'>,
    tookMs: number,
    failure: HsmFailure | null,
  ): void {
    const nowMs = this.#options.clock.monotonicMs();
    member.outstanding -= 1;
    this.#options.onCall?.(member.name, operation, tookMs);
    if (failure === null) {
      member.succeeded(operation, key, tookMs, nowMs);
      return;
    }
    if (failure.kind === 'overloaded') this.#budget.overloaded(nowMs);
    // Late for want of room is overload, which must not take tokens away.
    if (failure.kind === 'deadline' && this.#budget.isOverloaded(nowMs)) return;
    if (member.failed(operation, key, failure, tookMs, nowMs)) this.#breakerOpened(member);
  }

  // --- slow operations ---------------------------------------------------------------------------------------

  #watch(operation: WatchedOperation): void {
    if (!operation.isWatched) return;
    this.#watched.add(operation);
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    this.#options.timers.after(sweepMs, this.#sweep);
  }

  readonly #sweep = (): void => {
    const nowMs = this.#options.clock.monotonicMs();
    this.#watched.each((operation) => {
      operation.watch(nowMs);
      if (!operation.isWatched) this.#watched.remove(operation);
    });
    this.#isSweeping = this.#watched.size > 0 && !this.#closed;
    if (this.#isSweeping) this.#options.timers.after(sweepMs, this.#sweep);
  };

  // --- breakers ----------------------------------------------------------------------------------------------

  #breakerOpened(member: FleetMember): void {
    const { lastFault } = member;
    this.#options.logger.warn('token out of use', {
      hsm: member.name,
      reason: lastFault === null ? null : failureText(lastFault),
    });
    this.#awaitCanary(member);
    this.#tellChange();
  }

  #awaitCanary(member: FleetMember): void {
    const { clock, timers } = this.#options;
    const { openUntilMs } = member.breaker;
    if (openUntilMs === null || this.#closed) return;
    const delayMs = Math.max(1, Math.ceil(openUntilMs - clock.monotonicMs()));
    this.#canaries.get(member)?.();
    this.#canaries.set(
      member,
      timers.after(delayMs, () => void this.#runCanary(member)),
    );
  }

  async #runCanary(member: FleetMember): Promise<void> {
    this.#canaries.get(member)?.();
    this.#canaries.delete(member);
    // Tried again as soon as it is back.
    if (member.state === 'UNAVAILABLE') return;
    const result = await member.token.canary();
    if (this.#closed || !member.breaker.isOpen) return;
    if (result === 'failed') {
      member.breaker.canaryFailed(this.#options.clock.monotonicMs());
      this.#awaitCanary(member);
      return;
    }
    this.#closeBreaker(member, result === 'passed');
  }

  #closeBreaker(member: FleetMember, hasTestKey: boolean): void {
    member.breaker.canaryPassed(this.#options.clock.monotonicMs(), hasTestKey);
    this.#options.logger.info('token in use again', { hsm: member.name });
    this.#tellChange();
  }

  #tokenChanged(member: FleetMember, status: TokenStatus): void {
    const before = member.name;
    const cameBack = member.learn(status);
    if (
      member.name !== before &&
      this.#members.some((other) => other !== member && other.name === member.name)
    ) {
      // Key state names tokens by serial: a test key prepared for one is not on the other.
      this.#options.logger.error('two tokens have one serial', { hsm: member.name, uri: status.uri });
    }
    // What opened its breaker may be over with the login or the module that is gone.
    if (cameBack && member.breaker.isOpen) void this.#runCanary(member);
    this.#tellChange();
  }

  #tellChange(): void {
    for (const listener of this.#listeners) listener();
  }
}

function failureText(failure: HsmFailure): string {
  return failure.rv === null ? failure.kind : `${failure.rv} from ${failure.functionName ?? 'the module'}`;
}
