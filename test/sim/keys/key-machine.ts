import type { KeyState } from '../../../src/keystate/key-state.js';
import type { KeyStateMachine } from '../../../src/keystate/state-machine.js';
import type { CommandResult } from '../../../src/keystate/types.js';
import type { Execution } from '../register-machine.js';
import type { KeyResult, SimMachine } from '../sim-machine.js';
import { requestOf } from './simulated-ids.js';

const requestIdMark = '"requestId":"';
const requestIdCharacters = 33;

/** Told of each command that a replica has applied. */
export type Application = (index: number, command: Uint8Array, result: CommandResult) => void;

/** The real key state of a replica, with somebody looking on. */
export class KeyMachine implements SimMachine {
  /** Commands that change members name the member, not what they saw. */
  readonly membershipRevision = 0;
  /** Recoveries are simulated over registers. */
  readonly leftBehind: readonly string[] = [];
  readonly #machine: KeyStateMachine;
  readonly #onExecution: Execution;
  readonly #onApplication: Application;

  constructor(machine: KeyStateMachine, onExecution: Execution, onApplication: Application) {
    this.#machine = machine;
    this.#onExecution = onExecution;
    this.#onApplication = onApplication;
  }

  get state(): KeyState {
    return this.#machine.state;
  }

  get appliedIndex(): number {
    return this.#machine.state.appliedIndex;
  }

  apply(index: number, command: Uint8Array): KeyResult {
    const result = this.#machine.apply(index, command);
    const bytes = Buffer.from(command.buffer, command.byteOffset, command.byteLength);
    const start = bytes.indexOf(requestIdMark) + requestIdMark.length;
    const requestId = bytes.toString('latin1', start, start + requestIdCharacters);
    const request = requestOf(requestId);
    if (this.state.tables().requests.get(requestId)?.index === index) this.#onExecution(request, index);
    this.#onApplication(index, command, result);
    return { request, result };
  }

  skip(index: number): void {
    this.#machine.skip(index);
  }

  stateHash(): string {
    return this.#machine.stateHash();
  }

  hashNumber(): number {
    return stateHashNumber(this.#machine.state);
  }

  membership(): ReturnType<KeyStateMachine['membership']> {
    return this.#machine.membership();
  }

  snapshot(): Iterable<Uint8Array> {
    return this.#machine.snapshot();
  }

  restore(index: number, records: Iterable<Uint8Array>): void {
    this.#machine.restore(index, records);
  }
}

/** Of the hash of a state, what tells states apart in one run. */
export const stateHashNumber = (state: Pick<KeyState, 'hash'>): number =>
  Number.parseInt(state.hash().slice(0, 8), 16) | 0;
