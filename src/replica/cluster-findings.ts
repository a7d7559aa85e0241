import type { Refusal, RefusalReason } from '../replication/transport/refusal.js';
import type { AdminContext } from './admin-context.js';
import { freshnessAgeMs } from './freshness-age.js';

type Observer = Pick<AdminContext, 'cluster' | 'state' | 'clock' | 'node'>;

/** Rounds are half a second apart: so old, and many have failed. */
const freshnessAgeMsMax = 10_000;
const certificateWarningMs = 30 * 86_400_000;

/** To join again, a node needs another member id, and so another data directory. */
const comeBack = 'to use this host again, empty its data directory, and add and join it anew';

const refusalTexts: Readonly<Record<RefusalReason, (ownName: string) => string>> = {
  removed: () => `refuses us: this node was removed from the cluster; ${comeBack}`,
  'other-cluster': () =>
    `refuses us: it went on in a recovered cluster, which left this node behind; ${comeBack}`,
  'foreign-cluster': () =>
    'answers as another cluster: it was initialised anew; remove it, empty it, add and join it',
  unknown: () =>
    'refuses us: it has not heard of this node. It may lag behind; if this lasts, compare `xksctl cluster status` on both',
  'wrong-name': (ownName) =>
    `refuses us: the certificate that this node shows is not that of ${ownName}; [cluster] certificate must name DNS:${ownName}`,
  'wrong-member': () =>
    'refuses us: whoever answers at its address is another member; look at [cluster] advertise of both, and at DNS',
  format: () =>
    'refuses us: it does not read the format of our messages; bring both nodes to the same release of xksd',
  malformed: () =>
    'refuses us: it cannot make sense of our messages; bring both nodes to the same release of xksd, and report this as a bug if they are',
};

const refusalText = (member: string, { reason }: Refusal, ownName: string): string =>
  `${member} ${refusalTexts[reason](ownName)}`;

/** What is wrong between this node and the others, gravest first. */
export function clusterFindings(observer: Observer): string[] {
  return [
    ...standingFindings(observer),
    ...joinFindings(observer),
    ...leaderFindings(observer),
    ...refusalFindings(observer),
    ...freshnessFindings(observer),
    ...certificateFindings(observer),
  ];
}

function standingFindings({ cluster }: Observer): string[] {
  const { halted } = cluster.status();
  const { mayServe, reason, fenced } = cluster.standing();
  const found: string[] = [];
  if (halted !== null) {
    const consequence = mayServe ? 'what it serves grows old' : 'it does not serve';
    found.push(`replication has stopped on this node: ${halted}; ${consequence}`);
  }
  if (!mayServe && reason !== halted) {
    found.push(fenced ? `fenced off: ${reason}` : `this node does not serve: ${reason}`);
  }
  return found;
}

/** Invited, and nothing of the log has come yet that says who the members are. */
function isJoining({ cluster, state }: Pick<Observer, 'cluster' | 'state'>): boolean {
  const { voters, learners } = cluster.status().raft.membership;
  for (const _ of state.members()) return false;
  return ![...voters, ...learners].includes(cluster.memberId);
}

function joinFindings(observer: Observer): string[] {
  const { cluster } = observer;
  if (!isJoining(observer) || cluster.standing().fenced) return [];
  const problem = cluster.joinProblem();
  if (problem !== null) return [`this node is not in the cluster yet, and is not let in: ${problem}`];
  // Only a member that counts it as one sends it anything.
  if (cluster.status().raft.leader !== null) {
    return ['this node was let in: it waits for the key state, which the leader is about to send'];
  }
  if (cluster.peerStats() === null) {
    return ['this node is not in the cluster yet, and has no way to it: its configuration has no [cluster]'];
  }
  return [
    'this node is not in the cluster yet: it waits for an answer of the members that its join token names, then for the leader to send the key state',
  ];
}

function leaderFindings(observer: Observer): string[] {
  const { cluster } = observer;
  if (cluster.status().raft.leader !== null || isJoining(observer)) return [];
  const consequence = cluster.standing().mayServe ? ', and this node serves by what it has' : '';
  return [`no leader is known here: no change can be made${consequence}`];
}

function refusalFindings({ cluster, state, node }: Observer): string[] {
  return [...cluster.refusals()].map(([memberId, refusal]) =>
    refusalText(state.member(memberId)?.name ?? `member ${memberId}`, refusal, node.name),
  );
}

function freshnessFindings({ cluster }: Observer): string[] {
  const ageMs = freshnessAgeMs(cluster);
  if (ageMs === null) return ['no quorum has confirmed the key state of this node since its replica started'];
  if (ageMs <= freshnessAgeMsMax) return [];
  return [`no quorum has confirmed the key state of this node for ${Math.round(ageMs / 1_000)} s`];
}

function certificateFindings({ cluster, clock }: Observer): string[] {
  if (cluster.peerStats() === null) return [];
  const notAfterMs = cluster.certificateNotAfterMs();
  if (notAfterMs === null) {
    return [
      "this node's cluster certificate, or its key or CA, cannot be used any more, and it goes on with what it read before; `xksd config check` says why, and a restart would fail",
    ];
  }
  const leftMs = notAfterMs - clock.wallMs();
  if (leftMs >= certificateWarningMs) return [];
  const days = Math.floor(leftMs / 86_400_000);
  const end = leftMs < 0 ? 'has ended' : days === 0 ? 'ends within a day' : `ends in ${days} d`;
  return [
    `this node's cluster certificate ${end} (${new Date(notAfterMs).toISOString()}): put a new one in its place, or the others stop talking to this node`,
  ];
}
