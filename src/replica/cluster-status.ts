import type { Member } from '../keystate/cluster-types.js';
import type { AdminContext } from './admin-context.js';
import type { AdminResponse } from './admin-contract.js';
import { clusterFindings } from './cluster-findings.js';
import { freshnessAgeMs } from './freshness-age.js';
import { memberDrift } from './member-drift.js';

type ClusterStatus = AdminResponse<'cluster.status'>;
type MemberStatus = ClusterStatus['members'][number];

/** Reports come every second. */
const silentAfterMs = 5_000;
const clockOffsetMsMax = 1_000;

export function describeMember(context: AdminContext, member: Member): MemberStatus {
  const { cluster, node } = context;
  const { raft } = cluster.status();
  const progress = raft.progress.find(({ memberId }) => memberId === member.memberId);
  const drift = memberDrift(context, member);
  const { isSelf, report, heardMsAgo, clockOffsetMs } = drift;
  const findings: string[] = [];
  if (!isSelf && member.status !== 'invited') {
    if (heardMsAgo === null) findings.push('not heard of since this replica started');
    else if (heardMsAgo > silentAfterMs) {
      findings.push(`silent for ${Math.round(heardMsAgo / 1_000)} s`);
    }
  }
  if (clockOffsetMs !== null && Math.abs(clockOffsetMs) > clockOffsetMsMax) {
    findings.push(`its clock is ${clockOffsetMs} ms off ours`);
  }
  if (report !== null && drift.versionDiffers === true) {
    findings.push(`runs version ${report.version}, this node ${node.version}`);
  }
  if (drift.configurationDiffers === true) {
    findings.push('its configuration differs from ours in what should be the same');
  }
  if (drift.isDivergent) findings.push('its key state differs from ours at the same index');
  if (drift.lostLog === true) {
    findings.push(
      'its log ends before what it once acknowledged (wiped or rolled-back disk): remove it and add it again',
    );
  }
  return {
    name: member.name,
    memberId: member.memberId,
    address: member.address,
    status: member.status,
    isLeader: raft.leader === member.memberId,
    isSelf,
    matchIndex: progress?.matchIndex ?? null,
    version: isSelf ? node.version : (report?.version ?? null),
    appliedIndex: isSelf ? raft.appliedIndex : (report?.appliedIndex ?? null),
    servingAppliedIndex: report?.servingAppliedIndex ?? null,
    readyServingProcesses: isSelf ? context.fleet().ready : (report?.readyServingProcesses ?? null),
    heardMsAgo,
    clockOffsetMs,
    findings,
  };
}

export function clusterStatus(context: AdminContext): ClusterStatus {
  const { cluster, node, state } = context;
  const { raft, halted, snapshotIndex } = cluster.status();
  const members = [...state.members()].map((member) => describeMember(context, member));
  // Of one that nothing is known of here, a node that is joining knows the id at least.
  const leader = members.find(({ isLeader }) => isLeader)?.name ?? raft.leader;
  const degraded = clusterFindings(context);
  if (members.length === 0 && raft.role === 'leader' && state.cluster() !== null) {
    degraded.push(
      'this cluster of one was made by a release that knew no members: `xksctl cluster upgrade --finalize`',
    );
  }
  degraded.push(...members.flatMap(({ name, findings }) => findings.map((finding) => `${name}: ${finding}`)));
  for (const { name, status } of members) {
    if (status === 'learner')
      degraded.push(`${name} is a learner: \`xksctl cluster promote ${name}\` once it has caught up`);
    if (status === 'invited') degraded.push(`${name} has not joined yet`);
  }
  const pending = [...state.pending()].length;
  if (pending > 0) {
    const waits = pending === 1 ? '1 grant waits' : `${pending} grants wait`;
    degraded.push(
      `${waits} for a decision since a recovery, out of force meanwhile (\`xksctl cluster pending list\`)`,
    );
  }
  const voters = members.filter(({ status }) => status === 'voter').length;
  if (voters === 2)
    degraded.push('two voters: with one of them down no change can be made; have three or five');
  return {
    node: node.name,
    clusterId: cluster.clusterId,
    memberId: cluster.memberId,
    role: raft.role,
    leader,
    term: raft.term,
    commitIndex: raft.commitIndex,
    appliedIndex: raft.appliedIndex,
    snapshotIndex,
    stateHash: cluster.stateHash(),
    activeFormat: state.activeFormat(),
    freshnessAgeMs: freshnessAgeMs(context.cluster),
    halted,
    members,
    formerMembers: [...state.formerMembers()].map(({ name, memberId, removedAtMs, reason, destroyed }) => ({
      name,
      memberId,
      removedAtMs,
      reason,
      destroyed,
    })),
    degraded,
  };
}
