import type { MemberId, Message } from '../../../src/raft/types.js';
import type { Verdict } from './verdict.js';

/** Election Safety (paper, figure 3): at most one leader a term. Known by what only leaders say. */
export class OneLeaderPerTerm {
  readonly #verdict: Verdict;
  readonly #leaders = new Map<number, MemberId>();

  constructor(verdict: Verdict) {
    this.#verdict = verdict;
  }

  /** @returns whether this is the first that is heard of this leader. */
  leads(term: number, member: MemberId): boolean {
    const known = this.#leaders.get(term);
    if (known === member) return false;
    if (known === undefined) {
      this.#leaders.set(term, member);
      return true;
    }
    this.#verdict.broken('one leader per term', `${known} and ${member} both lead term ${term}`);
    return false;
  }

  static speaksAsLeader(message: Message): boolean {
    const { kind } = message;
    return kind === 'append' || kind === 'heartbeat' || kind === 'snapshot' || kind === 'timeoutNow';
  }
}
