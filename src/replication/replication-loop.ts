import { invariant } from '../base/guards.js';
import { err } from '../base/result.js';
import { RaftNode } from '../raft/raft-node.js';
import type { Entry, LogPosition, MemberId, Membership, Message, Ready } from '../raft/types.js';
import { Applier } from './applier.js';
import { ForwardedProposals, forwardedId } from './forwarded-proposals.js';
import { Freshness } from './freshness.js';
import type { LoopOptions, LoopPorts, LoopStatus } from './loop-contract.js';
import { MemberWatch } from './member-watch.js';
import type { PeerMessage } from './peer-message.js';
import { PendingReads } from './pending-reads.js';
import { Proposals } from './proposals.js';
import { ReadyDriver } from './ready-driver.js';
import { SnapshotSource } from './snapshot-bytes.js';
import { type ReceivedSnapshot, SnapshotReceiver } from './snapshot-receiver.js';
import { SnapshotSchedule } from './snapshot-schedule.js';
import { SnapshotSender } from './snapshot-sender.js';

export type {
  LoopLimits,
  LoopOptions,
  LoopPorts,
  LoopStatus,
  PersistBatch,
} from './loop-contract.js';
export type { PeerReport } from './node-reports.js';

/** What the consensus core is bounded by. */
export const raftLimits = {
  inflightMessagesMax: 256,
  inflightBytesMax: 8 * 1024 * 1024,
  /** With what surrounds it well below what one message may have (gRPC: 4 MiB). */
  appendBytesMax: 1024 * 1024,
  /** At the leader, of all members' proposals. */
  uncommittedBytesMax: 64 * 1024 * 1024,
  committedBytesMax: 1024 * 1024,
} as const;

/** Entries kept in memory below the newest snapshot for members that are a little behind, and their bytes. */
export const keptTail = { entriesMax: 1_000, bytesMax: 16 * 1024 * 1024 } as const;

/**
 * The one loop around the consensus core: persists what `ready` says, then sends what depends on it, then applies. Pure:
 * time, disk and network are handed in, so that the simulator runs this very code.
 */
export class ReplicationLoop<R> {
  readonly #options: LoopOptions<R>;
  readonly #ports: LoopPorts<R>;
  readonly #applier: Applier<R>;
  readonly #driver: ReadyDriver;
  readonly #proposals: Proposals<R>;
  readonly #forwarded = new ForwardedProposals();
  readonly #reads: PendingReads;
  readonly #freshness: Freshness;
  readonly #sender: SnapshotSender;
  readonly #receiver = new SnapshotReceiver();
  readonly #schedule: SnapshotSchedule;
  readonly #watch: MemberWatch;
  /** Tells this start of the member from others: ids that it mints must not be met again after a restart. */
  readonly #incarnation: string;
  #raft: RaftNode;
  #stage: 'new' | 'running' | 'frozen' | 'stopped' = 'new';
  #halted: string | null = null;
  #ticks = 0;
  #idsMinted = 0;
  #nextReportAtMs = Number.NEGATIVE_INFINITY;

  /** Whole, and not yet in a `ready`. */
  #received: ReceivedSnapshot | null = null;
  /** Being made durable. */
  #installing: ReceivedSnapshot | null = null;
  /** What the disk was at in the last tick, and since when. */
  #diskAt: number | null = null;
  #diskSinceTick = 0;
  /** The disk is at it for so long that another member had better lead. */
  #stalled = false;

