import { err } from '../base/result.js';
import type { RaftNode } from '../raft/raft-node.js';
import type { MemberId, Membership, Message, Ready } from '../raft/types.js';
import { Applier } from './applier.js';
import { CommittedEntries } from './committed-entries.js';
import { ConfirmedReads } from './confirmed-reads.js';
import { DiskWatch } from './disk-watch.js';
import { ForwardedProposals, forwardedId } from './forwarded-proposals.js';
import type { LoopOptions, LoopPorts, LoopStatus } from './loop-contract.js';
import { createCore } from './loop-core.js';
import { LoopStage } from './loop-stage.js';
import { MemberWatch } from './member-watch.js';
import { restorationOf } from './ordered-log.js';
import type { PeerMessage } from './peer-message.js';
import { Proposals } from './proposals.js';
import { ReadyDriver } from './ready-driver.js';
import { ReportRounds } from './report-rounds.js';
import { SnapshotExchange } from './snapshot-exchange.js';
import { AppliedTiming, type Timing } from './timing.js';

export type {
  LoopLimits,
  LoopOptions,
  LoopPorts,
  LoopStatus,
  PersistBatch,
} from './loop-contract.js';
export type { PeerReport } from './node-reports.js';

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
  readonly #timing: AppliedTiming;
  readonly #driver: ReadyDriver;
  readonly #proposals: Proposals<R>;
  readonly #forwarded: ForwardedProposals;
  readonly #reads: ConfirmedReads;
  readonly #snapshots: SnapshotExchange;
  readonly #disk: DiskWatch;
  readonly #watch: MemberWatch;
  readonly #reports: ReportRounds;
  readonly #committed: CommittedEntries<R>;
  readonly #stage = new LoopStage();
  /** Tells this start of the member from others: ids that it mints must not be met again after a restart. */
  readonly #incarnation: string;
  #raft: RaftNode;
  #idsMinted = 0;

  constructor(options: LoopOptions<R>) {
    const { memberId, founder, stateMachine, recovered, limits, ports } = options;
    this.#options = options;
    this.#ports = ports;
    this.#incarnation = Math.floor(options.random() * 2 ** 48).toString(36);
    const initial: Membership = { voters: founder ? [memberId] : [], learners: [] };
    this.#applier = new Applier(stateMachine, initial, recovered.snapshot);
    const timing = new AppliedTiming(stateMachine, limits);
    this.#timing = timing;
    this.#forwarded = new ForwardedProposals(recovered.hardState.term);
    this.#driver = new ReadyDriver(
      {
        raft: () => this.#raft,
        persist: (ticket, batch) => ports.persist(ticket, batch),
        persistSnapshot: (ticket, { position }, hardState) =>
          ports.persistSnapshot(ticket, position, this.#snapshots.install(position), hardState),
        restore: ({ position }) => this.#committed.restore(position),
        apply: (entry) => this.#committed.apply(entry),
        send: (message) => this.#send(message),
        finished: (reads) => this.#finished(reads),
      },
      recovered.hardState,
    );
    this.#proposals = new Proposals<R>(
      {
        proposalsMax: limits.proposalsMax,
        commandBytesMax: limits.commandBytesMax,
        get retryTicks() {
          return timing.heartbeatTicks;
        },
        append: (kind, command) => this.#raft.propose(kind, command),
        term: () => this.#raft.status().term,
        forwardId: () => forwardedId(this.#raft.status().term, this.#mintId()),
        forward: (to, proposalId, entryKind, command) =>
          this.#ports.send(to, { kind: 'propose', proposalId, entryKind, command }),
        settle: (proposalId, outcome) => this.#ports.proposed(proposalId, outcome),
      },
      recovered.snapshot.index,
    );
    this.#reads = new ConfirmedReads({
      timing,
      ask: () => {
        const raftReadId = `${memberId}/${this.#mintId()}`;
        this.#raft.readIndex(raftReadId);
        return raftReadId;
      },
      settle: (readId, index) => ports.read(readId, index),
      fresh: (asOfMs, index) => ports.fresh(asOfMs, index),
      isTrusted: () => this.#stage.halted === null,
      appliedIndex: () => this.#applier.index,
    });
    this.#snapshots = new SnapshotExchange({
      memberId,
      limits,
      timing,
      snapshotIndex: recovered.snapshot.index,
      raft: () => this.#raft,
      membership: () => this.#applier.membership,
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
    this.#disk = new DiskWatch(() => timing.electionTicks);
    this.#watch = new MemberWatch({
      memberId,
      membership: () => this.#applier.membership,
      warn: (message) => this.#ports.warn(message),
      inMinority: (reason) => this.#halt(reason, 'running'),
    });
    this.#reports = new ReportRounds({
      memberId,
      report: options.report,
      intervalMs: limits.reportIntervalMs,
      applied: () => this.#applier,
      raftStatus: () => this.#raft.status(),
      watch: this.#watch,
      send: (to, message) => ports.send(to, message),
    });
    this.#committed = new CommittedEntries({
      ...options,
      applier: this.#applier,
      raft: () => this.#raft,
      proposals: this.#proposals,
      snapshots: this.#snapshots,
      watch: this.#watch,
      isRunning: () => this.#stage.running,
      freeze: (reason) => this.#halt(reason, 'frozen'),
      timingMayHaveChanged: () => {
        if (timing.refresh()) this.#raft.setTiming(timing.electionTicks, timing.heartbeatTicks);
      },
    });
    this.#raft = createCore(options, this.#applier, timing);
  }

  /** Once, after construction: ports are not called before. */
  start(): void {
    this.#stage.start();
    const { memberId } = this.#options;
    if (!this.#committed.applyRecovered()) return;
    this.#applier.refreshMembership();
    this.#timing.refresh();
    this.#raft = createCore(this.#options, this.#applier, this.#timing);
    const { voters, learners } = this.#applier.membership;
    if (voters.length + learners.length > 0) this.#ports.membershipChanged(this.#applier.membership);
    // Nobody else could: no reason to wait for a time without a leader.
    if (voters.length === 1 && voters[0] === memberId) this.#raft.campaign();
    this.#drive();
  }

  /** The times in force. */
  get timing(): Timing {
    return this.#timing;
  }

  /** Every `timing.tickMs`. */
  tick(): void {
    if (!this.#stage.running) return;
    const nowMs = this.#options.nowMs();
    this.#heedStalledDisk();
    this.#raft.tick();
    this.#proposals.tick(nowMs);
    this.#reads.tick(nowMs);
    this.#reports.tick(nowMs);
    this.#snapshots.tick(this.#applier.membership);
    this.#drive();
  }

  /** From an authenticated member `from` of this cluster. */
  receive(from: MemberId, message: PeerMessage): void {
    if (!this.#stage.running || from === this.#options.memberId) return;
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

  /**
   * `proposalId`: not that of a proposal still waiting. `command` is copied.
   *
   * @param onlyTerm only by this member, as the leader of that term; `null`: whoever leads.
   */
  propose(
    proposalId: string,
    kind: 'command' | 'membership',
    command: Uint8Array,
    timeoutMs: number,
    onlyTerm: number | null = null,
  ): void {
    const closed = this.#stage.closedReason();
    if (closed !== null) {
      this.#ports.proposed(proposalId, err({ kind: 'closed', reason: closed }));
      return;
    }
    const deadlineMs = this.#options.nowMs() + timeoutMs;
    this.#proposals.add(proposalId, kind, new Uint8Array(command), deadlineMs, onlyTerm);
    this.#drive();
  }

  readIndex(readId: string, timeoutMs: number): void {
    if (this.#stage.closedReason() !== null || this.#stage.halted !== null) {
      this.#ports.read(readId, null);
      return;
    }
    this.#reads.add(readId, this.#options.nowMs() + timeoutMs);
    this.#drive();
  }

  persisted(ticket: number): void {
    if (!this.#stage.running) return;
    this.#driver.persisted(ticket);
    if (this.#disk.finished()) this.#raft.setElectable(this.#stage.halted === null);
    this.#drive();
  }

  snapshotSaved(ticket: number): void {
    if (!this.#stage.running) return;
    this.#snapshots.saved(ticket);
    this.#drive();
  }

  /** Messages to this member are being lost. */
  unreachable(member: MemberId): void {
    if (!this.#stage.running) return;
    this.#raft.reportUnreachable(member);
    this.#drive();
  }

  transferLeadership(to: MemberId): boolean {
    if (!this.#stage.running) return false;
    const begun = this.#raft.transferLeadership(to);
    this.#drive();
    return begun;
  }

  /** Nothing is proposed or led any more; waiting proposals settle as unknown or not taken. */
  stop(): void {
    if (!this.#stage.stop()) return;
    this.#driver.stop();
    this.#snapshots.close();
    this.#proposals.close('unknown', 'this node is stopping');
    this.#reads.close();
  }

  status(): LoopStatus {
    return {
      raft: this.#raft.status(),
      freshAsOfMs: this.#reads.freshAsOfMs,
      snapshotIndex: this.#snapshots.index,
      halted: this.#stage.halted,
      divergent: this.#watch.divergent,
      reports: this.#watch.reports,
    };
  }

  #drive(): void {
    this.#driver.drive();
    if (this.#driver.idle) this.#snapshots.discardUnwanted();
  }

  #mintId(): string {
    this.#idsMinted += 1;
    return `${this.#incarnation}/${this.#idsMinted}`;
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
    this.#reads.answered(reads, this.#options.nowMs());
    this.#snapshots.committed(this.#driver.commitIndex);
    if (this.#stage.running) this.#snapshots.saveWhenDue(() => this.#driver.nextTicket());
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

  /** A leader whose disk stalls steps down, and nobody with such a disk leads (replication.md 11). */
  #heedStalledDisk(): void {
    const { memberId } = this.#options;
    // A snapshot takes its time, and a member that needs one leads nobody.
    const ticket = this.#snapshots.installing ? null : this.#driver.persisting;
    if (!this.#disk.tick(ticket)) return;
    const { voters } = this.#applier.membership;
    if (voters.length === 1 && voters[0] === memberId) return;
    this.#leadNoMore();
    this.#ports.warn(
      `the disk did not finish a write within ${this.#timing.electionTicks * this.#timing.tickMs} ms: this node does not lead until it has. Look at the disk of the data directory`,
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
    const first = this.#stage.halt(reason);
    if (first) this.#leadNoMore();
    if (as === 'frozen' && this.#stage.freeze()) {
      this.#driver.stop();
      this.#snapshots.close();
      this.#proposals.close('closed', reason);
    }
    this.#reads.close();
    if (first) this.#ports.halted(reason);
  }
}
