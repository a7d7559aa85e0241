import { invariant } from '../base/guards.js';
import { err } from '../base/result.js';
import { RaftNode } from '../raft/raft-node.js';
import type { Entry, LogPosition, MemberId, Membership, Message, Ready } from '../raft/types.js';
import { Applier } from './applier.js';
import { DiskWatch } from './disk-watch.js';
import { ForwardedProposals, forwardedId } from './forwarded-proposals.js';
import { Freshness } from './freshness.js';
import type { LoopOptions, LoopPorts, LoopStatus } from './loop-contract.js';
import { MemberWatch } from './member-watch.js';
import { restorationOf } from './ordered-log.js';
import type { PeerMessage } from './peer-message.js';
import { PendingReads } from './pending-reads.js';
import { Proposals } from './proposals.js';
import { ReadyDriver } from './ready-driver.js';
import { SnapshotExchange } from './snapshot-exchange.js';

export type {
  LoopLimits,
  LoopOptions,
  LoopPorts,
  LoopStatus,
  PersistBatch,
} from './loop-contract.js';
export type { PeerReport } from './node-reports.js';

/** What the consensus core is bounded by. */
const raftLimits = {
  inflightMessagesMax: 256,
  inflightBytesMax: 8 * 1024 * 1024,
  /** With what surrounds it well below what one message may have (gRPC: 4 MiB). */
  appendBytesMax: 1024 * 1024,
  /** At the leader, of all members' proposals. */
  uncommittedBytesMax: 64 * 1024 * 1024,
  committedBytesMax: 1024 * 1024,
} as const;

