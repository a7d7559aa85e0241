import type { Member } from '../keystate/cluster-types.js';
import type { AdminContext } from './admin-context.js';
import type { AdminResponse } from './admin-contract.js';

type ClusterStatus = AdminResponse<'cluster.status'>;
type MemberStatus = ClusterStatus['members'][number];

/** Reports come every second. */
const silentAfterMs = 5_000;
const clockOffsetMsMax = 1_000;

export function describeMember(context: AdminContext, member: Member): MemberStatus {
  const { cluster, clock, node } = context;
  const { raft, reports, divergent } = cluster.status();
  const isSelf = member.memberId === cluster.memberId;
  const heard = reports.find(({ memberId }) => memberId === member.memberId);
  const progress = raft.progress.find(({ memberId }) => memberId === member.memberId);
  const heardMsAgo = heard === undefined ? null : cluster.bootTimeMs() - heard.receivedAtMs;
  const clockOffsetMs =
    heard === undefined || heardMsAgo === null
      ? null
      : Math.round(heard.report.wallMs + heardMsAgo - clock.wallMs());
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
  if (heard !== undefined && heard.report.version !== node.version) {
    findings.push(`runs version ${heard.report.version}, this node ${node.version}`);
  }
  if (heard !== undefined && heard.report.configHash !== cluster.configHash) {
    findings.push('its configuration differs from ours in what should be the same');
  }
  if (divergent.includes(member.memberId)) findings.push('its key state differs from ours at the same index');
  if (progress?.lostAcknowledged === true) {
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
    version: isSelf ? node.version : (heard?.report.version ?? null),
    appliedIndex: isSelf ? raft.appliedIndex : (heard?.report.appliedIndex ?? null),
    servingAppliedIndex: heard?.report.servingAppliedIndex ?? null,
    readyServingProcesses: isSelf ? context.fleet().ready : (heard?.report.readyServingProcesses ?? null),
    heardMsAgo,
    clockOffsetMs,
    findings,
  };
}

export function clusterStatus(context: AdminContext): ClusterStatus {
  const { cluster, node, state } = context;
  const { raft, freshAsOfMs, halted, snapshotIndex } = cluster.status();
  const members = [...state.members()].map((member) => describeMember(context, member));
  const leader = members.find(({ isLeader }) => isLeader)?.name ?? null;
  const degraded = members.flatMap(({ name, findings }) => findings.map((finding) => `${name}: ${finding}`));
  if (halted !== null) degraded.unshift(`replication has stopped on this node: ${halted}`);
  if (leader === null) {
    degraded.unshift('no leader is known here: no change can be made, and this node serves by what it has');
  }
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
    freshnessAgeMs: freshAsOfMs === null ? null : Math.max(0, Math.round(cluster.bootTimeMs() - freshAsOfMs)),
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
