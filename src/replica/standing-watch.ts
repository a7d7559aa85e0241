import type { Clock } from '../base/clock.js';
import type { KeyStateQueries } from '../keystate/types.js';
import type { Standing } from '../ops/state-link.js';
import type { LoopStatus } from '../replication/replication-loop.js';
import type { LastConfirmation } from './last-confirmation.js';
import { judgeStanding, type NodeStanding } from './standing.js';

/** Reports come every second: who was silent for so long is not counted as live (X-H2). */
const liveWithinMs = 5_000;
/** With a leader a confirmation takes a round, and the entries before it, each of which shows: ten rounds may fail. */
const stuckBesideLeaderAfterMs = 5_000;

export interface StandingWatchOptions {
  readonly state: () => KeyStateQueries;
  readonly replication: () => LoopStatus;
  readonly lastConfirmation: Pick<LastConfirmation, 'foundAtMs' | 'confirmed'>;
  readonly fence: string | null;
  readonly clock: Clock;
  /** Boot clock, ms. */
  readonly bootTimeMs: () => number;
}

/** Where this node stands in its cluster, from all that is known of it. */
export class StandingWatch {
  readonly #options: StandingWatchOptions;
  readonly #lastConfirmedAgeMs: number | null;
  #fence: string | null;
  #confirmed = false;
  /** The leader, and how far this node has come beside it; `null` while none is known. */
  #besideLeader: Pick<LoopStatus['raft'], 'leader' | 'term' | 'appliedIndex'> | null = null;
  /** Since when that has been so, boot clock. */
  #besideLeaderSinceMs = 0;
  #watcher: (standing: Standing) => void = () => {};

  constructor(options: StandingWatchOptions) {
    this.#options = options;
    this.#fence = options.fence;
    const { foundAtMs } = options.lastConfirmation;
    this.#lastConfirmedAgeMs = foundAtMs === null ? null : options.clock.wallMs() - foundAtMs;
  }

  /** Why this node must not serve, whatever it knows. */
  get fence(): string | null {
    return this.#fence;
  }

  /** Told of every change that `update` finds. */
  watch(watcher: (standing: Standing) => void): void {
    this.#watcher = watcher;
  }

  /** A quorum has confirmed this node's state. */
  confirmed(): void {
    const first = !this.#confirmed;
    this.#confirmed = true;
    this.#options.lastConfirmation.confirmed(this.#options.clock.wallMs());
    if (first) this.update();
  }

  /** This node was told that it is no member any more. */
  fenced(reason: string): void {
    this.#fence = reason;
    this.update();
  }

  standing(): NodeStanding {
    const isFenced = this.#fence !== null || this.#diverged() !== null;
    return { ...this.#judged(), fenced: isFenced };
  }

  /** Its state is not that of the others; one that halted for another reason serves on, as one that is cut off. */
  #diverged(): string | null {
    const { halted, divergent, raft } = this.#options.replication();
    return divergent.length > 0 || raft.lostAcknowledged ? halted : null;
  }

  #judged(): Standing {
    const { state, replication, bootTimeMs } = this.#options;
    const { reports } = replication();
    const nowMs = bootTimeMs();
    return judgeStanding({
      fence: this.#fence,
      diverged: this.#diverged(),
      unconfirmedBesideLeader: this.#isUnconfirmedBesideLeader(),
      confirmed: this.#confirmed,
      lastConfirmedAgeMs: this.#lastConfirmedAgeMs,
      serveStaleMaxMs: state().settings().serveStaleMaxMs,
      otherLiveNodes: reports.filter(
        ({ report, receivedAtMs }) =>
          report.readyServingProcesses > 0 && nowMs - receivedAtMs <= liveWithinMs,
      ).length,
    });
  }

  /** One that still receives what it lacks, or whose leader has changed, is not stuck: it gets the time anew. */
  #isUnconfirmedBesideLeader(): boolean {
    return (
      this.#besideLeader !== null &&
      this.#options.bootTimeMs() - this.#besideLeaderSinceMs > stuckBesideLeaderAfterMs
    );
  }

  /** To be called now and then: nodes come and go. */
  update(): void {
    const { leader, term, appliedIndex } = this.#options.replication().raft;
    const before = this.#besideLeader;
    const hasMoved =
      before === null ||
      before.leader !== leader ||
      before.term !== term ||
      before.appliedIndex !== appliedIndex;
    if (hasMoved) {
      this.#besideLeader = leader === null ? null : { leader, term, appliedIndex };
      this.#besideLeaderSinceMs = this.#options.bootTimeMs();
    }
    this.#watcher(this.#judged());
  }
}
