import type { MemberId, Membership } from '../../src/raft/types.js';
import { type Restoration, restorationOf, type StateMachine } from '../../src/replication/ordered-log.js';
import type { SafetyCheckers } from './checkers/safety.js';
import type { MachineResult, SimMachine } from './sim-machine.js';

/** A replica's state machine, with the checkers looking on. */
export class ObservedMachine implements StateMachine<MachineResult> {
  readonly #member: MemberId;
  readonly #machine: SimMachine;
  readonly #checkers: SafetyCheckers;

  constructor(member: MemberId, machine: SimMachine, checkers: SafetyCheckers) {
    this.#member = member;
    this.#machine = machine;
    this.#checkers = checkers;
  }

  apply(index: number, command: Uint8Array): MachineResult {
    const result = this.#machine.apply(index, command);
    this.#checkers.applies(this.#member, index, command, this.#machine.hashNumber());
    return result;
  }

  skip(index: number): void {
    this.#machine.skip(index);
    this.#checkers.applies(this.#member, index, null, this.#machine.hashNumber());
  }

  snapshot(): Iterable<Uint8Array> {
    return this.#machine.snapshot();
  }

  restore(index: number, records: Iterable<Uint8Array>): void {
    this.#machine.restore(index, records);
    this.#checkers.restores(this.#member, index, this.#machine.hashNumber());
  }

  beginRestore(): Restoration {
    const restoration = restorationOf(this.#machine);
    return {
      take: (record) => restoration.take(record),
      finish: (index) => {
        restoration.finish(index);
        this.#checkers.restores(this.#member, index, this.#machine.hashNumber());
      },
    };
  }

  stateHash(): string {
    return this.#machine.stateHash();
  }

  membership(): Membership | null {
    return this.#machine.membership();
  }
}
