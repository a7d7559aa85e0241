import { invariant } from '../../src/base/guards.js';
import type { Entry, HardState, LogPosition, MemberId, Membership, Message } from '../../src/raft/types.js';
import type { AppliedEntry } from '../../src/replication/ordered-log.js';
import type { PeerMessage } from '../../src/replication/peer-message.js';
import type { ProposeOutcome } from '../../src/replication/proposals.js';
import {
  type LoopLimits,
  type LoopPorts,
  type PersistBatch,
  ReplicationLoop,
} from '../../src/replication/replication-loop.js';
import { LoopMachine } from './loop-machine.js';
import { SeededRandom } from './seeded-random.js';

export const loopLimits: LoopLimits = {
  tickMs: 100,
  electionTicks: 10,
  heartbeatTicks: 2,
  proposalsMax: 8,
  commandBytesMax: 64 * 1024,
  snapshotEntries: 1_000,
  snapshotBytes: 1024 * 1024 * 1024,
  freshnessIntervalMs: 500,
  reportIntervalMs: 500,
  stateHashInterval: 4,
};

export interface LoopNodeOptions {
  readonly memberId: MemberId;
  readonly founder: boolean;
  readonly nowMs: () => number;
  readonly send: (to: MemberId, message: PeerMessage) => void;
  readonly limits?: Partial<LoopLimits>;
}

/**
 * A loop with a disk in memory and everything that it told its surroundings. Its disk checks, at each call, that
 * nothing is sent or applied before what it rests upon is durable.
 */
export class LoopNode {
  readonly memberId: MemberId;
  readonly options: LoopNodeOptions;
  machine = new LoopMachine();
  loop: ReplicationLoop<string>;
  /** Set: writes wait for `finishWrites`. */
  slowDisk = false;
  /** Set: snapshots wait too. */
  slowSnapshots = false;
  /** What `persist` and its like were called with and have not answered. */
  readonly writes: (() => void)[] = [];

  hardState: HardState = { term: 0, votedFor: null, commitIndex: 0 };
  /** After `snapshot`. */
  entries: Entry[] = [];
  snapshot: LogPosition = { index: 0, term: 0 };
  records: readonly Uint8Array[] = [];

  readonly outcomes = new Map<string, ProposeOutcome<string>>();
  readonly reads = new Map<string, number | null>();
  readonly applied: AppliedEntry<string>[] = [];
  readonly restored: number[] = [];
  readonly fresh: (readonly [asOfMs: number, index: number])[] = [];
  readonly memberships: Membership[] = [];
  readonly halts: string[] = [];
  readonly warnings: string[] = [];
  readonly savedSnapshots: LogPosition[] = [];
  readonly batches: PersistBatch[] = [];
  /** After each application. */
  onApplied: (entry: AppliedEntry<string>) => void = () => {};
  readonly #random: SeededRandom;

  constructor(options: LoopNodeOptions) {
    this.memberId = options.memberId;
    this.options = options;
    let seed = 1;
    for (const character of options.memberId) seed = seed * 31 + character.charCodeAt(0);
    this.#random = new SeededRandom(seed);
    this.loop = this.#createLoop();
  }

  get lastDurable(): number {
    return this.entries.at(-1)?.index ?? this.snapshot.index;
  }

  get role(): string {
    return this.loop.status().raft.role;
  }

  /** The process dies: what is not durable is lost, and the loop is another. */
  restart(): void {
    this.loop.stop();
    this.writes.length = 0;
    this.applied.length = 0;
    this.machine = new LoopMachine();
    if (this.snapshot.index > 0) this.machine.restore(this.snapshot.index, this.records);
    this.loop = this.#createLoop();
    this.loop.start();
  }

  finishWrites(): void {
    for (const write of this.writes.splice(0)) write();
  }

