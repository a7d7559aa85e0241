import { errorText } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import type { Entry, HardState, LogPosition, MemberId, Membership } from '../raft/types.js';
import type { Identity } from './identity-file.js';
import type { Recovered } from './log-recovery.js';
import { compareLogs, type SurvivorReport, survivorReport } from './survivor-report.js';

/** The state machine, while the log of a survivor is put into it. */
export interface RecoverableMachine {
  readonly appliedIndex: number;
  membership(): Membership | null;
  restore(index: number, records: Iterable<Uint8Array>): void;
  /** An entry that was committed. */
  apply(entry: Entry): void;
  /** An entry that may never have been: it is kept, and what it grants is remembered for `recover`. */
  applyUnconfirmed(entry: Entry): void;
  /**
   * At the end of the log: makes this member the only one of cluster `clusterId` and takes back what was granted without
   * being known to be committed. @returns why that can't be; `null` when it is done.
   */
  recover(clusterId: string): string | null;
}

export interface LostQuorumInputs {
  readonly identity: Pick<Identity, 'clusterId' | 'memberId' | 'nodeName'>;
  /** What this node's data directory holds. */
  readonly recovered: Pick<Recovered, 'snapshot' | 'entries' | 'hardState'>;
  /** Told that it is no member any more: why; `null` when not. */
  readonly fence: string | null;
  /** Other nodes whose logs could be read. */
  readonly survivors: readonly SurvivorReport[];
  /** Random, of no other cluster. */
  readonly newClusterId: string;
}

export interface LostQuorumPlan {
  readonly clusterId: string;
  readonly lastLog: LogPosition;
  /** The last index known, here or by a survivor's report, to have been committed. */
  readonly commitIndex: number;
  /** Voters of which no report was given: one of them may know more. */
  readonly notCompared: readonly MemberId[];
  /** Where the log of the new cluster begins: all before is in the state machine. */
  readonly position: LogPosition;
  readonly hardState: HardState;
}

/**
 * What a recovery from lost quorum (replication.md 13) makes of this node's log, whatever the state machine is. Changes
 * nothing but `machine`, which is new.
 *
 * @returns a sentence for the operator when this node is not the one to recover, or can't be.
 */
export function planLostQuorum(
  inputs: LostQuorumInputs,
  machine: RecoverableMachine,
): Result<LostQuorumPlan, string> {
  const { identity, recovered, survivors } = inputs;
  const ours = survivorReport(identity, recovered);
  const objection = fenceObjection(inputs) ?? logObjection(ours, survivors);
  if (objection !== null) return err(objection);
  const commitIndex = Math.max(...[ours, ...survivors].map((report) => report.commitIndex));
  const replayed = replay(machine, recovered, commitIndex);
  if (!replayed.ok) return replayed;
  const membership = replayed.value;
  const alone = membershipObjection(ours, membership);
  if (alone !== null) return err(alone);
  const { lastLog } = ours;
  const compared = new Set(survivors.map(({ memberId }) => memberId));
  // Voters as of the last commit too: a removal that nobody may have been told of does not make a log lesser.
  const voters = new Set([...membership.voters, ...(machine.membership()?.voters ?? [])]);
  const term = Math.max(recovered.hardState.term, lastLog.term) + 1;
  const clusterId = inputs.newClusterId;
  const refusal = machine.recover(clusterId);
  if (refusal !== null) return err(refusal);
  const position = { index: machine.appliedIndex, term };
  return ok({
    clusterId,
    lastLog,
    commitIndex,
    notCompared: [...voters].filter((id) => id !== ours.memberId && !compared.has(id)),
    position,
    // A term after all that this member has heard of, which it leads as it were: nobody that it followed made an entry
    // of the same index and term.
    hardState: { term, votedFor: ours.memberId, commitIndex: position.index },
  });
}

function fenceObjection({ identity, fence }: LostQuorumInputs): string | null {
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

function membershipObjection({ memberId, nodeName }: SurvivorReport, { voters }: Membership): string | null {
  const [only, ...others] = voters;
  if (only === undefined) return `${nodeName} knows of no other voter: there is nothing to recover`;
  return only === memberId && others.length === 0
    ? `${nodeName} is the only voter of its cluster and needs nobody else: start xksd`
    : null;
}

/** Brings `machine` to the end of the log. @returns the members as of the last entry known to be committed. */
function replay(
  machine: RecoverableMachine,
  { snapshot, entries }: LostQuorumInputs['recovered'],
  commitIndex: number,
): Result<Membership, string> {
  try {
    if (snapshot !== null) machine.restore(snapshot.index, snapshot.records);
    for (const entry of entries.filter(({ index }) => index <= commitIndex)) machine.apply(entry);
    const membership = machine.membership() ?? { voters: [], learners: [] };
    for (const entry of entries.filter(({ index }) => index > commitIndex)) machine.applyUnconfirmed(entry);
    return ok(membership);
  } catch (thrown) {
    return err(
      `the log can't be replayed: ${errorText(thrown)}. Use the release of xksctl that this node ran last`,
    );
  }
}
