import { errorText } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import type { Entry, LogPosition, MemberId, Membership } from '../raft/types.js';
import type { AppliedEntry, Restoration, StateMachine } from './ordered-log.js';

const noBytes = new Uint8Array(0);

function sameMembers(left: readonly MemberId[], right: readonly MemberId[]): boolean {
  return left.length === right.length && left.every((member, place) => member === right[place]);
}

/** Brings committed entries to the state machine, and knows who the members are by what is applied. */
export class Applier<R> {
  readonly #stateMachine: StateMachine<R>;
  /** Who the members are while no command has said so. */
  readonly #initial: Membership;
  #position: LogPosition;
  #membership: Membership;

  constructor(stateMachine: StateMachine<R>, initial: Membership, position: LogPosition) {
    this.#stateMachine = stateMachine;
    this.#initial = initial;
    this.#position = position;
    this.#membership = initial;
    this.refreshMembership();
  }

  /** Of the last entry applied. */
  get position(): LogPosition {
    return this.#position;
  }

  get index(): number {
    return this.#position.index;
  }

  /** As of the last `refreshMembership`. */
  get membership(): Membership {
    return this.#membership;
  }

  /** An error is a bug, or an entry of a later version: what comes after it must not be applied either. */
  apply(entry: Entry): Result<AppliedEntry<R>, string> {
    const { index, term, kind, data } = entry;
    try {
      let result: R | null = null;
      if (kind === 'noop') this.#stateMachine.skip(index);
      else result = this.#stateMachine.apply(index, data);
      this.#position = { index, term };
      return ok({ index, command: kind === 'noop' ? noBytes : data, result });
    } catch (thrown) {
      return err(
        `entry ${index} of the log can't be applied, so this node stops there: ${errorText(thrown)}. Install the version of xksd that wrote it, or report this`,
      );
    }
  }

  restore(at: LogPosition, restoration: Restoration): Result<null, string> {
    try {
      restoration.finish(at.index);
      this.#position = at;
      return ok(null);
    } catch (thrown) {
      return err(
        `the snapshot as of index ${at.index} that the leader sent can't be taken, so this node stops there: ${errorText(thrown)}. Install the version of xksd that the leader runs, or report this`,
      );
    }
  }

  /** Asks the state machine; whether they are others than before. */
  refreshMembership(): boolean {
    const membership = this.#stateMachine.membership() ?? this.#initial;
    const { voters, learners } = this.#membership;
    if (sameMembers(membership.voters, voters) && sameMembers(membership.learners, learners)) return false;
    // A copy: what the state machine hands out may be its own.
    this.#membership = { voters: [...membership.voters], learners: [...membership.learners] };
    return true;
  }
}
