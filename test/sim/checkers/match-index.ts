import type { MemberId, RaftStatus } from '../../../src/raft/types.js';
import type { ObservedLog } from './observed-log.js';
import type { Verdict } from './verdict.js';

/**
 * What a leader counts another member for (paper, figure 2: `matchIndex`) is on that member's disk: it rests on answers
 * of the leader's own term (§5.1), and within that term nobody else can have cut that log.
 */
export class MatchIndex {
  readonly #verdict: Verdict;

  constructor(verdict: Verdict) {
    this.#verdict = verdict;
  }

  /**
   * @param log of each member, as seen at its disk.
   * @param excused members whose disk was taken from them.
   */
  holds(
    { memberId, role, term, progress }: RaftStatus,
    log: (member: MemberId) => ObservedLog,
    excused: (member: MemberId) => boolean,
  ): void {
    if (role !== 'leader') return;
    const own = log(memberId);
    for (const { memberId: member, matchIndex } of progress) {
      if (member === memberId || matchIndex === 0 || excused(member)) continue;
      const theirs = log(member);
      // It went on without this leader, which has yet to hear of it.
      if (theirs.pendingHardState.term > term) continue;
      const problem = matchProblem(own, theirs, matchIndex);
      if (problem !== null) {
        this.#verdict.broken(
          'match index',
          `${memberId}, leader of term ${term}, counts ${member} for index ${matchIndex}, ${problem}`,
        );
      }
    }
  }
}

function matchProblem(own: ObservedLog, theirs: ObservedLog, matchIndex: number): string | null {
  if (matchIndex > theirs.lastIndex) return `whose log ends at ${theirs.lastIndex}`;
  const [ours, found] = [own.termAt(matchIndex), theirs.termAt(matchIndex)];
  // What is compacted is committed, and cannot be compared.
  if (ours === null || found === null || ours === found) return null;
  return `which has an entry of term ${found} there, and the leader one of term ${ours}`;
}
