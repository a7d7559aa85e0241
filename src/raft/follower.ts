import type { Core } from './core.js';
import type { MemberId, Message } from './types.js';

type Append = Extract<Message, { kind: 'append' }>;
type Heartbeat = Extract<Message, { kind: 'heartbeat' }>;
type Snapshot = Extract<Message, { kind: 'snapshot' }>;

/** Entries follow `previous` without gaps, in terms that don't fall and aren't beyond the sender's. */
export function isWellFormedAppend({ previous, entries, term }: Append): boolean {
  let { index, term: termBefore } = previous;
  for (const entry of entries) {
    index += 1;
    if (entry.index !== index || entry.term < termBefore || entry.term > term) return false;
    termBefore = entry.term;
  }
  return true;
}

function accept(core: Core, to: MemberId, index: number): void {
  core.outbox.send({
    kind: 'appendResponse',
    to,
    term: core.currentTerm,
    index,
    rejected: false,
    hint: { index: 0, term: 0 },
    lastIndex: core.log.lastIndex,
  });
}

/** Paper §5.3, from the leader of this term. */
export function handleAppend(core: Core, message: Append): void {
  const { log } = core;
  // Until a snapshot is durable nothing may follow it: lost, as on the way here.
  if (log.pendingSnapshot !== null) return;
  const { previous, entries } = message;
  // What is committed is the same everywhere (paper §5.4.3), also where it is compacted here and can't be compared
  // (databendlabs/openraft#511): only what goes beyond is looked at.
  const known = Math.max(0, log.commitIndex - previous.index);
  if (known === 0 && !log.matches(previous)) {
    reject(core, message);
    return;
  }
  // A delayed append holds less than the log does by now; only a conflict cuts anything off (redpanda-data/redpanda#17731).
  log.append(entries, log.firstMissing(entries, Math.min(known, entries.length)));
  const lastVerified = Math.max(log.commitIndex, previous.index + entries.length);
  core.verifiedIndex = Math.max(core.verifiedIndex, lastVerified);
  // Never beyond what this very message proved to be the leader's (paper figure 2; atomix/copycat#265).
  log.commitTo(Math.min(message.commitIndex, lastVerified));
  accept(core, message.from, lastVerified);
}

/**
 * The hint lets the leader skip whole terms: above it, our terms are greater than that of `previous` and so can't be
 * in its log (paper §5.3, last paragraphs; thesis §3.5).
 */
function reject(core: Core, { from, previous }: Append): void {
  core.outbox.send({
    kind: 'appendResponse',
    to: from,
    term: core.currentTerm,
    index: previous.index,
    rejected: true,
    hint: core.log.lastWithTermUpTo(previous.index, previous.term),
    lastIndex: core.log.lastIndex,
  });
}

/**
 * What of the log is certainly the leader's. An entry of this term can only come from this term's leader, and brings
 * all before it (log matching, paper §5.3), also over a restart.
 */
function verifiedIndex(core: Core): number {
  return core.log.lastTerm === core.currentTerm
    ? core.log.lastIndex
    : Math.max(core.verifiedIndex, core.log.commitIndex);
}

export function handleHeartbeat(core: Core, message: Heartbeat): void {
  // A leader never tells more than what this member acknowledged in its term (etcd panics here: "Was the raft log
  // corrupted, truncated, or lost?").
  if (message.commitIndex > core.log.lastIndex) core.lostAcknowledged = true;
  core.log.commitTo(Math.min(message.commitIndex, verifiedIndex(core)));
  core.outbox.send({
    kind: 'heartbeatResponse',
    to: message.from,
    term: core.currentTerm,
    readId: message.readId,
    lastIndex: core.log.lastIndex,
  });
}

/** Paper §7. The snapshot itself has been carried here by the surroundings. */
export function handleSnapshot(core: Core, message: Snapshot): void {
  const { log } = core;
  const { position, membership } = message;
  if (position.index > log.commitIndex) {
    if (log.pendingSnapshot === null && log.matches(position)) {
      // All of it is here already: what follows it stays.
      core.verifiedIndex = Math.max(core.verifiedIndex, position.index);
      log.commitTo(position.index);
    } else {
      log.restore({ position, membership });
      core.tracker.setMembership(membership);
      core.verifiedIndex = position.index;
    }
  }
  accept(core, message.from, log.commitIndex);
}

/**
 * A leader of an earlier term: it is told of ours so that it steps down, for neither PreVote nor the disregard of
 * campaigns would ever tell it, or bring this member back (etcd-io/etcd#8501, #8243).
 */
export function answerFormerLeader(core: Core, message: Append | Heartbeat): void {
  core.outbox.send({
    kind: 'appendResponse',
    to: message.from,
    term: core.currentTerm,
    index: 0,
    rejected: true,
    hint: { index: 0, term: 0 },
    lastIndex: core.log.lastIndex,
  });
}
