import type { KeyStore } from '../keystate/types.js';
import type { Standing } from '../ops/state-link.js';

/** Beyond it, what this node does not know may be known elsewhere (replication.md, _A stale node must not lie_). */
const unknownTrustedForMs = 2_000;

/** It comes right behind the first snapshot. */
const notHeardYet: Standing = {
  mayServe: false,
  reason: 'the replica has not said where this node stands',
  fleetSize: 1,
};

/** What may be said and done by the key state at hand, as far as its age decides. */
export interface StateFreshness {
  /** False: this node's state is none to serve by. Why is for the health listener and the log. */
  readonly standing: Standing;
  /** Whether what is unknown here is unknown everywhere: only then 401 and 404 are true. */
  isCurrent(): boolean;
  /** Whether the rule for isolation (replication.md, _The kill switch contract_) lets this node use the key store now. */
  permits(keyStore: KeyStore): boolean;
}

/**
 * How old this process's knowledge is: the newest moment as of which a quorum confirmed that it held everything
 * acknowledged. On the boot clock, which goes on while the machine is suspended; never kept over a restart.
 */
export class FreshnessTracker implements StateFreshness {
  readonly #bootTimeMs: () => number;
  #asOfMs = Number.NEGATIVE_INFINITY;
  #standing = notHeardYet;

  /** @param bootTimeMs CLOCK_BOOTTIME. */
  constructor(bootTimeMs: () => number) {
    this.#bootTimeMs = bootTimeMs;
  }

  get standing(): Standing {
    return this.#standing;
  }

  /** The replica has said so. Kept while it is away. */
  standingChanged(standing: Standing): void {
    this.#standing = standing;
  }

  /** The state in force was confirmed as of `asOfMs`. */
  confirmed(asOfMs: number): void {
    this.#asOfMs = Math.max(this.#asOfMs, asOfMs);
  }

  /** Since the newest confirmation; infinite before the first. */
  ageMs(): number {
    return this.#bootTimeMs() - this.#asOfMs;
  }

  isCurrent(): boolean {
    return this.ageMs() <= unknownTrustedForMs;
  }

  permits({ onIsolation }: KeyStore): boolean {
    return onIsolation.rule === 'serve' || this.ageMs() <= onIsolation.boundMs;
  }
}
