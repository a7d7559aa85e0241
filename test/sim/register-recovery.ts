import type { Entry, MemberId, Membership } from '../../src/raft/types.js';
import type { RecoverableMachine } from '../../src/replication/lost-quorum.js';
import {
  decodeCommand,
  encodeCommand,
  type RegisterGrant,
  type RegisterMachine,
} from './register-machine.js';

/** The register machine, while a survivor's log is put into it. Stands in for what `planRecovery` does with key state. */
export class RegisterRecovery implements RecoverableMachine {
  readonly machine: RegisterMachine;
  readonly #memberId: MemberId;
  /** Of the recovery itself. */
  readonly #request: number;
  /** Members that reports were given of. */
  readonly #reported: readonly MemberId[];
  readonly #grants: RegisterGrant[] = [];

  constructor(
    machine: RegisterMachine,
    options: {
      readonly memberId: MemberId;
      readonly request: number;
      readonly reported: readonly MemberId[];
    },
  ) {
    this.machine = machine;
    this.#memberId = options.memberId;
    this.#request = options.request;
    this.#reported = options.reported;
  }

  get appliedIndex(): number {
    return this.machine.appliedIndex;
  }

  membership(): Membership | null {
    return this.machine.membership();
  }

  restore(index: number, records: Iterable<Uint8Array>): void {
    this.machine.restore(index, records);
  }

  apply({ index, kind, data }: Entry): void {
    if (kind === 'noop') this.machine.skip(index);
    else this.machine.apply(index, data);
  }

  applyUnconfirmed(entry: Entry): void {
    if (entry.kind === 'noop') {
      this.machine.skip(entry.index);
      return;
    }
    const command = decodeCommand(entry.data);
    const { outcome, repeated } = this.machine.apply(entry.index, entry.data);
    if (command.kind !== 'grant' || outcome !== 'done' || repeated) return;
    this.#grants.push({ register: command.register, request: command.request });
  }

  recover(): string | null {
    const index = this.machine.appliedIndex + 1;
    const { outcome } = this.machine.apply(
      index,
      encodeCommand(
        {
          kind: 'recover',
          request: this.#request,
          survivor: this.#memberId,
          strangers: this.#reported,
          pending: this.#grants,
        },
        0,
      ),
    );
    return outcome === 'done' ? null : `the recovery is refused: ${outcome}`;
  }
}
