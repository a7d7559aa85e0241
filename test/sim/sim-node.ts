import { errorText } from '../../src/base/guards.js';
import type { HardState, LogPosition, MemberId } from '../../src/raft/types.js';
import type { AppliedEntry, ProposeFailure } from '../../src/replication/ordered-log.js';
import type { MemberGate } from '../../src/replication/peer-gate.js';
import type { PeerMessage } from '../../src/replication/peer-message.js';
import type { LoopPorts, PersistBatch, ReplicationLoop } from '../../src/replication/replication-loop.js';
import type { Refusal } from '../../src/replication/transport/refusal.js';
import { type DiskImage, emptyImage, type SimDisk } from './disk.js';
import type { History } from './history.js';
import type { ReleaseNumber } from './machine-kind.js';
import { messageText } from './message-text.js';
import { NodeClock } from './node-clock.js';
import { ObservedMachine } from './observed-machine.js';
import { Random } from './random.js';
import type { MachineResult, SimMachine } from './sim-machine.js';
import type { World } from './world.js';

export type ProposeOutcome =
  | { readonly ok: true; readonly value: AppliedEntry<MachineResult> }
  | { readonly ok: false; readonly error: ProposeFailure };

/** Who asked a node for something and waits. `null`: the node went down. */
export interface Waiting {
  readonly proposals: Map<string, (outcome: ProposeOutcome | null) => void>;
  readonly reads: Map<string, (index: number | null) => void>;
}

/** Carries a message; the receiver is found by its member id. */
export type Carry = (from: SimNode, to: MemberId, message: PeerMessage) => void;

/** What runs while the process does. */
interface Process {
  readonly loop: ReplicationLoop<MachineResult>;
  readonly machine: SimMachine;
  readonly waiting: Waiting;
}

/** What stands beside a replica on its node and follows it. */
export interface Companion {
  replicaStarted(machine: SimMachine, loop: ReplicationLoop<MachineResult>): void;
  applied(entry: { readonly index: number; readonly command: Uint8Array }): void;
  restored(index: number): void;
  fresh(asOfMs: number, index: number): void;
  replicaEnded(): void;
  /** Applied by all of it. */
  readonly appliedIndex: number;
  /** It joined behind the gate of an upgrade, too old for it: docs/simulator.md, Known limits. */
  readonly joinedTooLate: boolean;
}

/** One node: its disk and clock, and a replica process that comes and goes. */
export class SimNode {
  readonly slot: number;
  readonly memberId: MemberId;
  readonly clock: NodeClock;
  readonly disk: SimDisk;
  /** Paused until then (SIGSTOP, a suspended machine): nothing happens in it. */
  pausedUntilMs = 0;
  /** Writes take at least until then. */
  diskStalledUntilMs = 0;
  /** The next write fails. */
  diskFailing = false;
  /** The next write is not lived to see. */
  crashesWriting = false;
  /** Its disk was wiped or set back: what it does about it is its own affair. */
  lostDisk = false;
  halted: string | null = null;
  /** It is, or was, a member and has learned so. */
  knowsMembers = false;
  /** For good: a former member. */
  retired = false;
  /** An operator wants it to be off. */
  turnedOff = false;
  /** Told that it does not belong to the cluster any more. */
  fenced: string | null = null;
  /** Of its cluster. */
  history: History;
  /** What it runs from its next start on. */
  release: ReleaseNumber = 0;
  companion: Companion | null = null;
  /** Writes that reached the disk wait for it here: one at a time. */
  readonly #writes: (() => void)[] = [];
  readonly #world: World;
  #founder: boolean;
  readonly #carry: Carry;
  #process: Process | null = null;
  #incarnation = 0;
  #honestDisk = true;
  #image: DiskImage | null = null;
  #crashed: () => void = () => {};

  constructor(options: {
    readonly world: World;
    readonly slot: number;
    readonly founder: boolean;
    readonly image: DiskImage;
    readonly carry: Carry;
  }) {
    const { world, slot } = options;
    this.#world = world;
    this.slot = slot;
    this.history = world.history;
    this.memberId = `n${slot}`;
    this.#founder = options.founder;
    this.#carry = options.carry;
    const { random, scenario, build } = world;
    this.clock = new NodeClock(world.nowMs, random.between(0, 1e6), random.between(0.95, 1.05));
    this.disk = build.createDisk(options.image, scenario.segmentRecordsMax, random, build.codec);
  }

  /** It is down, and nobody wants it to be. */
  get mayStart(): boolean {
    return this.#process === null && !this.retired && !this.turnedOff;
  }

  get up(): boolean {
    return this.#process !== null;
  }

