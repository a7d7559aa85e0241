import type { Member } from '../keystate/cluster-types.js';
import type { NodeReport } from '../replication/peer-message.js';
import type { AdminContext } from './admin-context.js';

/** Whose view it is. */
export interface DriftObserver extends Pick<AdminContext, 'cluster' | 'clock'> {
  readonly node: { readonly version: string };
}

/** How a member differs from this node, as this node sees it. `null`: not known, or not of this member. */
export interface MemberDrift {
  readonly isSelf: boolean;
  /** Its last report; `null` when there was none since this replica started. */
  readonly report: NodeReport | null;
  /** Whole milliseconds since then. */
  readonly heardMsAgo: number | null;
  /** Its clock less ours; the way of a report counts as none. */
  readonly clockOffsetMs: number | null;
  readonly versionDiffers: boolean | null;
  readonly configurationDiffers: boolean | null;
  /** Its key state is not ours at the same index. */
  readonly isDivergent: boolean;
  /** Its log ends before what it once acknowledged: only the leader can tell. */
  readonly lostLog: boolean | null;
  /** It does not listen to this node. */
  readonly refuses: boolean;
}

export function memberDrift({ cluster, clock, node }: DriftObserver, { memberId }: Member): MemberDrift {
  const { raft, reports, divergent } = cluster.status();
  const heard = reports.find((one) => one.memberId === memberId);
  const heardMsAgo =
    heard === undefined ? null : Math.max(0, Math.round(cluster.bootTimeMs() - heard.receivedAtMs));
  const report = heard?.report ?? null;
  return {
    isSelf: memberId === cluster.memberId,
    report,
    heardMsAgo,
    clockOffsetMs:
      report === null || heardMsAgo === null ? null : Math.round(report.wallMs + heardMsAgo - clock.wallMs()),
    versionDiffers: report === null ? null : report.version !== node.version,
    configurationDiffers: report === null ? null : report.configHash !== cluster.configHash,
    isDivergent: divergent.includes(memberId),
    lostLog: raft.progress.find((one) => one.memberId === memberId)?.lostAcknowledged ?? null,
    refuses: cluster.refusals().has(memberId),
  };
}
