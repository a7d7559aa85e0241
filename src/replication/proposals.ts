import { invariant } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import type { EntryKind, LogPosition, MemberId, ProposeError } from '../raft/types.js';
import type { AppliedEntry, ProposeFailure } from './ordered-log.js';
import { RecentEntries } from './recent-entries.js';

export type ProposedKind = Exclude<EntryKind, 'noop'>;
export type ProposeOutcome<R> = Result<AppliedEntry<R>, ProposeFailure>;

interface Waiting {
  readonly proposalId: string;
  readonly kind: ProposedKind;
  readonly command: Uint8Array;
  readonly deadlineMs: number;
}

/**
 * `idle`: in no log, as far as it went. `forwarded`: on its way to a leader, who may have appended it. `appended`: some
 * leader appended it at `position`.
 */
type Proposal = Waiting &
  (
    | { readonly stage: 'idle'; readonly reason: string; readonly retryAtTick: number }
    | { readonly stage: 'forwarded'; readonly to: MemberId; readonly forwardId: string }
    | { readonly stage: 'appended'; readonly position: LogPosition }
  );

export interface ProposalsOptions<R> {
  readonly proposalsMax: number;
  readonly commandBytesMax: number;
  /** Before a leader that refused is asked again. */
  readonly retryTicks: number;
  readonly append: (kind: ProposedKind, command: Uint8Array) => Result<LogPosition, ProposeError>;
  readonly term: () => number;
  /** An id never used before, for what is sent to the leader of this term. */
  readonly forwardId: () => string;
  readonly forward: (to: MemberId, forwardId: string, kind: ProposedKind, command: Uint8Array) => void;
  /** Each proposal's outcome, once. */
  readonly settle: (proposalId: string, outcome: ProposeOutcome<R>) => void;
}

/**
 * What was proposed here and is not settled yet. A proposal is given to one leader at most unless that one says it did
 * not take it and never will: no silence makes it be sent anew, or it could be in the log twice.
 */
export class Proposals<R> {
  readonly #options: ProposalsOptions<R>;
  readonly #all = new Map<string, Proposal>();
  readonly #idle = new Set<string>();
  readonly #forwarded = new Map<string, string>();
  /** Index → proposals appended there, of different terms if more than one. */
  readonly #appended = new Map<number, string[]>();
  readonly #recent = new RecentEntries<R>();
  #appliedIndex: number;
  #tick = 0;
  /** No deadline is before. */
  #earliestDeadlineMs = Number.POSITIVE_INFINITY;

  constructor(options: ProposalsOptions<R>, appliedIndex: number) {
    this.#options = options;
    this.#appliedIndex = appliedIndex;
  }

