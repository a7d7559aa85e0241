import type { Core } from './core.js';
import { broadcastHeartbeat } from './heartbeat.js';
import type { MemberId } from './types.js';

/** Reads under way at a member, of its own and of others. More are answered with "not now". */
const readsMax = 4096;

export interface ReadAnswer {
  readonly readId: string;
  readonly index: number | null;
}

interface HeldRead {
  readonly readId: string;
  /** `null`: asked here. */
  readonly from: MemberId | null;
}

interface RegisteredRead extends HeldRead {
  readonly index: number;
  /** Confirmed once a majority has answered this heartbeat round, which was sent after the read was asked. */
  readonly round: number;
}

/** Reads that are under way (thesis §6.4). */
export interface Reads {
  /** At the leader: asked before an entry of its term is committed, so that its commit index may still be behind. */
  held: HeldRead[];
  /** At the leader: waiting for their round, oldest first. */
  registered: RegisteredRead[];
  /** At a follower: asked of the leader and not answered. */
  readonly forwarded: Set<string>;
  answers: ReadAnswer[];
}

export const noReads = (): Reads => ({ held: [], registered: [], forwarded: new Set(), answers: [] });

const leaderReads = (reads: Reads): number => reads.held.length + reads.registered.length;

/** `from` null: asked here. */
export function askReadIndex(core: Core, from: MemberId | null, readId: string): void {
  const { reads } = core;
  const read: HeldRead = { readId, from };
  if (core.role === 'leader') {
    const known = from === null || core.tracker.peer(from) !== undefined;
    if (!known || leaderReads(reads) >= readsMax) answer(core, read, null);
    else if (core.hasCommittedInTerm()) register(core, read);
    else reads.held.push(read);
    return;
  }
  // Forwarded once, by the one who asks.
  const forwardable = from === null && core.leader !== null && reads.forwarded.size < readsMax;
  if (!forwardable || core.leader === null) {
    answer(core, read, null);
    return;
  }
  reads.forwarded.add(readId);
  core.outbox.send({ kind: 'readIndex', to: core.leader, term: core.currentTerm, readId });
}

function register(core: Core, read: HeldRead): void {
  // A round whose heartbeats have not left yet is as good as a new one: whoever answers it does so later than now.
  // Rounds are ours and never come again, whatever ids callers choose (etcd-io/etcd#20418).
  if (!core.roundOpen) broadcastHeartbeat(core);
  core.reads.registered.push({ ...read, index: core.log.commitIndex, round: core.heartbeatRound });
  confirmReads(core);
}

/** Answers the reads whose round a majority has answered: nobody else can have led when they were asked. */
export function confirmReads(core: Core): void {
  const { reads } = core;
  if (reads.registered.length === 0) return;
  const round = core.tracker.quorumRound(core.heartbeatRound);
  let confirmed = 0;
  for (const read of reads.registered) {
    if (read.round > round) break;
    answer(core, read, read.index);
    confirmed += 1;
  }
  if (confirmed > 0) reads.registered.splice(0, confirmed);
}

/** An entry of this term is committed: the commit index holds all that was ever acknowledged (paper §8). */
export function releaseHeldReads(core: Core): void {
  if (core.reads.held.length === 0) return;
  const { held } = core.reads;
  core.reads.held = [];
  for (const read of held) register(core, read);
}

/** Leadership is lost, or the leader that was asked isn't known to lead any more. */
export function abandonReads(core: Core): void {
  const { reads } = core;
  if (leaderReads(reads) > 0) {
    const lost = [...reads.held, ...reads.registered];
    reads.held = [];
    reads.registered = [];
    for (const read of lost) answer(core, read, null);
  }
  if (reads.forwarded.size > 0) {
    for (const readId of reads.forwarded) reads.answers.push({ readId, index: null });
    reads.forwarded.clear();
  }
}

/** From the leader, to one that was forwarded. Each is taken once. */
export function handleReadIndexResponse(core: Core, readId: string, index: number | null): void {
  if (core.reads.forwarded.delete(readId)) core.reads.answers.push({ readId, index });
}

function answer(core: Core, { readId, from }: HeldRead, index: number | null): void {
  if (from === null) core.reads.answers.push({ readId, index });
  else core.outbox.send({ kind: 'readIndexResponse', to: from, term: core.currentTerm, readId, index });
}
