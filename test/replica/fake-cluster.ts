import { err, ok } from '../../src/base/result.js';
import { commandFormatMax } from '../../src/keystate/command-format.js';
import type { RaftStatus } from '../../src/raft/types.js';
import type { ClusterControl } from '../../src/replica/cluster-control.js';
import type { NodeStanding } from '../../src/replica/standing.js';
import type { LoopStatus } from '../../src/replication/replication-loop.js';
import type { PeerTransportStats } from '../../src/replication/transport/peer-transport.js';
import type { Refusal } from '../../src/replication/transport/refusal.js';
import type { MemoryLog } from './memory-log.js';

/** What a test lets the replication engine say. */
export class FakeCluster implements ClusterControl {
  readonly memberId = 'id-node-1';
  readonly clusterId = 'cluster-1';
  readonly formatMax = commandFormatMax;
  readonly configHash = 'config';
  nowMs = 1_000_000;
  raft: Partial<RaftStatus> = {};
  loop: Partial<LoopStatus> = {};
  /** Whom leadership was handed to. */
  readonly transfers: string[] = [];
  readonly asked: { readonly memberId: string; readonly command: string; readonly body: object }[] = [];
  answer: Awaited<ReturnType<ClusterControl['ask']>> = err({ code: 'no-quorum', message: 'nobody' });
  readonly #log: MemoryLog;

  constructor(log: MemoryLog) {
    this.#log = log;
  }

  status(): LoopStatus {
    const index = this.#log.appliedIndex;
    const raft: RaftStatus = {
      memberId: this.memberId,
      role: 'leader',
      term: 1,
      votedFor: this.memberId,
      leader: this.memberId,
      commitIndex: index,
      appliedIndex: index,
      firstIndex: 1,
      lastIndex: index,
      lastTerm: 1,
      membership: this.#log.machine.membership() ?? { voters: [this.memberId], learners: [] },
      progress: [],
      transferee: null,
      lostAcknowledged: false,
      ...this.raft,
    };
    return {
      raft,
      freshAsOfMs: this.nowMs,
      snapshotIndex: 0,
      halted: null,
      divergent: [],
      reports: [],
      ...this.loop,
    };
  }

  standingNow: NodeStanding = { mayServe: true, reason: '', fleetSize: 1, fenced: false };
  joining: string | null = null;
  readonly refusing = new Map<string, Refusal>();
  notAfterMs: number | null = null;
  stats: PeerTransportStats | null = null;

  standing(): NodeStanding {
    return this.standingNow;
  }

  joinProblem(): string | null {
    return this.joining;
  }

  refusals(): ReadonlyMap<string, Refusal> {
    return this.refusing;
  }

  peerStats(): PeerTransportStats | null {
    return this.stats;
  }

  certificateNotAfterMs(): number | null {
    return this.notAfterMs;
  }

  stateHash(): string {
    return this.#log.machine.stateHash();
  }

  transferLeadership(memberId: string): boolean {
    this.transfers.push(memberId);
    this.raft = { ...this.raft, leader: memberId };
    return true;
  }

  /** What a quorum says; by default that all is known here. */
  read: () => ReturnType<ClusterControl['readIndex']> = async () => ok(this.#log.appliedIndex);

  readIndex() {
    return this.read();
  }

  async ask(memberId: string, command: string, body: object) {
    this.asked.push({ memberId, command, body });
    return this.answer;
  }

  async found() {
    return ok(null);
  }

  bootTimeMs(): number {
    return this.nowMs;
  }
}
