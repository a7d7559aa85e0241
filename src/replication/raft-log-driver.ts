import { errorText } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import type { MemberId } from '../raft/types.js';
import type { ClusterEngine } from './cluster-engine.js';
import type { DurableLog } from './durable-log.js';
import type { Recovered } from './log-recovery.js';
import { LogWriter } from './log-writer.js';
import type {
  AppliedEntry,
  LogSubscriber,
  OrderedLog,
  ProposeFailure,
  ProposeOptions,
  ReadFailure,
} from './ordered-log.js';
import type { PeerMessage } from './peer-message.js';
import { nullTransport, type PeerInbox, type PeerTransport } from './peer-transport.js';
import {
  closeWaitMsMax,
  proposeTimeoutMsDefault,
  raftLogLimits,
  readsMax,
  readTimeoutMsDefault,
} from './raft-log-limits.js';
import type { DrivenLoop, RaftLogOptions } from './raft-log-options.js';
import { type LoopLimits, type LoopPorts, type LoopStatus, ReplicationLoop } from './replication-loop.js';

type ProposeResult<R> = Result<AppliedEntry<R>, ProposeFailure>;
type ReadResult = Result<number, ReadFailure>;

/** The I/O around the loop: disk, timer, transport, and the promises of those who propose and read. */
export class RaftLog<R> implements OrderedLog<R>, ClusterEngine, PeerInbox {
  readonly memberId: MemberId;
  readonly clusterId: string;
  readonly #options: RaftLogOptions<R>;
  readonly #limits: LoopLimits;
  readonly #transport: PeerTransport;
  readonly #durableLog: DurableLog;
  readonly #writer: LogWriter;
  readonly #loop: DrivenLoop<R>;
  readonly #subscribers = new Set<LogSubscriber<R>>();
  readonly #proposals = new Map<string, (result: ProposeResult<R>) => void>();
  readonly #reads = new Map<string, (result: ReadResult) => void>();
  /** Calls of the loop that wait for the one under way: it is never entered twice. */
  readonly #inputs: (() => void)[] = [];
  /** Tells our ids from those of an earlier run of this member: answers to those may still arrive. */
  readonly #idPrefix: string;
  #ids = 0;
  #inLoop = false;
  #appliedIndex: number;
  #cancelTick: () => void = () => {};
  #onSettled: () => void = () => {};
  #failure: string | null = null;
  #closing: Promise<void> | null = null;
  /** Nothing goes into the loop any more. */
  #ended = false;

