import { invariant } from '../../src/base/guards.js';
import { RaftNode, type RaftOptions } from '../../src/raft/raft-node.js';
import type {
  Entry,
  HardState,
  LogPosition,
  MemberId,
  Membership,
  Message,
  Ready,
} from '../../src/raft/types.js';

/** A state machine that remembers its commands. Membership commands read `voters=1,2 learners=3`. */
export interface MachineState {
  readonly appliedIndex: number;
  readonly membership: Membership;
  readonly commands: readonly string[];
}

export interface Snapshot {
  readonly position: LogPosition;
  readonly state: MachineState;
}

const text = new TextDecoder();
const bytes = new TextEncoder();

export const encode = (command: string): Uint8Array => bytes.encode(command);
export const decode = (data: Uint8Array): string => text.decode(data);

const ids = (list: string | undefined): readonly MemberId[] =>
  list === undefined || list === '' ? [] : list.split(',');

export function parseMembership(command: string): Membership {
  const voters = /(?:^| )voters=([^ ]*)/.exec(command)?.[1];
  const learners = /(?:^| )learners=([^ ]*)/.exec(command)?.[1];
  return { voters: ids(voters), learners: ids(learners) };
}

export function applyEntry(state: MachineState, entry: Entry): MachineState {
  invariant(entry.index === state.appliedIndex + 1, `applied ${entry.index} after ${state.appliedIndex}`);
  const command = decode(entry.data);
  return {
    appliedIndex: entry.index,
    membership: entry.kind === 'membership' ? parseMembership(command) : state.membership,
    commands: entry.kind === 'noop' ? state.commands : [...state.commands, command],
  };
}

/** What may differ from test to test. */
export type RaftLimits = {
  -readonly [name in Exclude<keyof RaftOptions, 'memberId' | 'random'>]: RaftOptions[name];
};

const testOptions = (
  memberId: MemberId,
  random: () => number,
  changes: Partial<RaftLimits> = {},
): RaftOptions => ({
  memberId,
  electionTicks: 10,
  heartbeatTicks: 1,
  random,
  inflightMessagesMax: 8,
  inflightBytesMax: 1 << 20,
  appendBytesMax: 1 << 16,
  uncommittedBytesMax: 1 << 20,
  committedBytesMax: 1 << 20,
  ...changes,
});

/** What a member's disk holds: it alone survives a crash. */
export interface Disk {
  hardState: HardState;
  snapshot: Snapshot;
  entries: readonly Entry[];
}

/** A RaftNode with a disk and a state machine, driven by hand: what surrounds the core, as its contract says. */
export class TestMember {
  readonly id: MemberId;
  readonly disk: Disk;
  readonly #options: RaftOptions;
  readonly #snapshotAt: (position: LogPosition) => Snapshot;
  node: RaftNode;
  state: MachineState;
  readonly reads: { readonly readId: string; readonly index: number | null }[] = [];
  #ready: Ready | null = null;

  /** @param snapshotAt where the bytes of a snapshot come from that stepped in. */
  constructor(options: RaftOptions, disk: Disk, snapshotAt: (position: LogPosition) => Snapshot) {
    this.id = options.memberId;
    this.#options = options;
    this.disk = disk;
    this.#snapshotAt = snapshotAt;
    this.state = disk.snapshot.state;
    this.node = this.#start();
  }

