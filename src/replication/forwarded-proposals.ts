import type { Result } from '../base/result.js';
import type { LogPosition, MemberId, ProposeError } from '../raft/types.js';
import { proposeErrorText } from './proposals.js';

/** Answers remembered, so that a repeated message finds the one it got: a copy that comes later than so many others does not. */
export const forwardedAnswersMax = 16_384;

export interface ForwardAnswer {
  /** `null`: it is in no log, and no copy of it ever will be. */
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

interface Remembered {
  readonly term: number;
  readonly answer: ForwardAnswer;
}

/** What other members sent here, to the leader, to be appended: each at most once. */
export class ForwardedProposals {
  /** Answers of this term and of those before may be missing below: what was taken then is not all known. */
  #forgottenTerm: number;
  readonly #answers = new Map<string, Remembered>();

  /** `startTerm`: this member's when it started. It may have led it, and remembers nothing of that. */
  constructor(startTerm: number) {
    this.#forgottenTerm = startTerm;
  }

  /**
   * `null`: there is nothing to say. Who refuses promises that it is in no log, and only one that is sure that it took
   * no copy before may do so; where it is not, the sender's time runs out and it knows that it doesn't know.
   */
  take(
    from: MemberId,
    proposalId: string,
    currentTerm: number,
    append: () => Result<LogPosition, ProposeError>,
  ): ForwardAnswer | null {
    const key = `${from}/${proposalId}`;
    const before = this.#answers.get(key);
    if (before !== undefined) return before.answer;
    const term = termOf(proposalId);
    // What this member will be in a later term, nobody knows.
    if (term === null || term > currentTerm) return null;
    const certain = term > this.#forgottenTerm;
    if (term < currentTerm) {
      return certain ? { position: null, reason: 'it was meant for the leader of another term' } : null;
    }
    const appended = append();
    if (!appended.ok && !certain) return null;
    const answer: ForwardAnswer = appended.ok
      ? { position: appended.value, reason: '' }
      : { position: null, reason: proposeErrorText(appended.error) };
    this.#remember(key, { term, answer });
    return answer;
  }

  #remember(key: string, remembered: Remembered): void {
    this.#answers.set(key, remembered);
    if (this.#answers.size <= forwardedAnswersMax) return;
    for (const [oldest, { term }] of this.#answers) {
      this.#answers.delete(oldest);
      this.#forgottenTerm = Math.max(this.#forgottenTerm, term);
      break;
    }
  }
}
