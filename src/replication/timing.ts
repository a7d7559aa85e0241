import type { StateMachine } from './ordered-log.js';

/** The times by which an engine goes. All members should have the same; a change reaches them one after the other. */
export interface Timing {
  /** Milliseconds between calls of `ReplicationLoop.tick`. */
  readonly tickMs: number;
  /** See `RaftOptions`. */
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  /** Between two freshness rounds. */
  readonly freshnessIntervalMs: number;
}

/** The times in force: those of the applied state, or those given where it says nothing. They change over time. */
export class AppliedTiming implements Timing {
  readonly #stateMachine: Pick<StateMachine<unknown>, 'timing'>;
  readonly #unlessSaid: Timing;
  #current: Timing;

  constructor(stateMachine: Pick<StateMachine<unknown>, 'timing'>, unlessSaid: Timing) {
    this.#stateMachine = stateMachine;
    this.#unlessSaid = unlessSaid;
    this.#current = unlessSaid;
    this.refresh();
  }

  get tickMs(): number {
    return this.#current.tickMs;
  }

  get electionTicks(): number {
    return this.#current.electionTicks;
  }

  get heartbeatTicks(): number {
    return this.#current.heartbeatTicks;
  }

  get freshnessIntervalMs(): number {
    return this.#current.freshnessIntervalMs;
  }

  /** Asks the state machine; whether they are others than before. */
  refresh(): boolean {
    const said = this.#stateMachine.timing?.() ?? this.#unlessSaid;
    const { tickMs, electionTicks, heartbeatTicks, freshnessIntervalMs } = said;
    if (
      tickMs === this.tickMs &&
      electionTicks === this.electionTicks &&
      heartbeatTicks === this.heartbeatTicks &&
      freshnessIntervalMs === this.freshnessIntervalMs
    ) {
      return false;
    }
    // A copy: what the state machine hands out may be its own.
    this.#current = { tickMs, electionTicks, heartbeatTicks, freshnessIntervalMs };
    return true;
  }
}
