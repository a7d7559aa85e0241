import type { CommandResult } from '../../src/keystate/types.js';
import type { StateMachine } from '../../src/replication/ordered-log.js';
import type { RegisterResult } from './register-machine.js';

/** What a command on key state came to. */
export interface KeyResult {
  readonly request: number;
  readonly result: CommandResult;
}

export type MachineResult = RegisterResult | KeyResult;

/** A state machine as a simulated replica has it: the small one, or key state. */
export interface SimMachine extends StateMachine<MachineResult> {
  readonly appliedIndex: number;
  /** Of who is a member, where changes of it name what they saw; else always 0. */
  readonly membershipRevision: number;
  /** Members that a recovery from lost quorum left behind. */
  readonly leftBehind: readonly string[];
  /** Of the state, for those who compare at every step. */
  hashNumber(): number;
}