  constructor(options: RaftLogOptions<R>, durableLog: DurableLog, recovered: Recovered) {
    const { directory, stateMachine, random, bootTimeMs, report } = options;
    const { identity } = directory;
    this.memberId = identity.memberId;
    this.clusterId = identity.clusterId;
    this.#options = options;
    this.#limits = { ...raftLogLimits, ...options.limits };
    this.#transport = options.transport ?? nullTransport;
    this.#durableLog = durableLog;
    this.#writer = new LogWriter(durableLog, (message) => this.#fail(message));
    this.#idPrefix = Math.floor(random() * 2 ** 48).toString(36);
    const { index, term } = recovered.snapshot ?? { index: 0, term: 0 };
    this.#appliedIndex = index;
    const createLoop = options.createLoop ?? ((loopOptions) => new ReplicationLoop(loopOptions));
    this.#loop = createLoop({
      memberId: identity.memberId,
      founder: identity.role === 'founder',
      stateMachine,
      recovered: {
        hardState: recovered.hardState,
        snapshot: { index, term },
        entries: recovered.entries,
      },
      limits: this.#limits,
      random,
      nowMs: bootTimeMs,
      report,
      ports: this.#ports(),
    });
  }

  start(): void {
    this.#input(() => this.#loop.start());
    this.#scheduleTick();
  }

  get appliedIndex(): number {
    return this.#appliedIndex;
  }

  propose(command: Uint8Array, options: ProposeOptions = {}): Promise<ProposeResult<R>> {
    const refusal = this.#refusal(command);
    if (refusal !== null) return Promise.resolve(err(refusal));
    const kind = options.membership === true ? 'membership' : 'command';
    const timeoutMs = options.timeoutMs ?? proposeTimeoutMsDefault;
    // A copy: the caller may reuse its buffer before ours is written.
    const copy = Uint8Array.from(command);
    return new Promise((settle) => {
      const proposalId = this.#nextId();
      this.#proposals.set(proposalId, settle);
      this.#input(() => this.#loop.propose(proposalId, kind, copy, timeoutMs, options.onlyTerm ?? null));
    });
  }

  #refusal(command: Uint8Array): ProposeFailure | null {
    const reason = this.#closedReason();
    if (reason !== null) return { kind: 'closed', reason };
    if (command.byteLength > this.#limits.commandBytesMax) return { kind: 'too-large' };
    return this.#proposals.size >= this.#limits.proposalsMax ? { kind: 'overloaded' } : null;
  }

  readIndex(timeoutMs: number = readTimeoutMsDefault): Promise<ReadResult> {
    const reason = this.#closedReason();
    if (reason !== null) return Promise.resolve(err({ kind: 'closed', reason }));
    if (this.#reads.size >= readsMax) {
      return Promise.resolve(err({ kind: 'overloaded', reason: `${readsMax} reads wait for one already` }));
    }
    return new Promise((settle) => {
      const readId = this.#nextId();
      this.#reads.set(readId, settle);
      this.#input(() => this.#loop.readIndex(readId, timeoutMs));
    });
  }

  #closedReason(): string | null {
    return this.#failure ?? (this.#closing === null ? null : 'the log is closing');
  }

  #nextId(): string {
    this.#ids += 1;
    return `${this.#idPrefix}-${this.#ids}`;
  }

  subscribe(subscriber: LogSubscriber<R>): () => void {
    this.#subscribers.add(subscriber);
    return () => {
      this.#subscribers.delete(subscriber);
    };
  }

  receive(from: MemberId, message: PeerMessage): void {
    this.#input(() => this.#loop.receive(from, message));
  }

  unreachable(member: MemberId): void {
    this.#input(() => this.#loop.unreachable(member));
  }

  /** Of a log that has failed: no part of the cluster any more, though its loop does not know. */
  status(): LoopStatus {
    const status = this.#loop.status();
    if (this.#failure === null) return status;
    const raft = { ...status.raft, role: 'follower', leader: null, progress: [], transferee: null } as const;
    return { ...status, raft, halted: status.halted ?? this.#failure };
  }

  transferLeadership(to: MemberId): boolean {
    let begun = false;
    this.#input(() => {
      begun = this.#loop.transferLeadership(to);
    });
    return begun;
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  async #finish(): Promise<void> {
    await this.#allSettled();
    this.#input(() => this.#loop.stop());
    this.#end();
    this.#settleAll('the log is closed');
    await this.#writer.idle();
    await this.#transport.close();
    await this.#durableLog.close();
    await this.#options.directory.close();
  }

  /** Proposals and reads that wait may wait for others: not longer than is good for a process that should end. */
  #allSettled(): Promise<void> {
    if (this.#waiting === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#options.timers.after(closeWaitMsMax, resolve);
      this.#onSettled = () => {
        if (this.#waiting > 0) return;
        cancel();
        resolve();
      };
    });
  }

  get #waiting(): number {
    return this.#proposals.size + this.#reads.size;
  }

  #scheduleTick(): void {
    if (this.#ended) return;
    this.#cancelTick = this.#options.timers.after(this.#loop.timing.tickMs, () => {
      this.#input(() => this.#loop.tick());
      this.#scheduleTick();
    });
  }

  /** Calls the loop, or lets it be called right after the call that is under way. */
  #input(call: () => void): void {
    if (this.#ended) return;
    this.#inputs.push(call);
    if (!this.#inLoop) this.#runInputs();
  }

  #runInputs(): void {
    this.#inLoop = true;
    try {
      for (let call = this.#inputs.shift(); call !== undefined; call = this.#inputs.shift()) call();
    } catch (thrown) {
      this.#fail(`replication cannot go on: ${errorText(thrown)}`);
    } finally {
      this.#inLoop = false;
    }
  }

  #ports(): LoopPorts<R> {
    const { onHalted, onWarning } = this.#options;
    return {
      persist: (ticket, batch) => this.#writer.persist(batch, () => this.#done(ticket)),
      persistSnapshot: (ticket, at, records, hardState) =>
        this.#writer.installSnapshot(at, records, hardState, () => this.#done(ticket)),
      saveSnapshot: (ticket, at, records) =>
        this.#writer.saveSnapshot(at, records, () => this.#input(() => this.#loop.snapshotSaved(ticket))),
      send: (to, message) => {
        if (!this.#ended) this.#transport.send(to, message);
      },
      proposed: (proposalId, outcome) => {
        const settle = this.#proposals.get(proposalId);
        if (!this.#proposals.delete(proposalId)) return;
        settle?.(outcome);
        this.#onSettled();
      },
      read: (readId, index) => {
        const settle = this.#reads.get(readId);
        if (!this.#reads.delete(readId)) return;
        settle?.(index === null ? err(this.#unread()) : ok(index));
        this.#onSettled();
      },
      applied: (entry) => {
        this.#appliedIndex = entry.index;
        for (const subscriber of this.#subscribers) subscriber.onEntry(entry);
      },
      restored: (index) => {
        this.#appliedIndex = index;
        for (const subscriber of this.#subscribers) subscriber.onRestore?.(index);
      },
      fresh: (asOfMs, index) => {
        for (const subscriber of this.#subscribers) subscriber.onFresh?.(asOfMs, index);
      },
      membershipChanged: (membership) => this.#transport.setMembers(membership),
      halted: onHalted,
      warn: onWarning,
    };
  }

  #unread(): ReadFailure {
    const { halted } = this.#loop.status();
    if (halted !== null) return { kind: 'closed', reason: halted };
    return {
      kind: 'no-quorum',
      reason: 'no majority has confirmed in time that this node knows the latest',
    };
  }

  #done(ticket: number): void {
    this.#input(() => this.#loop.persisted(ticket));
  }

  /** Ends all: nothing that waits is acknowledged. */
  #fail(message: string): void {
    if (this.#failure !== null) return;
    this.#failure = message;
    this.#end();
    this.#settleAll(message);
    this.#options.onFatal(message);
  }

  #end(): void {
    this.#ended = true;
    this.#inputs.length = 0;
    this.#cancelTick();
  }

  #settleAll(reason: string): void {
    const closed = err({ kind: 'closed', reason } as const);
    for (const settle of [...this.#proposals.values(), ...this.#reads.values()]) settle(closed);
    this.#proposals.clear();
    this.#reads.clear();
    this.#onSettled();
  }
}
