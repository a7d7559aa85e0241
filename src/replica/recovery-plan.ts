import { ok, type Result } from '../base/result.js';
import type { UnconfirmedGrant } from '../keystate/cluster-types.js';
import { decodeCommand, encodeCommand } from '../keystate/command-codec.js';
import { KeyStateMachine } from '../keystate/state-machine.js';
import type { Command } from '../keystate/types.js';
import {
  type LostQuorumInputs,
  type LostQuorumPlan,
  planLostQuorum,
  type RecoverableMachine,
} from '../replication/lost-quorum.js';
import type { SurvivorReport } from '../replication/survivor-report.js';
import { namesIn } from './change-names.js';
import { grantBatches, grantOf } from './recovery-grants.js';

type Entry = Parameters<RecoverableMachine['apply']>[0];

export interface RecoveryInputs extends LostQuorumInputs {
  /** `host:port` where other nodes are to reach this one. */
  readonly address: string;
  readonly atMs: number;
  /** Fresh at each call. */
  readonly mintRequestId: () => string;
  /** For the record. */
  readonly by: string;
}

/** A command that is in this log and not known to have been committed. It is kept. */
export interface UnconfirmedCommand {
  readonly index: number;
  readonly term: number;
  readonly command: string;
  /** Of what it is about. */
  readonly names: Readonly<Record<string, string>>;
  /** `pending`: out of force until it is confirmed. `no-effect`: it was refused, or repeated an earlier one. */
  readonly becomes: 'kept' | 'pending' | 'no-effect';
}

export interface RecoveryPlan extends Omit<LostQuorumPlan, 'clusterId' | 'notCompared'> {
  readonly formerClusterId: string;
  readonly newClusterId: string;
  readonly unconfirmed: readonly UnconfirmedCommand[];
  /** Members that go: they may still run, and serve by what they knew. */
  readonly leftBehind: readonly { readonly name: string; readonly memberId: string }[];
  /** Voters of which no report was given: one of them may know more. */
  readonly notCompared: readonly string[];
  /** What key state is to be. */
  readonly machine: KeyStateMachine;
}

/**
 * What a recovery from lost quorum (replication.md 13) makes of this node's log and key state. Changes nothing.
 *
 * @returns a sentence for the operator when this node is not the one to recover, or can't be.
 */
export function planRecovery(inputs: RecoveryInputs): Result<RecoveryPlan, string> {
  const recovery = new KeyStateRecovery(inputs);
  const planned = planLostQuorum(inputs, recovery);
  if (!planned.ok) return planned;
  const { clusterId, lastLog, commitIndex, notCompared, position, hardState } = planned.value;
  const { machine } = recovery;
  const pending = new Set([...machine.state.pending()].map(({ index }) => index));
  return ok({
    formerClusterId: inputs.identity.clusterId,
    newClusterId: clusterId,
    lastLog,
    commitIndex,
    unconfirmed: recovery.unconfirmed.map((command) =>
      pending.has(command.index) ? { ...command, becomes: 'pending' } : command,
    ),
    leftBehind: [...machine.state.formerMembers()]
      .filter(({ destroyed, revision }) => !destroyed && revision > commitIndex)
      .map(({ name, memberId }) => ({ name, memberId })),
    notCompared: notCompared.map(recovery.nameOf),
    machine,
    position,
    hardState,
  });
}

/** Key state, while a survivor's log is put into it. */
class KeyStateRecovery implements RecoverableMachine {
  readonly machine = new KeyStateMachine();
  readonly unconfirmed: UnconfirmedCommand[] = [];
  readonly #grants: UnconfirmedGrant[] = [];
  readonly #inputs: RecoveryInputs;
  #nameOf = (memberId: string): string => memberId;

  constructor(inputs: RecoveryInputs) {
    this.#inputs = inputs;
  }

  /** Of a member before the recovery. */
  readonly nameOf = (memberId: string): string => this.#nameOf(memberId);

  get appliedIndex(): number {
    return this.machine.state.appliedIndex;
  }

  membership(): ReturnType<KeyStateMachine['membership']> {
    return this.machine.membership();
  }

  restore(index: number, records: Iterable<Uint8Array>): void {
    this.machine.restore(index, records);
  }

  apply(entry: Entry): void {
    applyEntry(this.machine, entry);
  }

  applyUnconfirmed(entry: Entry): void {
    const { index, term, data } = entry;
    const command = commandOf(entry);
    const grant = command && grantOf(command, this.machine.state, index, data);
    const hasEffect = applyEntry(this.machine, entry);
    if (command === null) return;
    if (grant !== null && hasEffect) this.#grants.push(grant);
    const becomes = hasEffect ? 'kept' : 'no-effect';
    this.unconfirmed.push({ index, term, command: command.type, names: namesIn(command), becomes });
  }

  recover(clusterId: string): string | null {
    this.#nameOf = nameLookup(this.machine, this.#inputs.survivors);
    return applyRecovery(this.machine, this.#inputs, clusterId, this.#grants);
  }
}

/** `null`: the entry is the log's own. */
function commandOf({ index, kind, data }: Entry): Command | null {
  if (kind === 'noop') return null;
  const decoded = decodeCommand(data);
  if (!decoded.ok) throw new Error(`the command at index ${index} can't be decoded: ${decoded.error}`);
  return decoded.value;
}

/** @returns whether it changed anything. */
function applyEntry(machine: KeyStateMachine, { index, kind, data }: Entry): boolean {
  if (kind === 'noop') {
    machine.skip(index);
    return false;
  }
  const result = machine.apply(index, data);
  // What was so already is done at the revision that made it so.
  return result.ok && result.repeated !== true && result.revision === index;
}

function nameLookup(
  { state }: KeyStateMachine,
  survivors: readonly SurvivorReport[],
): (memberId: string) => string {
  const names = new Map<string, string>();
  for (const { memberId, nodeName } of survivors) names.set(memberId, nodeName);
  for (const { memberId, name } of [...state.members(), ...state.formerMembers()]) names.set(memberId, name);
  return (memberId) => names.get(memberId) ?? memberId;
}

/** Puts the recovery behind the log; why that can't be, `null` when it is done. */
function applyRecovery(
  machine: KeyStateMachine,
  inputs: RecoveryInputs,
  newClusterId: string,
  grants: readonly UnconfirmedGrant[],
): string | null {
  const { identity, survivors, address, atMs, by } = inputs;
  const { memberId, nodeName: name } = identity;
  const known = [...machine.state.members(), ...machine.state.formerMembers()];
  const ids = new Set([memberId, ...known.map((one) => one.memberId)]);
  const strangers = survivors.filter((one) => !ids.has(one.memberId));
  const formerMembers = new Map(
    strangers.map((one) => [one.memberId, { memberId: one.memberId, name: one.nodeName }]),
  );
  for (const pending of grantBatches(grants)) {
    const command: Command = {
      type: 'cluster.recover',
      newClusterId,
      survivor: { memberId, name, address },
      formerMembers: [...formerMembers.values()],
      pending,
      requestId: inputs.mintRequestId(),
      atMs,
      by,
    };
    const result = machine.apply(machine.state.appliedIndex + 1, encodeCommand(command));
    if (!result.ok) return `key state refuses the recovery: ${result.error.message}`;
  }
  return null;
}