  #createLoop(): ReplicationLoop<string> {
    const { memberId, founder, nowMs, limits = {} } = this.options;
    return new ReplicationLoop({
      memberId,
      founder,
      stateMachine: this.machine,
      recovered: { hardState: this.hardState, snapshot: this.snapshot, entries: [...this.entries] },
      limits: { ...loopLimits, ...limits },
      random: () => this.#random.integer(2 ** 30) / 2 ** 30,
      nowMs,
      report: () => ({
        nodeName: `node-${memberId}`,
        version: '1',
        formatMax: 1,
        configHash: '',
        wallMs: 0,
        servingAppliedIndex: 0,
        readyServingProcesses: 1,
      }),
      ports: this.#ports(),
    });
  }

  #write(slow: boolean, write: () => void): void {
    if (slow) this.writes.push(write);
    else write();
  }

  #ports(): LoopPorts<string> {
    return {
      persist: (ticket, batch) => {
        invariant(batch.entries.length > 0 || batch.hardState !== null, 'nothing to persist');
        this.batches.push(batch);
        this.#write(this.slowDisk, () => {
          this.#append(batch);
          this.loop.persisted(ticket);
        });
      },
      persistSnapshot: (ticket, at, records, hardState) => {
        this.#write(this.slowDisk, () => {
          this.snapshot = at;
          this.records = [...records];
          this.entries = [];
          if (hardState !== null) this.hardState = hardState;
          this.loop.persisted(ticket);
        });
      },
      saveSnapshot: (ticket, at, records) => {
        this.savedSnapshots.push(at);
        this.#write(this.slowSnapshots, () => {
          if (at.index > this.snapshot.index) {
            this.snapshot = at;
            this.records = [...records];
            this.entries = this.entries.filter(({ index }) => index > at.index);
          }
          this.loop.snapshotSaved(ticket);
        });
      },
      send: (to, message) => {
        if (message.kind === 'raft') this.#checkSent(message.message);
        this.options.send(to, message);
      },
      proposed: (proposalId, outcome) => {
        invariant(!this.outcomes.has(proposalId), `${proposalId} is settled twice`);
        this.outcomes.set(proposalId, outcome);
      },
      read: (readId, index) => {
        invariant(!this.reads.has(readId), `${readId} is answered twice`);
        this.reads.set(readId, index);
      },
      applied: (entry) => {
        invariant(entry.index <= this.lastDurable, `${entry.index} is applied before it is durable`);
        invariant(
          entry.index <= this.hardState.commitIndex,
          `${entry.index} is applied, its commit is not durable`,
        );
        this.applied.push(entry);
        this.onApplied(entry);
      },
      restored: (index) => {
        invariant(this.snapshot.index === index, `restored to ${index}, which is not durable`);
        this.restored.push(index);
      },
      fresh: (asOfMs, index) => {
        invariant(index <= this.machine.index, `fresh as of ${index}, which is not applied`);
        this.fresh.push([asOfMs, index]);
      },
      membershipChanged: (membership) => this.memberships.push(membership),
      halted: (reason) => this.halts.push(reason),
      warn: (message) => this.warnings.push(message),
    };
  }

  #append({ entries, hardState }: PersistBatch): void {
    const [first] = entries;
    if (first !== undefined) {
      invariant(first.index <= this.lastDurable + 1 && first.index > this.snapshot.index, 'a gap in the log');
      this.entries = [...this.entries.filter(({ index }) => index < first.index), ...entries];
    }
    if (hardState !== null) this.hardState = hardState;
  }

  /** Paper §5, figure 2: durable before responding. */
  #checkSent(message: Message): void {
    const { term, votedFor } = this.hardState;
    const preVote = message.kind === 'preVote' || message.kind === 'preVoteResponse';
    invariant(
      preVote || message.term <= term,
      `a ${message.kind} of term ${message.term}, durable is ${term}`,
    );
    // Of a term that is over, and durably so: it is no promise any more.
    if (message.term < term) return;
    if (message.kind === 'append') {
      invariant(
        (message.entries.at(-1)?.index ?? 0) <= this.lastDurable,
        'an entry is sent before it is durable',
      );
    } else if (message.kind === 'appendResponse' && !message.rejected) {
      invariant(message.index <= this.lastDurable, `${message.index} is acknowledged before it is durable`);
    } else if (message.kind === 'voteResponse' && message.granted) {
      invariant(votedFor === message.to, 'a vote is granted before it is durable');
    }
  }
}
