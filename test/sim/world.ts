import type { SafetyCheckers } from './checkers/safety.js';
import type { Verdict } from './checkers/verdict.js';
import { EventQueue } from './event-queue.js';
import type { History } from './history.js';
import type { MachineKind } from './machine-kind.js';
import type { Network } from './network.js';
import type { Random } from './random.js';
import type { Scenario } from './scenario.js';
import type { SimBuild } from './sim-build.js';
import type { Trace } from './trace.js';

/** What everything in one simulation shares. */
export class World {
  readonly scenario: Scenario;
  readonly build: SimBuild;
  readonly kind: MachineKind;
  readonly network: Network;
  readonly trace: Trace;
  readonly verdict: Verdict;
  /** Of the cluster that clients and operators speak to. */
  history: History;
  readonly queue = new EventQueue();
  /** Of disks, timers and replicas. */
  readonly random: Random;
  /** True time. */
  nowMs = 0;
  /** No more of `Faults`, nor of what it has set: what the network does goes on until all is healed. */
  faultsEnded = false;
  /** Nothing goes wrong any more, nothing is slow, and nobody asks for much. */
  healing = false;

  constructor(parts: {
    readonly scenario: Scenario;
    readonly build: SimBuild;
    readonly kind: MachineKind;
    readonly network: Network;
    readonly trace: Trace;
    readonly verdict: Verdict;
    readonly history: History;
    readonly random: Random;
  }) {
    this.scenario = parts.scenario;
    this.build = parts.build;
    this.kind = parts.kind;
    this.network = parts.network;
    this.trace = parts.trace;
    this.verdict = parts.verdict;
    this.history = parts.history;
    this.random = parts.random;
  }

  get checkers(): SafetyCheckers {
    return this.history.checkers;
  }

  /** @param slot of the node that it happens at, which must not be paused then; -1 for none. */
  after(delayMs: number, kind: string, slot: number, run: () => void): void {
    this.queue.push(this.nowMs + delayMs, kind, slot, run);
  }

  /** Between clients' operations. */
  get operationMeanMs(): number {
    const { operationMeanMs } = this.scenario;
    return this.healing ? Math.max(operationMeanMs, 50) : operationMeanMs;
  }

  get diskMeanMs(): number {
    const { diskMeanMs } = this.scenario;
    return this.healing ? Math.min(diskMeanMs, 2) : diskMeanMs;
  }

  /** Of proposals and reads. */
  get timeoutMs(): number {
    const { timeoutMs, limits } = this.scenario;
    return this.healing ? Math.max(timeoutMs, 2 * limits.electionTicks * limits.tickMs) : timeoutMs;
  }

  say(line: () => string): void {
    this.trace.say(this.nowMs, line);
  }
}
