import type { Result } from '../base/result.js';
import type { LogPosition, MemberId, ProposeError } from '../raft/types.js';
import { proposeErrorText } from './proposals.js';

/** Answers remembered by a leader, so that a repeated message finds the one it got. */
const forwardedAnswersMax = 16_384;

export interface ForwardAnswer {
  readonly position: LogPosition | null;
  readonly reason: string;
}

/**
 * The id of a forwarded proposal. It names the term of the leader it is meant for, and no leader of another term takes
 * it: a message that is delivered twice, or late, can't be appended twice, although a leader forgets its answers when
 * it restarts (it never leads the same term again).
 */
export function forwardedId(term: number, uniqueId: string): string {
  return `${term}/${uniqueId}`;
}

function termOf(proposalId: string): number | null {
  const digits = /^(\d{1,15})\//.exec(proposalId)?.[1];
  return digits === undefined ? null : Number(digits);
}

/** What other members sent here, to the leader, to be appended: each at most once. */
export class ForwardedProposals {
  #term = 0;
  readonly #answers = new Map<string, ForwardAnswer>();

  take(
    from: MemberId,
    proposalId: string,
    currentTerm: number,
    append: () => Result<LogPosition, ProposeError>,
  ): ForwardAnswer {
    if (termOf(proposalId) !== currentTerm) {
      return { position: null, reason: 'it was meant for the leader of another term' };
    }
    if (this.#term !== currentTerm) {
      this.#term = currentTerm;
      this.#answers.clear();
    }
    const key = `${from}/${proposalId}`;
    const before = this.#answers.get(key);
    if (before !== undefined) return before;
    const appended = append();
    const answer: ForwardAnswer = appended.ok
      ? { position: appended.value, reason: '' }
      : { position: null, reason: proposeErrorText(appended.error) };
    this.#answers.set(key, answer);
    if (this.#answers.size > forwardedAnswersMax) {
      for (const oldest of this.#answers.keys()) {
        this.#answers.delete(oldest);
        break;
      }
    }
    return answer;
  }
}
