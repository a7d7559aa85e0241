import { errorText } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import type { UnconfirmedGrant } from '../keystate/cluster-types.js';
import { decodeCommand, encodeCommand } from '../keystate/command-codec.js';
import { KeyStateMachine } from '../keystate/state-machine.js';
import type { Command } from '../keystate/types.js';
import type { Identity } from '../replication/identity-file.js';
import type { Recovered } from '../replication/log-recovery.js';
import { compareLogs, type SurvivorReport, survivorReport } from '../replication/survivor-report.js';
import { namesIn } from './change-names.js';
import { grantBatches, grantOf } from './recovery-grants.js';

type Entry = Recovered['entries'][number];
type HardState = Recovered['hardState'];
type LogPosition = SurvivorReport['lastLog'];

export interface RecoveryInputs {
  readonly identity: Identity;
  /** What this node's data directory holds. */
  readonly recovered: Pick<Recovered, 'snapshot' | 'entries' | 'hardState'>;
  /** Told that it is no member any more: why; `null` when not. */
  readonly fence: string | null;
  /** Other nodes whose logs could be read. */
  readonly survivors: readonly SurvivorReport[];
  /** Random, of no other cluster. */
  readonly newClusterId: string;
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

export interface RecoveryPlan {
  readonly formerClusterId: string;
  readonly newClusterId: string;
  readonly lastLog: LogPosition;
  /** The last index known, here or by a survivor's report, to have been committed. */
  readonly commitIndex: number;
  readonly unconfirmed: readonly UnconfirmedCommand[];
  /** Members that go: they may still run, and serve by what they knew. */
  readonly leftBehind: readonly { readonly name: string; readonly memberId: string }[];
  /** Voters of which no report was given: one of them may know more. */
  readonly notCompared: readonly string[];
  /** What key state is to be, and where its log is to begin. */
  readonly machine: KeyStateMachine;
  readonly position: LogPosition;
  readonly hardState: HardState;
}

/**
 * What a recovery from lost quorum (replication.md 13) makes of this node's log. Changes nothing.
 *
 * @returns a sentence for the operator when this node is not the one to recover, or can't be.
 */
export function planRecovery(inputs: RecoveryInputs): Result<RecoveryPlan, string> {
  const { identity, recovered, newClusterId } = inputs;
  const ours = survivorReport(identity, recovered);
  const objection = fenceObjection(inputs) ?? logObjection(ours, inputs.survivors);
  if (objection !== null) return err(objection);
  const commitIndex = Math.max(...[ours, ...inputs.survivors].map((report) => report.commitIndex));
  const machine = new KeyStateMachine();
  const replayed = replay(machine, recovered, commitIndex);
  if (!replayed.ok) return replayed;
  const { membership, grants, unconfirmed } = replayed.value;
  const alone = membershipObjection(ours, membership);
  if (alone !== null) return err(alone);
  const { lastLog } = ours;
  const compared = new Set(inputs.survivors.map(({ memberId }) => memberId));
  // Voters as of the last commit too: a removal that nobody may have been told of does not make a log lesser.
  const voters = new Set([...membership.voters, ...(machine.membership()?.voters ?? [])]);
  const nameOf = nameLookup(machine, inputs.survivors);
  const term = Math.max(recovered.hardState.term, lastLog.term) + 1;
  const refusal = applyRecovery(machine, inputs, grants);
  if (refusal !== null) return err(refusal);
  const pending = new Set([...machine.state.pending()].map(({ index }) => index));
  const position = { index: machine.state.appliedIndex, term };
  return ok({
    formerClusterId: identity.clusterId,
    newClusterId,
    lastLog,
    commitIndex,
    unconfirmed: unconfirmed.map((command) =>
      pending.has(command.index) ? { ...command, becomes: 'pending' } : command,
    ),
    leftBehind: [...machine.state.formerMembers()]
      .filter(({ destroyed, revision }) => !destroyed && revision > commitIndex)
      .map(({ name, memberId }) => ({ name, memberId })),
    notCompared: [...voters].filter((id) => id !== ours.memberId && !compared.has(id)).map(nameOf),
    machine,
    position,
    // A term of its own, which this member leads as it were: no entry of another has the same index and term.
    hardState: { term, votedFor: ours.memberId, commitIndex: position.index },
  });
}

function fenceObjection({ identity, fence }: RecoveryInputs): string | null {
  return fence === null
    ? null
    : `${identity.nodeName} was told that it does not belong to the cluster any more (${fence}). It does not know what was disabled since: recover another node`;
}

const positionText = ({ index, term }: LogPosition): string => `index ${index} of term ${term}`;

/** Why the log of another survivor is to be taken instead, or the reports can't be compared. */
function logObjection(ours: SurvivorReport, survivors: readonly SurvivorReport[]): string | null {
  let greatest = ours;
  for (const theirs of survivors) {
    const { clusterId, memberId, nodeName, lastLog, commitIndex } = theirs;
    if (clusterId !== ours.clusterId) {
      return `${nodeName} is of cluster ${clusterId}, and this node of cluster ${ours.clusterId}: they have no log in common`;
    }
    if (memberId === ours.memberId) {
      if (compareLogs(lastLog, ours.lastLog) === 0) continue;
      return `the report of ${nodeName} is of this very member, with a log that ends at ${positionText(lastLog)}, and here it ends at ${positionText(ours.lastLog)}: it has run since, or one of the two is a copy. Make the report anew`;
    }
    if (compareLogs(lastLog, greatest.lastLog) > 0) greatest = theirs;
    if (commitIndex > ours.lastLog.index && compareLogs(lastLog, ours.lastLog) <= 0) {
      return `${nodeName} knows index ${commitIndex} to be committed, and the log here, which should hold it, ends at ${positionText(ours.lastLog)}: one of the two disks was rolled back. Recover neither before it is known which`;
    }
  }
  return greatest === ours
    ? null
    : `${greatest.nodeName} has the greater log: it ends at ${positionText(greatest.lastLog)}, and the log of ${ours.nodeName} at ${positionText(ours.lastLog)}. Recover ${greatest.nodeName}: what only it holds would be lost here`;
}

type Members = NonNullable<ReturnType<KeyStateMachine['membership']>>;

function membershipObjection({ memberId, nodeName }: SurvivorReport, { voters }: Members): string | null {
  const [only, ...others] = voters;
  if (only === undefined) return `${nodeName} knows of no other voter: there is nothing to recover`;
  return only === memberId && others.length === 0
    ? `${nodeName} is the only voter of its cluster and needs nobody else: start xksd`
    : null;
}

interface Replayed {
  /** As of the last entry known to be committed. */
  readonly membership: Members;
  readonly grants: readonly UnconfirmedGrant[];
  readonly unconfirmed: readonly UnconfirmedCommand[];
}

/** Brings `machine` to the end of the log. */
function replay(
  machine: KeyStateMachine,
  { snapshot, entries }: RecoveryInputs['recovered'],
  commitIndex: number,
): Result<Replayed, string> {
  const grants: UnconfirmedGrant[] = [];
  const unconfirmed: UnconfirmedCommand[] = [];
  try {
    if (snapshot !== null) machine.restore(snapshot.index, snapshot.records);
    for (const entry of entries.filter(({ index }) => index <= commitIndex)) applyEntry(machine, entry);
    const membership = machine.membership() ?? { voters: [], learners: [] };
    for (const entry of entries.filter(({ index }) => index > commitIndex)) {
      const command = commandOf(entry);
      const grant = command && grantOf(command, machine.state, entry.index, entry.data);
      const hasEffect = applyEntry(machine, entry);
      if (command === null) continue;
      if (grant !== null && hasEffect) grants.push(grant);
      const { index, term } = entry;
      const becomes = hasEffect ? 'kept' : 'no-effect';
      unconfirmed.push({ index, term, command: command.type, names: namesIn(command), becomes });
    }
    return ok({ membership, grants, unconfirmed });
  } catch (thrown) {
    return err(
      `the log can't be replayed: ${errorText(thrown)}. Use the release of xksctl that this node ran last`,
    );
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
  grants: readonly UnconfirmedGrant[],
): string | null {
  const { identity, survivors, newClusterId, address, atMs, by } = inputs;
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
