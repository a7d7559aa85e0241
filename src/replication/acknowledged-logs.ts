import { roundOf } from '../raft/heartbeat.js';
import type { MemberId, Message } from '../raft/types.js';

/** Members watched at once. */
const watchedMembersMax = 64;

interface Watched {
  /** Committed, and durable there: it acknowledged it. */
  floorIndex: number;
  /** A heartbeat not answered yet, and the floor as it was when that was sent. */
  witness: { readonly term: number; readonly round: number; readonly floorIndex: number } | null;
}

export interface LostLog {
  readonly memberId: MemberId;
  readonly lastIndex: number;
  readonly acknowledgedIndex: number;
}

/**
 * Watches for members whose log ends before committed entries that they acknowledged in our lifetime, to us as leader of
 * whatever term or in a report: a disk that was wiped or rolled back (replication.md, _Identity_). An uncommitted end of
 * a log may be cut off by a new leader, so only committed entries count; and answers may be late or overtaken, so
 * only that to a heartbeat counts which was sent when those entries were acknowledged already. (The core asks the same
 * within one term: `PeerProgress.lostAcknowledged`.)
 */
export class AcknowledgedLogs {
  readonly #members = new Map<MemberId, Watched>();

  /** A member said that it applied up to `appliedIndex`. */
  applied(memberId: MemberId, appliedIndex: number): void {
    this.#raise(memberId, appliedIndex);
  }

  /** An answer of this term. `commitIndex`: ours. */
  appended(message: Extract<Message, { kind: 'appendResponse' }>, commitIndex: number): void {
    if (!message.rejected) this.#raise(message.from, Math.min(message.index, commitIndex));
  }

  heartbeatSent({ to, term, readId }: Extract<Message, { kind: 'heartbeat' }>): void {
    const watched = this.#members.get(to);
    if (watched === undefined || watched.witness?.term === term) return;
    watched.witness = { term, round: roundOf(readId), floorIndex: watched.floorIndex };
  }

  /** What is lost, if anything. */
  heartbeatAnswered(message: Extract<Message, { kind: 'heartbeatResponse' }>): LostLog | null {
    const { from: memberId, term, readId, lastIndex } = message;
    const watched = this.#members.get(memberId);
    const witness = watched?.witness ?? null;
    if (watched === undefined || witness?.term !== term || roundOf(readId) < witness.round) return null;
    watched.witness = null;
    const { floorIndex } = witness;
    return lastIndex < floorIndex ? { memberId, lastIndex, acknowledgedIndex: floorIndex } : null;
  }

  retain(members: ReadonlySet<MemberId>): void {
    for (const memberId of [...this.#members.keys()]) {
      if (!members.has(memberId)) this.#members.delete(memberId);
    }
  }

  #raise(memberId: MemberId, index: number): void {
    const watched = this.#members.get(memberId);
    if (watched !== undefined) watched.floorIndex = Math.max(watched.floorIndex, index);
    else if (this.#members.size < watchedMembersMax) {
      this.#members.set(memberId, { floorIndex: index, witness: null });
    }
  }
}
