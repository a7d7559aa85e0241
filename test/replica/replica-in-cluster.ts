import { createHash } from 'node:crypto';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import { commandFormatMax } from '../../src/keystate/command-format.js';
import type { NodeReport } from '../../src/replication/peer-message.js';
import type { PeerTransportStats } from '../../src/replication/transport/peer-transport.js';
import { TransportTally } from '../../src/replication/transport/transport-counters.js';
import { requestIdAt } from '../support/founded-cluster.js';
import type { ReplicaAtSeams } from './replica-at-seams.js';

const envelope = ({ log, now }: ReplicaAtSeams) => ({
  requestId: requestIdAt(now.wallMs, log.appliedIndex),
  atMs: now.wallMs,
  by: 'test',
});

/** `node-1` founds its cluster. */
export async function foundCluster(replica: ReplicaAtSeams): Promise<void> {
  const { log, cluster } = replica;
  await log.propose(
    encodeCommand({
      type: 'cluster.init',
      ...envelope(replica),
      clusterId: cluster.clusterId,
      nodeName: 'node-1',
      memberId: cluster.memberId,
      address: 'node-1:7443',
      format: commandFormatMax,
    }),
  );
}

/** @returns its member id. */
export async function joinMember(replica: ReplicaAtSeams, name: string): Promise<string> {
  const { log, now } = replica;
  const memberId = `id-${name}`;
  const joinSecretDigest = createHash('sha256').update(name).digest('hex');
  const address = `${name}:7443`;
  const expiresAtMs = now.wallMs + 3_600_000;
  for (const command of [
    { type: 'member.add', memberId, name, address, joinSecretDigest, expiresAtMs },
    { type: 'member.join', memberId, joinSecretDigest, address },
  ] as const) {
    await log.propose(encodeCommand({ ...envelope(replica), ...command }));
  }
  return memberId;
}

/** A report of this member has just come; of one like us but for `differences`. */
export function hear(
  { cluster, log, now }: ReplicaAtSeams,
  memberId: string,
  differences: Partial<NodeReport>,
): void {
  const report: NodeReport = {
    nodeName: memberId.replace('id-', ''),
    version: '0.0.0',
    formatMax: commandFormatMax,
    configHash: cluster.configHash,
    wallMs: now.wallMs,
    appliedIndex: log.appliedIndex,
    servingAppliedIndex: log.appliedIndex,
    readyServingProcesses: 2,
    stateHashes: [],
    ...differences,
  };
  const others = (cluster.loop.reports ?? []).filter((other) => other.memberId !== memberId);
  cluster.loop = {
    ...cluster.loop,
    reports: [...others, { memberId, receivedAtMs: cluster.nowMs, report }],
  };
}

/** Nothing sent or received yet, but for `tally`. */
export function peerStats(
  peers: readonly { readonly memberId: string; readonly connected: boolean }[],
  tally = new TransportTally(),
): PeerTransportStats {
  return {
    ...tally.snapshot(),
    peers: peers.map((peer) => ({ ...peer, queuedMessages: 0, queuedBytes: 0 })),
    inboundConnections: 0,
    inboundStreams: 0,
  };
}
