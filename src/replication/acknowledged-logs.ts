import type { MemberId, Message } from '../raft/types.js';

/** Members watched at once. */
const watchedMembersMax = 64;

interface Watched {
  /** Committed, and durable there: it acknowledged it. */
  floorIndex: number;
  /** Since when all its answers said that its log ends before. */
  shortSinceTick: number | null;
}

export interface LostLog {
  readonly memberId: MemberId;
  readonly lastIndex: number;
  readonly acknowledgedIndex: number;
}

/**
 * Watches for members whose log ends before committed entries that they acknowledged in our lifetime: a disk that was
 * wiped or rolled back (replication.md, _Identity_). An uncommitted end of a log may be cut off by a new leader, and
 * messages may be overtaken; so only committed entries count, and only if no answer says otherwise for a while.
 */
export class AcknowledgedLogs {
  readonly #confirmTicks: number;
  readonly #members = new Map<MemberId, Watched>();

  constructor(confirmTicks: number) {
    this.#confirmTicks = confirmTicks;
  }

  /** A member said that it applied up to `appliedIndex`. */
  applied(memberId: MemberId, appliedIndex: number): void {
    const watched = this.#watched(memberId);
    if (watched !== null && appliedIndex > watched.floorIndex) watched.floorIndex = appliedIndex;
  }

  /** An answer of this term; what is lost, if anything. `commitIndex`: ours. */
  answered(
    message: Extract<Message, { kind: 'appendResponse' | 'heartbeatResponse' }>,
    commitIndex: number,
    tick: number,
  ): LostLog | null {
    const memberId = message.from;
    const watched = this.#watched(memberId);
    if (watched === null) return null;
    const { lastIndex } = message;
    if (lastIndex >= watched.floorIndex) {
      watched.shortSinceTick = null;
      if (message.kind === 'appendResponse' && !message.rejected) {
        watched.floorIndex = Math.max(watched.floorIndex, Math.min(message.index, commitIndex));
      }
      return null;
    }
    watched.shortSinceTick ??= tick;
    if (tick - watched.shortSinceTick < this.#confirmTicks) return null;
    return { memberId, lastIndex, acknowledgedIndex: watched.floorIndex };
  }

  retain(members: ReadonlySet<MemberId>): void {
    for (const memberId of [...this.#members.keys()]) {
      if (!members.has(memberId)) this.#members.delete(memberId);
    }
  }

  #watched(memberId: MemberId): Watched | null {
    const found = this.#members.get(memberId);
    if (found !== undefined) return found;
    if (this.#members.size >= watchedMembersMax) return null;
    const added: Watched = { floorIndex: 0, shortSinceTick: null };
    this.#members.set(memberId, added);
    return added;
  }
}