  #start(): RaftNode {
    const { hardState, snapshot, entries } = this.disk;
    return new RaftNode(this.#options, {
      hardState,
      snapshot: snapshot.position,
      entries,
      membership: snapshot.state.membership,
      appliedIndex: snapshot.position.index,
    });
  }

  /** A crash and a new start: what was not persisted is gone, the state machine begins at the snapshot. */
  restart(): void {
    this.#ready = null;
    this.state = this.disk.snapshot.state;
    this.node = this.#start();
  }

  /** Takes a Ready; lost in a crash before `persist`. */
  take(): Ready {
    this.#ready = this.node.ready();
    return this.#ready;
  }

  persist(): void {
    invariant(this.#ready !== null, 'persist without take');
    const { snapshot, entries, hardState } = this.#ready;
    const { disk } = this;
    if (snapshot !== null) {
      disk.snapshot = this.#snapshotAt(snapshot.position);
      disk.entries = [];
      this.state = disk.snapshot.state;
    }
    const first = entries[0];
    if (first !== undefined) {
      disk.entries = [...disk.entries.filter(({ index }) => index < first.index), ...entries];
    }
    if (hardState !== null) disk.hardState = hardState;
  }

  /** Applies, and advances. */
  finish(): void {
    invariant(this.#ready !== null, 'finish without take');
    const { committed, reads } = this.#ready;
    this.#ready = null;
    this.reads.push(...reads);
    for (const entry of committed) {
      this.state = applyEntry(this.state, entry);
      if (entry.kind === 'membership') this.node.applied(entry.index, this.state.membership);
    }
    if (committed.length > 0) this.node.applied(this.state.appliedIndex, this.state.membership);
    this.node.advance();
  }

  /** Snapshot and compaction up to what is applied, or an earlier index whose state is given. */
  compact(): void {
    const index = this.state.appliedIndex;
    const entry = this.node.entry(index);
    if (entry === null) return;
    this.disk.snapshot = { position: { index, term: entry.term }, state: this.state };
    this.disk.entries = this.disk.entries.filter((kept) => kept.index > index);
    this.node.compact(index);
  }
}

export const emptyDisk = (membership: Membership): Disk => ({
  hardState: { term: 0, votedFor: null, commitIndex: 0 },
  snapshot: {
    position: { index: 0, term: 0 },
    state: { appliedIndex: 0, membership, commands: [] },
  },
  entries: [],
});

/** Members on a network that delivers when told to. */
export class TestCluster {
  readonly members = new Map<MemberId, TestMember>();
  inFlight: Message[] = [];
  readonly #snapshots = new Map<number, Snapshot>();
  readonly #random: () => number;
  readonly #changes: Partial<RaftLimits>;

  constructor(random: () => number = () => 0.5, changes: Partial<RaftLimits> = {}) {
    this.#random = random;
    this.#changes = changes;
  }

  add(id: MemberId, disk: Disk): TestMember {
    const options = testOptions(id, this.#random, this.#changes);
    const member = new TestMember(options, disk, ({ index }) => {
      const snapshot = this.#snapshots.get(index);
      invariant(snapshot !== undefined, `no snapshot ${index}`);
      return snapshot;
    });
    this.members.set(id, member);
    return member;
  }

  static of(
    voters: readonly MemberId[],
    changes: Partial<RaftLimits> = {},
    learners: readonly MemberId[] = [],
  ): TestCluster {
    const cluster = new TestCluster(() => 0.5, changes);
    for (const id of [...voters, ...learners]) cluster.add(id, emptyDisk({ voters, learners }));
    return cluster;
  }

  member(id: MemberId): TestMember {
    const member = this.members.get(id);
    invariant(member !== undefined, `no member ${id}`);
    return member;
  }

  node(id: MemberId): RaftNode {
    return this.member(id).node;
  }

  /** Works off one Ready of a member. */
  process(id: MemberId): Ready {
    const member = this.member(id);
    const ready = member.take();
    member.persist();
    this.send(member, ready);
    member.finish();
    return ready;
  }

  send(member: TestMember, ready: Ready): void {
    for (const message of ready.messages) {
      if (message.kind === 'snapshot') {
        invariant(message.position.index === member.state.appliedIndex, 'a snapshot of another index');
        this.#snapshots.set(message.position.index, { position: message.position, state: member.state });
      }
      this.inFlight.push(message);
    }
  }

  /** Takes messages off the network. */
  take(which: (message: Message) => boolean): readonly Message[] {
    const taken = this.inFlight.filter(which);
    this.inFlight = this.inFlight.filter((message) => !taken.includes(message));
    return taken;
  }

  deliver(which: (message: Message) => boolean = () => true): readonly Message[] {
    const taken = this.take(which);
    for (const message of taken) this.members.get(message.to)?.node.step(message);
    return taken;
  }

  /** Until nothing happens any more among `among`; messages to others are lost. */
  settle(among: readonly MemberId[] = [...this.members.keys()]): void {
    for (let round = 0; round < 1_000; round += 1) {
      let busy = false;
      for (const id of among) {
        while (this.node(id).hasReady()) {
          this.process(id);
          busy = true;
        }
      }
      this.take(({ from, to }) => !among.includes(from) || !among.includes(to));
      if (this.deliver().length > 0) busy = true;
      if (!busy) return;
    }
    throw new Error('the cluster does not settle');
  }

  tick(id: MemberId, ticks = 1): void {
    for (let tick = 0; tick < ticks; tick += 1) this.node(id).tick();
  }

  elect(id: MemberId, among?: readonly MemberId[]): void {
    this.node(id).campaign();
    this.settle(among);
    invariant(this.node(id).status().role === 'leader', `${id} was not elected`);
  }

  /** A campaign among these, until `id` leads and has sent nothing yet; what goes to others is lost. */
  electOnly(id: MemberId, among: readonly MemberId[]): void {
    this.node(id).campaign();
    for (let round = 0; this.node(id).status().role !== 'leader'; round += 1) {
      invariant(round < 10, `${id} is not elected`);
      for (const each of among) if (this.node(each).hasReady()) this.process(each);
      this.take(({ from, to }) => !among.includes(from) || !among.includes(to));
      this.deliver();
    }
  }

  propose(id: MemberId, command: string, kind: 'command' | 'membership' = 'command'): void {
    const proposed = this.node(id).propose(kind, encode(command));
    invariant(proposed.ok, `not proposed: ${proposed.ok ? '' : proposed.error.kind}`);
  }
}
