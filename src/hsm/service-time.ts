import type { CellOutcome } from './cells.js';
import { isQuick, typicalMicros } from './lanes.js';

/** A sample counts a sixteenth; a quarter where the two before were as far off, too: the token has become another one. */
const usualGain = 1 / 16;
const changedGain = 1 / 4;
/** Twice the average, or half of it. */
const farOff = 2;
/** One call that hung must not make every later one look impossible: no more than this counts of it. */
const sampleMicrosMax = 500_000;

/** What the operations of a token cost, as its answers show. Pure. */
export class ServiceTime {
  #operations = 0;
  #roundTrips = 0;
  #operationMicros = 0;
  #typicalMicros = 0;
  #lastMicros = 0;
  #beforeLastMicros = 0;

  /** Operations measured. */
  get operations(): number {
    return this.#operations;
  }

  /** PKCS#11 calls that they took. */
  get roundTrips(): number {
    return this.#roundTrips;
  }

  /** Microseconds that an operation spends in the module, recent average; 0 before the first. */
  get operationMicros(): number {
    return this.#operationMicros;
  }

  /** Microseconds that it usually takes (`lanes.ts`); 0 before the first. */
  get typicalMicros(): number {
    return this.#typicalMicros;
  }

  get isQuick(): boolean {
    return isQuick(this.#typicalMicros);
  }

  measured(outcome: CellOutcome): void {
    this.#operations += 1;
    this.#roundTrips += outcome.roundTrips;
    // What fails at once says nothing of how long the others take.
    if (outcome.result === 'ok') this.#typicalMicros = typicalMicros(this.#typicalMicros, outcome.micros);
    this.#average(Math.min(outcome.micros, sampleMicrosMax));
  }

  #average(micros: number): void {
    const known = this.#operationMicros;
    const last = this.#lastMicros;
    const beforeLast = this.#beforeLastMicros;
    this.#beforeLastMicros = last;
    this.#lastMicros = micros;
    if (known === 0) {
      this.#operationMicros = micros;
      return;
    }
    const isSlower = Math.min(micros, last, beforeLast) > farOff * known;
    const isQuicker = Math.max(micros, last, beforeLast) < known / farOff;
    // One or two that are far off are most likely calls, or threads, that had to wait.
    const sample = isSlower ? micros : Math.min(micros, 8 * known + 1_000);
    this.#operationMicros = known + (sample - known) * (isSlower || isQuicker ? changedGain : usualGain);
  }
}
