import type { CellOutcome } from './cells.js';
import { isQuick, typicalMicros } from './lanes.js';

/** What the operations of a token cost, as its answers show. Pure. */
export class ServiceTime {
  #operations = 0;
  #roundTrips = 0;
  #operationMicros = 0;
  #typicalMicros = 0;

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
    // One call that hung must not make every later one look impossible.
    const known = this.#operationMicros;
    const sample = known === 0 ? outcome.micros : Math.min(outcome.micros, 8 * known + 1_000);
    this.#operationMicros = known === 0 ? sample : known + (sample - known) / 16;
  }

  /** Milliseconds until an operation with `ahead` others before it is done, its own time included. */
  doneInMs(ahead: number, lanes: number): number {
    return (Math.ceil((ahead + 1) / lanes) * this.#operationMicros) / 1_000;
  }
}
