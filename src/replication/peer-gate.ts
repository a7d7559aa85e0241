import type { MemberId } from '../raft/types.js';
import type { Refusal, RefusalReason } from './transport/refusal.js';

/** Who we are, and who may speak to us. */
export interface MemberGate {
  readonly clusterId: string;
  readonly memberId: MemberId;
  /**
   * Whether `from` is a member of this cluster whose node has one of `names`, those of the certificate shown. Asked for
   * every message and call.
   */
  authorize(
    from: MemberId,
    names: readonly string[],
  ): { readonly ok: true } | { readonly ok: false; readonly reason: RefusalReason };
}

/** What a sender says of itself, and whom it takes the receiver for. */
export interface Introduction {
  readonly clusterId: string;
  readonly from: MemberId;
  readonly to: MemberId;
  /** In the certificate that was shown. */
  readonly names: readonly string[];
}

const refusedBecause = {
  removed: 'the member was removed from the cluster',
  'other-cluster': 'another cluster',
  'foreign-cluster': 'another cluster',
  unknown: 'no member of the cluster as known here',
  'wrong-name': "the certificate shown is not for the member's node",
  'wrong-member': 'another member',
  format: 'another format',
  malformed: 'malformed',
} as const satisfies Record<RefusalReason, string>;

/** Who is speaking (replication.md 7). `null`: one that may. */
export function refusalFor(gate: MemberGate, { clusterId, from, to, names }: Introduction): Refusal | null {
  const otherCluster = otherClusterRefusal(gate, { clusterId, from, names });
  if (otherCluster !== null) return otherCluster;
  const authorized = gate.authorize(from, names);
  if (!authorized.ok) {
    return { reason: authorized.reason, detail: `${refusedBecause[authorized.reason]} (member ${from})` };
  }
  if (to !== gate.memberId) return { reason: 'wrong-member', detail: `this is member ${gate.memberId}` };
  return null;
}

/** Also for one that has not come to be a member in its own eyes yet. `null`: it is of our cluster. */
export function otherClusterRefusal(
  gate: MemberGate,
  { clusterId, from, names }: Pick<Introduction, 'clusterId' | 'from' | 'names'>,
): Refusal | null {
  if (clusterId === gate.clusterId) return null;
  const authorized = gate.authorize(from, names);
  // Whom a recovery left behind is known here as a former member. A node that was emptied and made another cluster
  // knows nothing of the sender's, and must not fence off those that go on in it.
  const leftBehind = !authorized.ok && authorized.reason === 'removed';
  const reason = leftBehind ? 'other-cluster' : 'foreign-cluster';
  return { reason, detail: `this is cluster ${gate.clusterId}` };
}