  constructor(options: LoopOptions<R>) {
    const { memberId, founder, stateMachine, recovered, limits, ports } = options;
    this.#options = options;
    this.#ports = ports;
    this.#incarnation = Math.floor(options.random() * 2 ** 48).toString(36);
    const initial: Membership = { voters: founder ? [memberId] : [], learners: [] };
    this.#applier = new Applier(stateMachine, initial, recovered.snapshot);
    this.#driver = new ReadyDriver(
      {
        raft: () => this.#raft,
        persist: (ticket, batch) => ports.persist(ticket, batch),
        persistSnapshot: (ticket, { position }, hardState) =>
          ports.persistSnapshot(ticket, position, this.#install(position), hardState),
        restore: ({ position }) => this.#restore(position),
        apply: (entry) => this.#applyCommitted(entry),
        send: (message) => this.#send(message),
        finished: (reads) => this.#finished(reads),
      },
      recovered.hardState,
    );
    const { heartbeatTicks, electionTicks } = limits;
    this.#proposals = new Proposals<R>(
      {
        proposalsMax: limits.proposalsMax,
        commandBytesMax: limits.commandBytesMax,
        retryTicks: heartbeatTicks,
        append: (kind, command) => this.#raft.propose(kind, command),
        forwardId: () => forwardedId(this.#raft.status().term, this.#mintId()),
        forward: (to, proposalId, entryKind, command) =>
          this.#ports.send(to, { kind: 'propose', proposalId, entryKind, command }),
        settle: (proposalId, outcome) => this.#ports.proposed(proposalId, outcome),
      },
      recovered.snapshot.index,
    );
    const ask = (): string => {
      const raftReadId = `${memberId}/${this.#mintId()}`;
      this.#raft.readIndex(raftReadId);
      return raftReadId;
    };
    this.#reads = new PendingReads({
      silenceTicks: electionTicks,
      refusalTicks: heartbeatTicks,
      ask,
      settle: (readId, index) => this.#ports.read(readId, index),
    });
    this.#freshness = new Freshness({
      intervalMs: limits.freshnessIntervalMs,
      refusalMs: limits.tickMs * heartbeatTicks,
      ask,
      confirmed: (asOfMs, index) => this.#ports.fresh(asOfMs, index),
    });
    this.#sender = new SnapshotSender({
      resendTicks: electionTicks,
      capture: () =>
        new SnapshotSource(this.#applier.position, this.#applier.membership, stateMachine.snapshot()),
      send: (to, message) => this.#ports.send(to, message),
      report: (to, delivered) => this.#raft.reportSnapshot(to, delivered),
    });
    this.#schedule = new SnapshotSchedule(
      limits.snapshotEntries,
      limits.snapshotBytes,
      recovered.snapshot.index,
    );
    this.#watch = new MemberWatch({
      memberId,
      membership: () => this.#applier.membership,
      confirmTicks: electionTicks,
      warn: (message) => this.#ports.warn(message),
      inMinority: (reason) => this.#halt(reason, 'running'),
    });
    this.#raft = this.#createRaft();
  }

  /** Once, after construction: ports are not called before. */
  start(): void {
    invariant(this.#stage === 'new', 'a loop is started once');
    this.#stage = 'running';
    const { memberId } = this.#options;
    if (!this.#applyRecovered()) return;
    this.#applier.refreshMembership();
    this.#raft = this.#createRaft();
    const { voters, learners } = this.#applier.membership;
    if (voters.length + learners.length > 0) this.#ports.membershipChanged(this.#applier.membership);
    // Nobody else could: no reason to wait for a time without a leader.
    if (voters.length === 1 && voters[0] === memberId) this.#raft.campaign();
    this.#drive();
  }

  /** Every `limits.tickMs`. */
  tick(): void {
    if (this.#stage !== 'running') return;
    this.#ticks += 1;
    const nowMs = this.#options.nowMs();
    this.#heedStalledDisk();
    this.#raft.tick();
    this.#proposals.tick(nowMs);
    this.#reads.tick(nowMs);
    // One whose state is not to be trusted is not fresh, however much of the log it has.
    if (this.#halted === null) this.#freshness.tick(nowMs);
    if (nowMs >= this.#nextReportAtMs) this.#sendReports(nowMs);
    if (this.#sender.active) this.#tickSender();
    this.#drive();
  }

  /** From an authenticated member `from` of this cluster. */
  receive(from: MemberId, message: PeerMessage): void {
    if (this.#stage !== 'running' || from === this.#options.memberId) return;
    switch (message.kind) {
      case 'raft':
        this.#receiveRaft(from, message.message);
        break;
      case 'propose':
        this.#receiveProposal(from, message);
        break;
      case 'proposeResponse':
        this.#proposals.answered(from, message.proposalId, message.position, message.reason);
        break;
      case 'snapshotChunk':
        this.#receiveChunk(from, message);
        break;
      case 'snapshotChunkResponse':
        this.#sender.answered(from, message);
        break;
      case 'report':
        this.#watch.reported(from, message.report, this.#options.nowMs());
        break;
    }
    this.#drive();
  }

  /** `proposalId`: not that of a proposal still waiting. `command` is copied. */
  propose(proposalId: string, kind: 'command' | 'membership', command: Uint8Array, timeoutMs: number): void {
    const closed = this.#closedReason();
    if (closed !== null) {
      this.#ports.proposed(proposalId, err({ kind: 'closed', reason: closed }));
      return;
    }
    const deadlineMs = this.#options.nowMs() + timeoutMs;
    this.#proposals.add(proposalId, kind, Uint8Array.from(command), deadlineMs);
    this.#drive();
  }

  readIndex(readId: string, timeoutMs: number): void {
    if (this.#closedReason() !== null || this.#halted !== null) {
      this.#ports.read(readId, null);
      return;
    }
    this.#reads.add(readId, this.#options.nowMs() + timeoutMs);
    this.#drive();
  }

  persisted(ticket: number): void {
    if (this.#stage !== 'running') return;
    this.#driver.persisted(ticket);
    if (this.#stalled) {
      this.#stalled = false;
      this.#raft.setElectable(this.#halted === null);
    }
    this.#drive();
  }

  snapshotSaved(ticket: number): void {
    if (this.#stage !== 'running') return;
    const previousIndex = this.#schedule.index;
    const at = this.#schedule.saved(ticket);
    if (at !== null) this.#compact(at, previousIndex);
    this.#drive();
  }

  /** Messages to this member are being lost. */
  unreachable(member: MemberId): void {
    if (this.#stage !== 'running') return;
    this.#raft.reportUnreachable(member);
    this.#drive();
  }

  transferLeadership(to: MemberId): boolean {
    if (this.#stage !== 'running') return false;
    const begun = this.#raft.transferLeadership(to);
    this.#drive();
    return begun;
  }

  /** Nothing is proposed or led any more; waiting proposals settle as unknown or not taken. */
  stop(): void {
    if (this.#stage === 'stopped') return;
    this.#stage = 'stopped';
    this.#driver.stop();
    this.#sender.close();
    this.#proposals.close('unknown', 'this node is stopping');
    this.#reads.close();
  }

  status(): LoopStatus {
    return {
      raft: this.#raft.status(),
      freshAsOfMs: this.#freshness.asOfMs,
      snapshotIndex: this.#schedule.index,
      halted: this.#halted,
      divergent: this.#watch.divergent,
      reports: this.#watch.reports,
    };
  }

  #drive(): void {
    this.#driver.drive();
    if (this.#received === null || !this.#driver.idle || this.#raft.hasReady()) return;
    // The core did not want it: it came too late.
    this.#received = null;
    this.#receiver.refused();
  }

  #createRaft(): RaftNode {
    const { memberId, recovered, limits, random } = this.#options;
    const { electionTicks, heartbeatTicks } = limits;
    // Where the log has lost its end this member halts; until then it must not be said to hold more than it does.
    const commitIndex = Math.min(recovered.hardState.commitIndex, this.#recoveredLastIndex());
    return new RaftNode(
      { memberId, electionTicks, heartbeatTicks, random, ...raftLimits },
      {
        ...recovered,
        hardState: { ...recovered.hardState, commitIndex },
        membership: this.#applier.membership,
        appliedIndex: this.#applier.index,
      },
    );
  }

  #recoveredLastIndex(): number {
    const { entries, snapshot } = this.#options.recovered;
    return entries.at(-1)?.index ?? snapshot.index;
  }

  #mintId(): string {
    this.#idsMinted += 1;
    return `${this.#incarnation}/${this.#idsMinted}`;
  }

  #closedReason(): string | null {
    switch (this.#stage) {
      case 'new':
        return 'this node is starting';
      case 'running':
        return null;
      case 'frozen':
        return this.#halted ?? 'this node has halted';
      case 'stopped':
        return 'this node is stopping';
    }
  }

  /** What was committed before the start; false when this replica can't go on. */
  #applyRecovered(): boolean {
    const { entries, hardState } = this.#options.recovered;
    const lastIndex = this.#recoveredLastIndex();
    if (lastIndex < hardState.commitIndex) {
      this.#halt(
        `the log ends at index ${lastIndex}, before index ${hardState.commitIndex}, which was committed: this node's disk has lost the end of it. Remove it from the cluster, empty its data directory and add it anew`,
        'frozen',
      );
      return false;
    }
    for (const entry of entries) {
      if (entry.index > hardState.commitIndex) break;
      if (!this.#apply(entry)) return false;
    }
    return true;
  }

  #applyCommitted(entry: Entry): boolean {
    if (!this.#apply(entry)) return false;
    const changed = this.#applier.refreshMembership();
    // Each change of the members is the core's before the next entry is applied (thesis §4.1, effective when applied here).
    this.#raft.applied(entry.index, this.#applier.membership);
    if (changed) this.#membersChanged();
    return this.#stage === 'running';
  }

  #apply(entry: Entry): boolean {
    const applied = this.#applier.apply(entry);
    if (!applied.ok) {
      this.#halt(applied.error, 'frozen');
      return false;
    }
    this.#schedule.applied(entry.data.byteLength);
    this.#ports.applied(applied.value);
    this.#proposals.applied(entry.term, applied.value);
    if (entry.index % this.#options.limits.stateHashInterval === 0) {
      this.#watch.noteStateHash(entry.index, this.#options.stateMachine.stateHash());
    }
    return this.#stage === 'running';
  }

  /** The records of the snapshot that the core took; another may come in while it is being made durable. */
  #install(position: LogPosition): readonly Uint8Array[] {
    const received = this.#received;
    invariant(
      received !== null &&
        received.message.position.index === position.index &&
        received.message.position.term === position.term,
      `no snapshot as of index ${position.index} was received`,
    );
    this.#received = null;
    this.#installing = received;
    return received.records;
  }

  /** The received snapshot is durable. */
  #restore(position: LogPosition): boolean {
    invariant(this.#installing !== null, 'no snapshot is being installed');
    const restored = this.#applier.restore(position, this.#installing.records);
    this.#installing = null;
    if (!restored.ok) {
      this.#halt(restored.error, 'frozen');
      return false;
    }
    this.#schedule.restored(position.index);
    this.#watch.restored();
    const changed = this.#applier.refreshMembership();
    this.#raft.applied(position.index, this.#applier.membership);
    this.#ports.restored(position.index);
    this.#proposals.restored(position.index);
    if (changed) this.#membersChanged();
    return this.#stage === 'running';
  }

  #membersChanged(): void {
    this.#watch.membersAre(this.#applier.membership);
    this.#ports.membershipChanged(this.#applier.membership);
  }

  #send(message: Message): void {
    if (message.kind === 'snapshot') this.#sender.open(message, this.#raft.status().firstIndex - 1);
    else this.#ports.send(message.to, { kind: 'raft', message });
  }

  #finished(reads: Ready['reads']): void {
    const appliedIndex = this.#applier.index;
    this.#reads.applied(appliedIndex);
    if (this.#halted === null) this.#freshness.applied(appliedIndex);
    for (const { readId, index } of reads) {
      this.#reads.answered(readId, index, appliedIndex);
      if (this.#halted !== null) continue;
      this.#freshness.answered(readId, index, appliedIndex, this.#options.nowMs());
    }
    this.#receiver.committed(this.#driver.commitIndex);
    if (this.#stage !== 'running' || !this.#schedule.due) return;
    const ticket = this.#driver.nextTicket();
    this.#schedule.begin(ticket, this.#applier.position);
    this.#ports.saveSnapshot(ticket, this.#applier.position, this.#options.stateMachine.snapshot());
  }

  /** `at` is durable: forgets the log below, but for a tail and for what a member being sent a snapshot will need next. */
  #compact(at: LogPosition, previousIndex: number): void {
    const { snapshotEntries } = this.#options.limits;
    // In proportion, so that few entries between snapshots mean few in memory.
    const tailMax = Math.min(keptTail.entriesMax, Math.floor(snapshotEntries / 10));
    let index = at.index;
    let bytes = 0;
    while (at.index - index < tailMax) {
      const entry = this.#raft.entry(index);
      bytes += entry?.data.byteLength ?? 0;
      if (entry === null || bytes > keptTail.bytesMax) break;
      index -= 1;
    }
    // Not for ever: one that takes longer than from snapshot to snapshot gets a newer one.
    const wanted = this.#sender.lowestIndex;
    if (wanted !== null && wanted >= previousIndex) index = Math.min(index, wanted);
    if (index >= this.#raft.status().firstIndex) this.#raft.compact(index);
  }

  #receiveRaft(from: MemberId, message: Message): void {
    if (message.from !== from || message.to !== this.#options.memberId) return;
    // Comes with its bytes, or not at all.
    if (message.kind === 'snapshot') return;
    const answer = message.kind === 'appendResponse' || message.kind === 'heartbeatResponse';
    if (answer && message.term === this.#driver.term) {
      this.#watch.answered(message, this.#driver.commitIndex, this.#ticks);
    }
    this.#raft.step(message);
  }

  #receiveProposal(from: MemberId, message: Extract<PeerMessage, { kind: 'propose' }>): void {
    const { proposalId, entryKind, command } = message;
    const tooLong = command.byteLength > this.#options.limits.commandBytesMax;
    const answer = tooLong
      ? { position: null, reason: 'it is longer than the leader takes' }
      : this.#forwarded.take(from, proposalId, this.#raft.status().term, () =>
          this.#raft.propose(entryKind, command),
        );
    this.#ports.send(from, { kind: 'proposeResponse', proposalId, ...answer });
  }

  #receiveChunk(from: MemberId, chunk: Extract<PeerMessage, { kind: 'snapshotChunk' }>): void {
    const { message } = chunk;
    if (message.from !== from || message.to !== this.#options.memberId) return;
    const { term, commitIndex } = this.#raft.status();
    const { nextOffset, received, problem } = this.#receiver.receive(from, chunk, term, commitIndex);
    if (problem !== null) {
      const { index } = message.position;
      this.#ports.warn(`a snapshot as of index ${index} from member ${from} can't be taken: ${problem}`);
    }
    if (received !== null) {
      this.#received = received;
      this.#raft.step(received.message);
    }
    const { position } = message;
    this.#ports.send(from, { kind: 'snapshotChunkResponse', position, nextOffset });
  }

  #tickSender(): void {
    const { role, term } = this.#raft.status();
    const { voters, learners } = this.#applier.membership;
    this.#sender.tick(role === 'leader' ? { term, members: new Set([...voters, ...learners]) } : null);
  }

  #sendReports(nowMs: number): void {
    const { limits, memberId, report } = this.#options;
    this.#nextReportAtMs = nowMs + limits.reportIntervalMs;
    const { voters, learners } = this.#applier.membership;
    if (voters.length + learners.length < 2) return;
    this.#watch.progress(this.#raft.status().progress);
    const message: PeerMessage = {
      kind: 'report',
      report: {
        ...report(),
        appliedIndex: this.#applier.index,
        stateHashes: this.#watch.stateHashes,
      },
    };
    for (const member of [...voters, ...learners]) {
      if (member !== memberId) this.#ports.send(member, message);
    }
  }

  /** A leader whose disk stalls steps down, and nobody with such a disk leads (replication.md 11). */
  #heedStalledDisk(): void {
    const { persisting } = this.#driver;
    if (persisting === null || persisting !== this.#diskAt) {
      this.#diskAt = persisting;
      this.#diskSinceTick = this.#ticks;
      return;
    }
    const { limits, memberId } = this.#options;
    const { voters } = this.#applier.membership;
    const alone = voters.length === 1 && voters[0] === memberId;
    if (this.#stalled || alone || this.#ticks - this.#diskSinceTick < limits.electionTicks) return;
    this.#stalled = true;
    this.#leadNoMore();
    this.#ports.warn(
      `the disk did not finish a write within ${limits.electionTicks * limits.tickMs} ms: this node does not lead until it has. Look at the disk of the data directory`,
    );
  }

  #leadNoMore(): void {
    this.#raft.setElectable(false);
    if (this.#raft.status().role === 'leader') this.#raft.stepDown();
  }

  /**
   * `frozen`: nothing more is done here. `running`: the log goes on, so that the others keep their quorum and denials
   * are still taken; but nothing here is fresh, read or led any more (replication.md 9).
   */
  #halt(reason: string, as: 'running' | 'frozen'): void {
    const first = this.#halted === null;
    this.#halted ??= reason;
    if (first) this.#leadNoMore();
    if (as === 'frozen' && this.#stage === 'running') {
      this.#stage = 'frozen';
      this.#driver.stop();
      this.#sender.close();
      this.#proposals.close('closed', reason);
    }
    this.#reads.close();
    if (first) this.#ports.halted(reason);
  }
}