const lostAcknowledgedText =
  "this node's log ends before entries that it had acknowledged: its disk was wiped or set back. Remove it from the cluster, empty its data directory and add it anew";

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
  readonly #forwarded: ForwardedProposals;
  readonly #reads: PendingReads;
  readonly #freshness: Freshness;
  readonly #snapshots: SnapshotExchange;
  readonly #disk: DiskWatch;
  readonly #watch: MemberWatch;
  /** Tells this start of the member from others: ids that it mints must not be met again after a restart. */
  readonly #incarnation: string;
  #raft: RaftNode;
  #stage: 'new' | 'running' | 'frozen' | 'stopped' = 'new';
  #halted: string | null = null;
  #idsMinted = 0;
  #nextReportAtMs = Number.NEGATIVE_INFINITY;

  /** The disk is at it for so long that another member had better lead. */
  #stalled = false;

  constructor(options: LoopOptions<R>) {
    const { memberId, founder, stateMachine, recovered, limits, ports } = options;
    this.#options = options;
    this.#ports = ports;
    this.#incarnation = Math.floor(options.random() * 2 ** 48).toString(36);
    const initial: Membership = { voters: founder ? [memberId] : [], learners: [] };
    this.#applier = new Applier(stateMachine, initial, recovered.snapshot);
    this.#forwarded = new ForwardedProposals(recovered.hardState.term);
    this.#driver = new ReadyDriver(
      {
        raft: () => this.#raft,
        persist: (ticket, batch) => ports.persist(ticket, batch),
        persistSnapshot: (ticket, { position }, hardState) =>
          ports.persistSnapshot(ticket, position, this.#snapshots.install(position), hardState),
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
    this.#snapshots = new SnapshotExchange({
      memberId,
      limits,
      snapshotIndex: recovered.snapshot.index,
      raft: () => this.#raft,
      capture: () => ({
        position: this.#applier.position,
        membership: this.#applier.membership,
        records: stateMachine.snapshot(),
      }),
      beginRestore: () => restorationOf(stateMachine),
      send: (to, message) => ports.send(to, message),
      save: (ticket, at, records) => ports.saveSnapshot(ticket, at, records),
      warn: (message) => ports.warn(message),
    });
    this.#disk = new DiskWatch(electionTicks);
    this.#watch = new MemberWatch({
      memberId,
      membership: () => this.#applier.membership,
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
    const nowMs = this.#options.nowMs();
    this.#heedStalledDisk();
    this.#raft.tick();
    this.#proposals.tick(nowMs);
    this.#reads.tick(nowMs);
    // One whose state is not to be trusted is not fresh, however much of the log it has.
    if (this.#halted === null) this.#freshness.tick(nowMs);
    if (nowMs >= this.#nextReportAtMs) this.#sendReports(nowMs);
    this.#snapshots.tick(this.#applier.membership);
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
        this.#snapshots.receive(from, message);
        break;
      case 'snapshotChunkResponse':
        this.#snapshots.answered(from, message);
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
    this.#proposals.add(proposalId, kind, new Uint8Array(command), deadlineMs);
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
    this.#snapshots.saved(ticket);
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
    this.#snapshots.close();
    this.#proposals.close('unknown', 'this node is stopping');
    this.#reads.close();
  }

  status(): LoopStatus {
    return {
      raft: this.#raft.status(),
      freshAsOfMs: this.#freshness.asOfMs,
      snapshotIndex: this.#snapshots.index,
      halted: this.#halted,
      divergent: this.#watch.divergent,
      reports: this.#watch.reports,
    };
  }

  #drive(): void {
    this.#driver.drive();
    if (this.#driver.idle) this.#snapshots.discardUnwanted();
  }

  #createRaft(): RaftNode {
    const { memberId, recovered, limits, random } = this.#options;
    const { electionTicks, heartbeatTicks } = limits;
    // Where the log has lost its end this member halts; until then it must not be said to hold more than it does.
    const commitIndex = Math.min(recovered.hardState.commitIndex, this.#recoveredLastIndex());
    return new RaftNode(
      { memberId, electionTicks, heartbeatTicks, random, ...(limits.core ?? raftLimits) },
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
    this.#snapshots.applied(entry.data.byteLength);
    this.#ports.applied(applied.value);
    this.#proposals.applied(entry.term, applied.value);
    if (entry.index % this.#options.limits.stateHashInterval === 0) {
      this.#watch.noteStateHash(entry.index, this.#options.stateMachine.stateHash());
    }
    return this.#stage === 'running';
  }

  /** The received snapshot is durable. */
  #restore(position: LogPosition): boolean {
    const restored = this.#applier.restore(position, this.#snapshots.installed());
    if (!restored.ok) {
      this.#halt(restored.error, 'frozen');
      return false;
    }
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
    if (message.kind === 'snapshot') {
      this.#snapshots.open(message);
      return;
    }
    this.#watch.sent(message);
    this.#ports.send(message.to, { kind: 'raft', message });
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
    this.#snapshots.committed(this.#driver.commitIndex);
    if (this.#stage === 'running') this.#snapshots.saveWhenDue(() => this.#driver.nextTicket());
  }

  #receiveRaft(from: MemberId, message: Message): void {
    if (message.from !== from || message.to !== this.#options.memberId) return;
    // Comes with its bytes, or not at all.
    if (message.kind === 'snapshot') return;
    if (this.#raft.lostAcknowledged) {
      // The leader has been answered, and so knows. From here on its vote and what it acknowledges are worth nothing.
      this.#halt(lostAcknowledgedText, 'frozen');
      return;
    }
    if (message.term === this.#driver.term) this.#watch.received(message, this.#driver.commitIndex);
    this.#raft.step(message);
    if (this.#raft.lostAcknowledged) this.#halt(lostAcknowledgedText, 'running');
  }

  #receiveProposal(from: MemberId, message: Extract<PeerMessage, { kind: 'propose' }>): void {
    const { proposalId, entryKind, command } = message;
    const tooLong = command.byteLength > this.#options.limits.commandBytesMax;
    const answer = tooLong
      ? { position: null, reason: 'it is longer than the leader takes' }
      : this.#forwarded.take(from, proposalId, this.#raft.status().term, () =>
          this.#raft.propose(entryKind, command),
        );
    if (answer !== null) this.#ports.send(from, { kind: 'proposeResponse', proposalId, ...answer });
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
    const { limits, memberId } = this.#options;
    // A snapshot takes its time, and a member that needs one leads nobody.
    const ticket = this.#snapshots.installing ? null : this.#driver.persisting;
    if (!this.#disk.tick(ticket)) return;
    const { voters } = this.#applier.membership;
    if (voters.length === 1 && voters[0] === memberId) return;
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
      this.#snapshots.close();
      this.#proposals.close('closed', reason);
    }
    this.#reads.close();
    if (first) this.#ports.halted(reason);
  }
}
