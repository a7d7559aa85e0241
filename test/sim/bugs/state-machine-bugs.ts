import { RegisterMachine, type RegisterResult } from '../register-machine.js';
import type { SimBuild } from '../sim-build.js';
import type { PlantedBug } from './planted-bug.js';

const withMachine =
  (Machine: new (...args: ConstructorParameters<typeof RegisterMachine>) => RegisterMachine) =>
  (build: SimBuild): SimBuild => ({
    ...build,
    createMachine: (onExecution, paddingBytes) => new Machine(onExecution, paddingBytes),
  });

const takeAll = (records: Iterable<Uint8Array>): Uint8Array[] => [...records];

/** Forgets each request as soon as it is executed. */
class ForgetfulMachine extends RegisterMachine {
  override apply(index: number, data: Uint8Array): RegisterResult {
    this.forgetRequests();
    return super.apply(index, data);
  }
}

/** Leaves the requests out of snapshots. */
class BareSnapshotMachine extends RegisterMachine {
  override snapshot(): Iterable<Uint8Array> {
    const [numbers, , ...rest] = takeAll(super.snapshot());
    return numbers === undefined ? [] : [numbers, new Uint8Array(), ...rest];
  }
}

/** Saves the applied index of now with the state of the last time. */
class StaleSnapshotMachine extends RegisterMachine {
  #last: Uint8Array[] | null = null;

  override snapshot(): Iterable<Uint8Array> {
    const now = takeAll(super.snapshot());
    const [numbers] = now;
    const [lastNumbers, ...lastRest] = this.#last ?? now;
    this.#last = now;
    if (numbers === undefined || lastNumbers === undefined) return now;
    const mixed = Buffer.from(lastNumbers);
    mixed.set(numbers.subarray(0, 4));
    return [mixed, ...lastRest];
  }
}

/** Lets a late grant undo a denial. */
class UnconditionalGrantMachine extends RegisterMachine {
  override apply(index: number, data: Uint8Array): RegisterResult {
    const command = Buffer.from(data);
    if (command.readUInt8(0) === 2) command.writeUInt32BE(this.value(command.readUInt16BE(5)), 7);
    return super.apply(index, command);
  }
}

/** Differs from node to node in what it does. */
class NondeterministicMachine extends RegisterMachine {
  #restored = false;

  override restore(index: number, records: Iterable<Uint8Array>): void {
    super.restore(index, records);
    this.#restored = index > 20;
  }

  override apply(index: number, data: Uint8Array): RegisterResult {
    const command = Buffer.from(data);
    if (this.#restored && command.readUInt8(0) === 1) command.writeUInt16BE(0, 5);
    return super.apply(index, command);
  }
}

/** In the state machine. */
export const stateMachineBugs: readonly PlantedBug[] = [
  {
    name: 'request-id-not-deduplicated',
    origin: 'thesis §6.3: a repeated command is executed once',
    replaceParts: withMachine(ForgetfulMachine),
  },
  {
    name: 'snapshot-without-request-ids',
    origin: 'thesis §6.3: what was executed is part of the state',
    replaceParts: withMachine(BareSnapshotMachine),
  },
  {
    name: 'applied-index-without-state',
    origin: 'etcd-io/etcd#13766',
    replaceParts: withMachine(StaleSnapshotMachine),
  },
  {
    name: 'grant-without-revision',
    origin: 'replication.md 12: a late retry undoes nothing',
    replaceParts: withMachine(UnconditionalGrantMachine),
  },
  {
    name: 'state-depends-on-the-node',
    origin: 'replication.md 9: the same log, the same state',
    replaceParts: withMachine(NondeterministicMachine),
  },
];