  /** `null` when down. */
  get machine(): SimMachine | null {
    return this.#process?.machine ?? null;
  }

  get loop(): ReplicationLoop<MachineResult> | null {
    return this.#process?.loop ?? null;
  }

  /** Called whenever the process ends by itself. */
  onCrash(crashed: () => void): void {
    this.#crashed = crashed;
  }

  start(): void {
    const world = this.#world;
    const recovered = this.disk.recover();
    if (!recovered.ok) {
      world.verdict.broken('recovery', `${this.memberId} can't read its disk: ${recovered.error}`);
      return;
    }
    const { value } = recovered;
    world.say(
      () =>
        `${this.memberId} starts: term ${value.hardState.term}, vote ${value.hardState.votedFor ?? '-'}, commit ${value.hardState.commitIndex}, snapshot ${value.snapshot.index}, last ${value.snapshot.index + value.entries.length}`,
    );
    this.history.checkers.recovered(this.memberId, value, this.#honestDisk);
    this.#honestDisk = true;
    this.#incarnation += 1;
    const incarnation = this.#incarnation;
    const { release } = this;
    const machine = world.kind.createMachine(release, (request, index) =>
      this.history.checkers.exactlyOnce.executed(this.memberId, request, index),
    );
    const observed = new ObservedMachine(this.memberId, machine, this.history.checkers);
    this.#guarded(() => {
      if (value.snapshotRecords !== null) observed.restore(value.snapshot.index, value.snapshotRecords);
    });
    const waiting: Waiting = { proposals: new Map(), reads: new Map() };
    this.#guarded(() => {
      const loop = new world.build.ReplicationLoop<MachineResult>({
        memberId: this.memberId,
        founder: this.#founder,
        stateMachine: observed,
        recovered: value,
        limits: world.scenario.limits,
        random: new Random(world.random.below(2 ** 31), this.slot).unit,
        nowMs: () => this.clock.localMs(world.nowMs),
        report: () => ({
          nodeName: this.memberId,
          version: String(release),
          formatMax: world.kind.formatMax(release),
          configHash: '',
          wallMs: this.clock.localMs(world.nowMs),
          servingAppliedIndex: this.companion?.appliedIndex ?? machine.appliedIndex,
          readyServingProcesses: 1,
        }),
        ports: this.#ports(machine, waiting),
      });
      this.#process = { loop, machine, waiting };
      this.companion?.replicaStarted(machine, loop);
      loop.start();
    });
    this.#scheduleTick(incarnation, world.random.unit());
  }

  /** Every call into the code under test: what it throws is a bug. */
  #guarded(call: () => void): void {
    try {
      call();
    } catch (thrown) {
      const where = thrown instanceof Error ? (thrown.stack ?? '').split('\n').slice(1, 5).join(' ') : '';
      this.#world.verdict.broken('exception', `${this.memberId}: ${errorText(thrown)} ${where}`);
    }
  }

  #scheduleTick(incarnation: number, share: number): void {
    const { tickMs } = this.#world.scenario.limits;
    this.#world.after((tickMs * share) / this.clock.rate, 'tick', this.slot, () => {
      const process = this.#process;
      if (process === null || this.#incarnation !== incarnation) return;
      this.#scheduleTick(incarnation, 1);
      this.#guarded(() => process.loop.tick());
    });
  }

  receive(from: MemberId, message: PeerMessage): void {
    const process = this.#process;
    if (process === null) return;
    this.#guarded(() => process.loop.receive(from, message));
  }

  unreachable(member: MemberId): void {
    const process = this.#process;
    if (process !== null) this.#guarded(() => process.loop.unreachable(member));
  }

  propose(
    proposalId: string,
    kind: 'command' | 'membership',
    command: Uint8Array,
    settled: (outcome: ProposeOutcome | null) => void,
  ): void {
    const process = this.#process;
    if (process === null) {
      settled(null);
      return;
    }
    process.waiting.proposals.set(proposalId, settled);
    this.#guarded(() => process.loop.propose(proposalId, kind, command, this.#world.timeoutMs));
  }

  read(readId: string, settled: (index: number | null) => void): void {
    const process = this.#process;
    if (process === null) {
      settled(null);
      return;
    }
    process.waiting.reads.set(readId, settled);
    this.#guarded(() => process.loop.readIndex(readId, this.#world.timeoutMs));
  }

  transferLeadership(to: MemberId): boolean {
    let begun = false;
    this.#guarded(() => {
      begun = this.#process?.loop.transferLeadership(to) ?? false;
    });
    return begun;
  }

  /** The process ends, now, whatever it is at. */
  crash(reason: string): void {
    const process = this.#process;
    if (process === null) return;
    this.#process = null;
    this.#incarnation += 1;
    this.#writes.length = 0;
    const fate = this.disk.crash();
    this.diskFailing = false;
    this.crashesWriting = false;
    this.companion?.replicaEnded();
    this.#world.say(
      () => `${this.memberId} ends (${reason})${fate === null ? '' : `, the write under way was ${fate}`}`,
    );
    for (const settled of process.waiting.proposals.values()) settled(null);
    for (const settled of process.waiting.reads.values()) settled(null);
  }

  /** To be set back to later. */
  keepImage(): void {
    this.#image = this.disk.image();
  }

  /** While down: its disk is empty, or as it was a while ago. */
  loseDisk(wiped: boolean): void {
    const image = wiped ? emptyImage : (this.#image ?? emptyImage);
    // Who finds his directory empty is told to join anew; a founder that founds again is another cluster.
    this.#founder = false;
    this.#world.say(
      () =>
        `${this.memberId}'s disk is ${image === emptyImage ? 'wiped' : `set back to index ${image.lastIndex}`}`,
    );
    this.disk.replace(image);
    this.#honestDisk = false;
    this.lostDisk = true;
  }

  /** What a recovery made of it: another cluster's log takes the place of its own. */
  becomesSurvivor(history: History, image: DiskImage): void {
    this.history = history;
    this.disk.replace(image);
    this.#founder = true;
    this.#image = null;
    this.#honestDisk = true;
  }

  /**
   * Whether it listens to `from` of cluster `clusterId`: why not, if not. Of those who are neither members nor left
   * behind all are let in: who was just added and is not known here yet is not told from others.
   */
  refusal(clusterId: string, from: MemberId): Refusal | null {
    const gate: MemberGate = {
      clusterId: this.history.clusterId,
      memberId: this.memberId,
      authorize: () =>
        this.machine?.leftBehind.includes(from) === true ? { ok: false, reason: 'removed' } : { ok: true },
    };
    return this.#world.build.refusalFor(gate, { clusterId, from, to: this.memberId, names: [from] });
  }

  /** A member does not listen to it (the replica's main does the same). */
  refused(by: MemberId, { reason, detail }: Refusal): void {
    if (this.fenced !== null || (reason !== 'removed' && reason !== 'other-cluster')) return;
    this.fenced = `${by}: ${detail}`;
    this.#world.say(() => `${this.memberId} is fenced off: ${by} says ${reason}, ${detail}`);
  }

  #ports(machine: SimMachine, waiting: Waiting): LoopPorts<MachineResult> {
    const world = this.#world;
    const { checkers } = this.history;
    const member = this.memberId;
    return {
      persist: (ticket, batch) => this.#persist(ticket, batch),
      persistSnapshot: (ticket, at, records, hardState) =>
        this.#persistSnapshot(ticket, at, records, hardState),
      saveSnapshot: (ticket, at, records) => this.#saveSnapshot(ticket, at, [...records]),
      send: (to, message) => {
        if (message.kind === 'raft') checkers.says(message.message);
        this.#carry(this, to, message);
      },
      proposed: (proposalId, outcome) => {
        const settled = waiting.proposals.get(proposalId);
        if (settled === undefined) {
          world.verdict.broken('outcomes', `${member} settles ${proposalId}, which is not waiting`);
          return;
        }
        waiting.proposals.delete(proposalId);
        settled(outcome);
      },
      read: (readId, index) => {
        const settled = waiting.reads.get(readId);
        if (settled === undefined) {
          world.verdict.broken('outcomes', `${member} settles read ${readId}, which is not waiting`);
          return;
        }
        waiting.reads.delete(readId);
        settled(index);
      },
      applied: ({ index, command }) => {
        checkers.announces(member, index);
        this.companion?.applied({ index, command });
        world.trace.mix(machine.hashNumber());
        world.say(() => `${member} applies ${index}`);
      },
      restored: (index) => {
        world.say(() => `${member} takes over a snapshot as of ${index}`);
        this.companion?.restored(index);
      },
      fresh: (asOfMs, index) => {
        const trueMs = this.clock.trueMs(asOfMs);
        checkers.acknowledgements.fresh(member, trueMs, index, machine.appliedIndex);
        this.companion?.fresh(asOfMs, index);
      },
      membershipChanged: ({ voters, learners }) => {
        this.knowsMembers = true;
        world.say(() => `${member} knows voters ${voters.join()} learners ${learners.join()}`);
      },
      halted: (reason) => {
        this.halted = reason;
        world.say(() => `${member} halts: ${reason}`);
        // Nobody starts it again before it has the later release.
        if (this.companion?.joinedTooLate === true) this.retired = true;
        else if (!this.lostDisk) world.verdict.broken('halted without cause', `${member}: ${reason}`);
      },
      warn: (message) => world.say(() => `${member} warns: ${message}`),
    };
  }

  /** Milliseconds that a write takes. */
  #writeMs(): number {
    const { diskMeanMs, random, nowMs } = this.#world;
    return Math.max(this.diskStalledUntilMs - nowMs, 0) + 0.02 + random.exponential(diskMeanMs);
  }

  /** Puts a write to the log behind those that wait. `begin` hands it to the disk; `done` follows when it is synced. */
  #write(begin: () => boolean, done: () => void): void {
    const run = (): void => {
      if (!begin()) {
        this.#nextWrite();
        return;
      }
      const incarnation = this.#incarnation;
      const writeMs = this.#writeMs();
      if (this.crashesWriting) {
        this.crashesWriting = false;
        this.#world.after(writeMs * this.#world.random.unit(), 'crash', -1, () => {
          if (this.#incarnation !== incarnation || this.#world.faultsEnded) return;
          this.crash('killed while writing');
          this.#crashed();
        });
      }
      this.#world.after(writeMs, 'synced', this.slot, () => {
        if (this.#incarnation !== incarnation) return;
        if (this.diskFailing) {
          this.crash('its disk failed');
          this.#crashed();
          return;
        }
        this.disk.sync();
        done();
        if (this.#incarnation === incarnation) this.#nextWrite();
      });
    };
    this.#writes.push(run);
    if (this.#writes.length === 1) run();
  }

  #nextWrite(): void {
    this.#writes.shift();
    this.#writes[0]?.();
  }

  #persist(ticket: number, { entries, hardState }: PersistBatch): void {
    const { scenario, random, faultsEnded } = this.#world;
    const { checkers } = this.history;
    const replaces = (entries[0]?.index ?? Number.POSITIVE_INFINITY) <= checkers.log(this.memberId).lastIndex;
    if (replaces && !faultsEnded && scenario.crashReplacingChance > 0) {
      this.crashesWriting ||= random.chance(scenario.crashReplacingChance);
    }
    checkers.persists(this.memberId, entries, hardState);
    this.#world.say(() => {
      const list = entries.map(({ index, term }) => `${index}/${term}`).join(' ');
      const state =
        hardState === null
          ? ''
          : ` term ${hardState.term} vote ${hardState.votedFor ?? '-'} commit ${hardState.commitIndex}`;
      return `${this.memberId} writes [${list}]${state}`;
    });
    this.#write(
      () => {
        this.disk.beginAppend(entries, hardState);
        return true;
      },
      () => this.#persisted(ticket),
    );
  }

  #persisted(ticket: number): void {
    this.history.checkers.synced(this.memberId);
    this.#guarded(() => this.#process?.loop.persisted(ticket));
  }

  #persistSnapshot(
    ticket: number,
    at: LogPosition,
    records: readonly Uint8Array[],
    hardState: HardState | null,
  ): void {
    this.history.checkers.installs(this.memberId, at, hardState);
    this.#world.say(() => `${this.memberId} installs the snapshot as of ${at.index}/${at.term}`);
    this.#write(
      () => {
        this.disk.beginInstall({ at, records }, hardState);
        return true;
      },
      () => this.#persisted(ticket),
    );
  }

  /** The file takes its own time beside the log; then its marker goes into the log. */
  #saveSnapshot(ticket: number, at: LogPosition, records: readonly Uint8Array[]): void {
    const incarnation = this.#incarnation;
    this.#world.after(2 * this.#writeMs(), 'snapshot', this.slot, () => {
      if (this.#incarnation !== incarnation) return;
      let marked = true;
      this.#write(
        () => {
          marked = this.disk.wants(at.index);
          if (marked) this.disk.beginMarker({ at, records });
          else this.#saved(ticket, at);
          return marked;
        },
        () => this.#saved(ticket, at),
      );
    });
  }

  #saved(ticket: number, at: LogPosition): void {
    this.#world.say(() => `${this.memberId} has saved a snapshot as of ${at.index}`);
    this.#guarded(() => this.#process?.loop.snapshotSaved(ticket));
  }

  describe(to: MemberId, message: PeerMessage): string {
    return `${this.memberId} > ${to}: ${messageText(message)}`;
  }
}

/** The one that has applied most, of those that run; `null` where none does. */
export function newestOf(nodes: readonly SimNode[]): SimNode | null {
  let newest: SimNode | null = null;
  for (const node of nodes) {
    if ((node.machine?.appliedIndex ?? -1) > (newest?.machine?.appliedIndex ?? -1)) newest = node;
  }
  return newest;
}