  /**
   * Keeps `command`.
   *
   * @param onlyTerm appended here in that term, or not taken, at once; `null`: given to whoever leads by `deadlineMs`.
   */
  add(
    proposalId: string,
    kind: ProposedKind,
    command: Uint8Array,
    deadlineMs: number,
    onlyTerm: number | null,
  ): void {
    const { proposalsMax, commandBytesMax, settle } = this.#options;
    invariant(!this.#all.has(proposalId), `proposal ${proposalId} is waiting already`);
    if (command.byteLength > commandBytesMax) {
      settle(proposalId, err({ kind: 'too-large' }));
      return;
    }
    if (this.#all.size >= proposalsMax) {
      settle(proposalId, err({ kind: 'overloaded' }));
      return;
    }
    if (deadlineMs < this.#earliestDeadlineMs) this.#earliestDeadlineMs = deadlineMs;
    const waiting = { proposalId, kind, command, deadlineMs };
    if (onlyTerm === null) this.#attempt(waiting);
    else this.#attemptHere(waiting, onlyTerm);
  }

  /** A leader's answer to `forwardId`. */
  answered(from: MemberId, forwardId: string, position: LogPosition | null, reason: string): void {
    const proposalId = this.#forwarded.get(forwardId);
    const proposal = proposalId === undefined ? undefined : this.#all.get(proposalId);
    if (proposal?.stage !== 'forwarded' || proposal.to !== from) return;
    this.#forwarded.delete(forwardId);
    const { proposalId: id, kind, command, deadlineMs } = proposal;
    const waiting = { proposalId: id, kind, command, deadlineMs };
    if (position === null) this.#wait(waiting, reason, this.#options.retryTicks);
    else this.#await(waiting, position);
  }

  /** Each entry, right after its application. */
  applied(term: number, entry: AppliedEntry<R>): void {
    this.#appliedIndex = entry.index;
    this.#recent.add(term, entry);
    if (this.#appended.size === 0) return;
    const proposalIds = this.#appended.get(entry.index);
    if (proposalIds === undefined) return;
    for (const proposalId of [...proposalIds]) {
      const proposal = this.#all.get(proposalId);
      if (proposal?.stage === 'appended') this.#settleByTerm(proposal, proposal.position, term, entry);
    }
  }

  /** A snapshot as of `index` replaced the log: what it holds of those jumped over, nobody can say. */
  restored(index: number): void {
    this.#appliedIndex = index;
    for (const proposal of [...this.#all.values()]) {
      if (proposal.stage !== 'appended' || proposal.position.index > index) continue;
      this.#fail(proposal, 'unknown', 'a snapshot from the leader was taken over before its entry was seen');
    }
  }

  tick(nowMs: number): void {
    this.#tick += 1;
    if (nowMs >= this.#earliestDeadlineMs) this.#expire(nowMs);
    if (this.#idle.size === 0) return;
    for (const proposalId of [...this.#idle]) {
      const proposal = this.#all.get(proposalId);
      if (proposal?.stage !== 'idle' || proposal.retryAtTick > this.#tick) continue;
      this.#idle.delete(proposalId);
      const { kind, command, deadlineMs } = proposal;
      this.#attempt({ proposalId, kind, command, deadlineMs });
    }
  }

  /** Settles all: `reason` as not taken where that is certain, else as `kind`. */
  close(kind: 'unknown' | 'closed', reason: string): void {
    for (const proposal of [...this.#all.values()]) {
      this.#fail(proposal, proposal.stage === 'idle' ? 'not-taken' : kind, reason);
    }
  }

  #attempt(waiting: Waiting): void {
    const { append, forwardId: newForwardId, forward, retryTicks, settle } = this.#options;
    const appended = append(waiting.kind, waiting.command);
    if (appended.ok) {
      this.#await(waiting, appended.value);
      return;
    }
    const { error } = appended;
    switch (error.kind) {
      case 'not-leader': {
        if (error.leader === null) {
          this.#wait(waiting, 'no leader is known', 1);
          return;
        }
        const forwardId = newForwardId();
        this.#all.set(waiting.proposalId, { ...waiting, stage: 'forwarded', to: error.leader, forwardId });
        this.#forwarded.set(forwardId, waiting.proposalId);
        forward(error.leader, forwardId, waiting.kind, waiting.command);
        return;
      }
      case 'overloaded':
        this.#all.delete(waiting.proposalId);
        settle(waiting.proposalId, err({ kind: 'overloaded' }));
        return;
      case 'transferring':
      case 'membership-pending':
        this.#wait(waiting, proposeErrorText(error), retryTicks);
        return;
    }
  }

  #attemptHere(waiting: Waiting, term: number): void {
    const { append, term: currentTerm, settle } = this.#options;
    const { proposalId, kind, command } = waiting;
    const appended: Result<LogPosition, ProposeError> =
      currentTerm() === term ? append(kind, command) : err({ kind: 'not-leader', leader: null });
    if (appended.ok) {
      this.#await(waiting, appended.value);
      return;
    }
    const { error } = appended;
    if (error.kind === 'overloaded') settle(proposalId, err({ kind: 'overloaded' }));
    else {
      const reason = error.kind === 'membership-pending' ? membershipPendingText : leadLostText;
      settle(proposalId, err({ kind: 'not-taken', reason }));
    }
  }

  #wait(waiting: Waiting, reason: string, ticks: number): void {
    const retryAtTick = this.#tick + ticks;
    this.#all.set(waiting.proposalId, { ...waiting, stage: 'idle', reason, retryAtTick });
    this.#idle.add(waiting.proposalId);
  }

  #await(waiting: Waiting, position: LogPosition): void {
    const proposal: Proposal = { ...waiting, stage: 'appended', position };
    this.#all.set(waiting.proposalId, proposal);
    if (position.index > this.#appliedIndex) {
      const others = this.#appended.get(position.index);
      if (others === undefined) this.#appended.set(position.index, [waiting.proposalId]);
      else others.push(waiting.proposalId);
      return;
    }
    const found = this.#recent.find(position.index);
    if (found !== null) this.#settleByTerm(proposal, position, found.term, found.entry);
    else this.#fail(proposal, 'unknown', 'the leader answered long after that index was applied here');
  }

  /** Log matching (paper §5.3): index and term name one entry; where another is committed, this one never is. */
  #settleByTerm(proposal: Proposal, position: LogPosition, term: number, entry: AppliedEntry<R>): void {
    if (term !== position.term) {
      this.#fail(proposal, 'not-taken', 'the leader that took it was replaced before a quorum had it');
      return;
    }
    this.#forget(proposal);
    this.#options.settle(proposal.proposalId, ok(entry));
  }

  #expire(nowMs: number): void {
    let earliest = Number.POSITIVE_INFINITY;
    for (const proposal of [...this.#all.values()]) {
      if (proposal.deadlineMs > nowMs) {
        if (proposal.deadlineMs < earliest) earliest = proposal.deadlineMs;
      } else if (proposal.stage === 'idle') {
        this.#fail(proposal, 'not-taken', proposal.reason);
      } else if (proposal.stage === 'forwarded') {
        this.#fail(proposal, 'unknown', 'the leader it was sent to did not answer in time');
      } else {
        this.#fail(proposal, 'unknown', 'no quorum confirmed it in time');
      }
    }
    // What was added meanwhile, from `settle`, is in neither figure.
    for (const { deadlineMs } of this.#all.values()) if (deadlineMs < earliest) earliest = deadlineMs;
    this.#earliestDeadlineMs = earliest;
  }

  #fail(proposal: Proposal, kind: 'not-taken' | 'unknown' | 'closed', reason: string): void {
    this.#forget(proposal);
    this.#options.settle(proposal.proposalId, err({ kind, reason }));
  }

  #forget(proposal: Proposal): void {
    this.#all.delete(proposal.proposalId);
    this.#idle.delete(proposal.proposalId);
    if (proposal.stage === 'forwarded') this.#forwarded.delete(proposal.forwardId);
    if (proposal.stage !== 'appended') return;
    const others = this.#appended.get(proposal.position.index)?.filter((id) => id !== proposal.proposalId);
    if (others === undefined || others.length === 0) this.#appended.delete(proposal.position.index);
    else this.#appended.set(proposal.position.index, others);
  }
}

export const membershipPendingText = 'another change of the members is not done yet';

export const leadLostText = 'this node does not lead any more';

export function proposeErrorText(error: ProposeError): string {
  switch (error.kind) {
    case 'not-leader':
      return 'it was sent to a member that does not lead';
    case 'overloaded':
      return 'the leader has too much that waits for a quorum';
    case 'transferring':
      return 'leadership is being handed over';
    case 'membership-pending':
      return membershipPendingText;
  }
}
