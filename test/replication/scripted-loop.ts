import type { RaftStatus } from '../../src/raft/types.js';
import type { DrivenLoop } from '../../src/replication/raft-log.js';
import type { LoopOptions, LoopStatus } from '../../src/replication/replication-loop.js';
import type { Timing } from '../../src/replication/timing.js';

const raft: RaftStatus = {
  memberId: 'member-1',
  role: 'follower',
  term: 0,
  votedFor: null,
  leader: null,
  commitIndex: 0,
  appliedIndex: 0,
  firstIndex: 1,
  lastIndex: 0,
  lastTerm: 0,
  membership: { voters: [], learners: [] },
  progress: [],
  transferee: null,
  lostAcknowledged: false,
};

/** In place of the loop, to test its surroundings: notes what it is told, and does what a test says through `options.ports`. */
export class ScriptedLoop implements DrivenLoop<number> {
  readonly options: LoopOptions<number>;
  readonly calls: unknown[][] = [];
  /** By the name of the call: what is done within it. */
  readonly on: Record<string, ((...details: readonly never[]) => void) | undefined> = {};
  halted: string | null = null;
  timing: Timing;

  constructor(options: LoopOptions<number>) {
    this.options = options;
    this.timing = options.limits;
  }

  #note(...call: unknown[]): void {
    this.calls.push(call);
    const [name, ...details] = call;
    this.on[String(name)]?.(...(details as never[]));
  }

  start(): void {
    this.#note('start');
  }

  tick(): void {
    this.#note('tick');
  }

  receive(...details: Parameters<DrivenLoop<number>['receive']>): void {
    this.#note('receive', ...details);
  }

  propose(...details: Parameters<DrivenLoop<number>['propose']>): void {
    this.#note('propose', ...details);
  }

  readIndex(...details: Parameters<DrivenLoop<number>['readIndex']>): void {
    this.#note('readIndex', ...details);
  }

  persisted(ticket: number): void {
    this.#note('persisted', ticket);
  }

  snapshotSaved(ticket: number): void {
    this.#note('snapshotSaved', ticket);
  }

  unreachable(member: string): void {
    this.#note('unreachable', member);
  }

  transferLeadership(to: string): boolean {
    this.#note('transferLeadership', to);
    return to === 'member-2';
  }

  stop(): void {
    this.#note('stop');
  }

  status(): LoopStatus {
    return { raft, freshAsOfMs: null, snapshotIndex: 0, halted: this.halted, divergent: [], reports: [] };
  }
}
