import type {
  Entry,
  HardState,
  LogPosition,
  MemberId,
  Message,
  RaftStatus,
} from '../../../src/raft/types.js';
import { Acknowledgements } from './acknowledgements.js';
import { ApplicationOrder } from './application-order.js';
import { CommittedEntries } from './committed-entries.js';
import { DurableState } from './durable-state.js';
import { ExactlyOnce } from './exactly-once.js';
import { LogMatching } from './log-matching.js';
import { MatchIndex } from './match-index.js';
import { emptyState, ObservedLog, type RecoveredState } from './observed-log.js';
import { OneLeaderPerTerm } from './one-leader-per-term.js';
import { StateHashes } from './state-hashes.js';
import type { Verdict } from './verdict.js';

/** Leaders that may still believe to be. */
const leadersWatchedMax = 4;

/**
 * All that is checked at every step, fed with what can be seen from outside: what replicas hand to their disks, what
 * they say, what they apply. Each check looks only at what has changed.
 */
export class SafetyCheckers {
  readonly acknowledgements: Acknowledgements;
  readonly exactlyOnce: ExactlyOnce;
  readonly committed: CommittedEntries;
  readonly #verdict: Verdict;
  readonly #leaders: OneLeaderPerTerm;
  readonly #matching: LogMatching;
  readonly #durable: DurableState;
  readonly #matchIndex: MatchIndex;
  readonly #hashes: StateHashes;
  readonly #order: ApplicationOrder;
  readonly #logs = new Map<MemberId, ObservedLog>();
  /** Newest last. */
  #watched: { readonly member: MemberId; readonly term: number }[] = [];

  constructor(verdict: Verdict) {
    this.#verdict = verdict;
    this.committed = new CommittedEntries(verdict);
    this.acknowledgements = new Acknowledgements(verdict, this.committed);
    this.exactlyOnce = new ExactlyOnce(verdict);
    this.#leaders = new OneLeaderPerTerm(verdict);
    this.#matching = new LogMatching(verdict);
    this.#durable = new DurableState(verdict);
    this.#matchIndex = new MatchIndex(verdict);
    this.#hashes = new StateHashes(verdict);
    this.#order = new ApplicationOrder(verdict);
  }

  /** Whoever spoke as leader last. */
  get newestLeader(): MemberId | null {
    return this.#watched.at(-1)?.member ?? null;
  }

  log(member: MemberId): ObservedLog {
    let log = this.#logs.get(member);
    if (log === undefined) {
      log = new ObservedLog(emptyState);
      this.#logs.set(member, log);
    }
    return log;
  }

  /** @param honest false when the disk was wiped or set back meanwhile. */
  recovered(member: MemberId, state: RecoveredState, honest: boolean): void {
    const known = this.#logs.get(member);
    if (known !== undefined && honest) this.#durable.recovered(member, known, state);
    if (!honest) this.#durable.forgotten(member);
    const log = new ObservedLog(state);
    this.#logs.set(member, log);
    this.#matching.appended(member, log, state.entries);
    this.#watched = this.#watched.filter((leader) => leader.member !== member);
    this.#order.starts(member, state.snapshot.index);
    this.#commits(member, log, 0, state.hardState.commitIndex);
  }

  persists(member: MemberId, entries: readonly Entry[], hardState: HardState | null): void {
    const log = this.log(member);
    const first = entries[0];
    if (first !== undefined) {
      const { commitIndex } = log.pendingHardState;
      if (first.index <= commitIndex || first.index > log.lastIndex + 1) {
        this.#verdict.broken(
          'durable log',
          `${member} writes entry ${first.index} to a log committed to ${commitIndex} that ends at ${log.lastIndex}`,
        );
      }
      log.append(entries);
      this.#matching.appended(member, log, entries);
    }
    if (hardState !== null) this.#hardState(member, log, hardState);
  }

  #hardState(member: MemberId, log: ObservedLog, hardState: HardState): void {
    this.#durable.persist(member, log, hardState);
    const { commitIndex } = log.pendingHardState;
    log.pendingHardState = hardState;
    this.#commits(member, log, commitIndex, hardState.commitIndex);
  }

  installs(member: MemberId, at: LogPosition, hardState: HardState | null): void {
    const log = this.log(member);
    const settled = { ...(hardState ?? log.pendingHardState), commitIndex: at.index };
    this.#durable.persist(member, log, settled);
    log.install(at);
    log.pendingHardState = settled;
  }

  synced(member: MemberId): void {
    this.log(member).synced();
  }

  #commits(member: MemberId, log: ObservedLog, after: number, upTo: number): void {
    if (upTo > log.lastIndex) {
      this.#verdict.broken(
        'state machine safety',
        `${member} takes index ${upTo} for committed; its log ends at ${log.lastIndex}`,
      );
    }
    for (let index = Math.max(after, log.base.index) + 1; index <= upTo; index += 1) {
      const entry = log.entry(index);
      if (entry === null || !this.committed.committed(member, log.pendingHardState.term, entry)) continue;
      for (const leader of this.#watched) {
        this.committed.leaderHolds(leader.member, leader.term, this.log(leader.member), entry);
      }
    }
  }

  says(message: Message): void {
    const { from } = message;
    const log = this.log(from);
    this.#durable.says(message, log);
    if (!OneLeaderPerTerm.speaksAsLeader(message)) return;
    if (!this.#leaders.leads(message.term, from)) return;
    this.committed.leader(from, message.term, log);
    const others = this.#watched.filter(({ member }) => member !== from);
    this.#watched = [...others.slice(1 - leadersWatchedMax), { member: from, term: message.term }];
  }

  /** Of a member that may lead. */
  counts(status: RaftStatus, excused: (member: MemberId) => boolean): void {
    this.#matchIndex.holds(status, (member) => this.log(member), excused);
  }

  /** `hash`: of the state after it. */
  applies(member: MemberId, index: number, command: Uint8Array | null, hash: number): void {
    this.#order.applies(member, index);
    const entry = this.log(member).entry(index);
    if (entry === null) {
      this.#verdict.broken('application order', `${member} applies ${index}, which its disk lacks`);
      return;
    }
    if (command !== null && entry.data !== command && Buffer.compare(entry.data, command) !== 0) {
      this.#verdict.broken(
        'state machine safety',
        `${member} applies another command at ${index} than its log has`,
      );
    }
    this.committed.committed(member, this.log(member).pendingHardState.term, entry);
    this.#hashes.reached(member, index, hash);
  }

  announces(member: MemberId, index: number): void {
    this.#order.announces(member, index);
  }

  /** A serving process has the state of `hash` as of `index`: one that replicas there have too. */
  servingState(process: string, index: number, hash: number): void {
    this.#hashes.reached(process, index, hash);
  }

  /** The state of `member` is now that of a snapshot. */
  restores(member: MemberId, index: number, hash: number): void {
    this.#order.starts(member, index);
    this.#hashes.reached(member, index, hash);
  }
}
