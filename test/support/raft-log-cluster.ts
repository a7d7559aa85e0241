import { initialiseDataDirectory } from '../../src/replication/data-directory.js';
import type { Identity } from '../../src/replication/identity-file.js';
import type { PeerInbox } from '../../src/replication/peer-transport.js';
import { type OpenedRaftLog, openRaftLog } from '../../src/replication/raft-log.js';
import { raftLogLimits } from '../../src/replication/raft-log-limits.js';
import { dataDirectory, emptyDisk, nodeReport, openDirectory } from './durable-node.js';
import { ListMachine, membersCommand } from './list-machine.js';
import { type Fault, MemoryDisk } from './memory-disk.js';
import { SeededRandom } from './seeded-random.js';
import { VirtualTime } from './virtual-time.js';

export const memberIds = ['member-1', 'member-2', 'member-3'] as const;
export type Id = (typeof memberIds)[number];

export interface Member extends OpenedRaftLog<number> {
  readonly machine: ListMachine;
  readonly fatal: string[];
  readonly restored: number[];
}

/** Several members over disks in memory and a network that a test can cut, in virtual time. */
export class RaftCluster {
  readonly time = new VirtualTime();
  readonly disks = new Map<string, MemoryDisk>();
  readonly members = new Map<string, Member>();
  /** Nothing goes to them or comes from them. */
  readonly cut = new Set<string>();
  readonly #random = new SeededRandom(1);
  readonly #inboxes = new Map<string, PeerInbox>();
  #pump: NodeJS.Immediate | null = null;

  static async make(faults: Partial<Record<Id, Fault>> = {}): Promise<RaftCluster> {
    const cluster = new RaftCluster();
    for (const memberId of memberIds) {
      const disk = new MemoryDisk(emptyDisk, cluster.#random, faults[memberId] ?? null);
      cluster.disks.set(memberId, disk);
      const node = { nodeName: 'node-a', clusterId: 'cluster-1', memberId };
      const identity: Identity =
        memberId === 'member-1'
          ? { ...node, role: 'founder' }
          : { ...node, role: 'joiner', join: { joinSecret: null, peers: [] } };
      const made = await initialiseDataDirectory({
        dir: dataDirectory,
        files: disk,
        ballastBytes: 700,
        ...identity,
      });
      if (!made.ok) throw new Error(made.error.message);
    }
    return cluster;
  }

  async start(memberId: string, machine = new ListMachine()): Promise<Member> {
    const disk = this.disks.get(memberId);
    if (disk === undefined) throw new Error(memberId);
    const directory = await openDirectory(disk);
    if (!directory.ok) throw new Error(directory.error.message);
    const fatal: string[] = [];
    const restored: number[] = [];
    const opened = await openRaftLog<number>({
      directory: directory.value,
      stateMachine: machine,
      transport: {
        send: (to, message) => {
          if (this.cut.has(to) || this.cut.has(memberId)) return;
          // As from a socket: not before the sender is done.
          setImmediate(() => this.#inboxes.get(to)?.receive(memberId, message));
        },
        setMembers: () => {},
        close: async () => {},
      },
      timers: this.time,
      bootTimeMs: () => this.time.monotonicMs(),
      random: () => this.#random.integer(1_000_000) / 1_000_000,
      report: nodeReport,
      onFatal: (message) => fatal.push(message),
      onHalted: (reason) => fatal.push(reason),
      onWarning: () => {},
      limits: { snapshotEntries: 20 },
      segmentBytesMax: 4_096,
    });
    if (!opened.ok) throw new Error(opened.error.message);
    opened.value.log.subscribe({ onEntry: () => {}, onRestore: (index) => restored.push(index) });
    const member = { ...opened.value, machine, fatal, restored };
    this.#inboxes.set(memberId, opened.value.inbox);
    this.members.set(memberId, member);
    return member;
  }

  async stop(memberId: string): Promise<void> {
    this.#inboxes.delete(memberId);
    const member = this.members.get(memberId);
    this.members.delete(memberId);
    await this.settled(member?.log.close() ?? Promise.resolve());
  }

  /** Lets time pass by itself, until `close`. */
  run(): void {
    this.#pump = setImmediate(() => {
      this.time.advance(raftLogLimits.tickMs);
      this.run();
    });
  }

  async close(): Promise<void> {
    if (this.#pump !== null) clearImmediate(this.#pump);
    for (const memberId of memberIds) await this.stop(memberId);
  }

  /** Lets time pass until it is so. */
  async until(what: string, reached: () => boolean): Promise<void> {
    for (let ticks = 0; ticks < 2_000; ticks += 1) {
      if (reached()) return;
      this.time.advance(raftLogLimits.tickMs);
      await new Promise((resolve) => setImmediate(resolve));
    }
    throw new Error(`never: ${what}`);
  }

  async settled<T>(promise: Promise<T>): Promise<T> {
    let done = false;
    const end = promise.finally(() => {
      done = true;
    });
    await this.until('it settles', () => done);
    return end;
  }

  async propose(member: Member, text: string | Buffer, membership = false): Promise<number> {
    const command = typeof text === 'string' ? Buffer.from(text) : text;
    const answer = await this.settled(member.log.propose(command, { membership, timeoutMs: 20_000 }));
    if (!answer.ok) throw new Error(JSON.stringify(answer.error));
    return answer.value.index;
  }

  get leader(): Member | undefined {
    return [...this.members.values()].find(
      ({ engine, fatal }) => fatal.length === 0 && engine.status().raft.role === 'leader',
    );
  }

  /** All who are there know one leader, who is there. */
  agreed(): boolean {
    const { leader } = this;
    if (leader === undefined) return false;
    const alive = [...this.members.values()].filter(({ fatal }) => fatal.length === 0);
    return alive.every(({ engine }) => engine.status().raft.leader === leader.engine.memberId);
  }

  applied(index: number): boolean {
    return [...this.members.values()].every(({ log }) => log.appliedIndex >= index);
  }
}

export const memberOf = (cluster: RaftCluster, id: Id): Member => {
  const member = cluster.members.get(id);
  if (member === undefined) throw new Error(id);
  return member;
};

/** A founder that took two others in, one at a time, as learners first. */
export async function grownCluster(
  options: {
    readonly faults?: Partial<Record<Id, Fault>>;
    readonly machines?: Partial<Record<Id, ListMachine>>;
  } = {},
): Promise<RaftCluster> {
  const { faults, machines = {} } = options;
  const cluster = await RaftCluster.make(faults);
  const founder = await cluster.start('member-1', machines['member-1']);
  const voters: string[] = ['member-1'];
  for (const id of ['member-2', 'member-3'] as const) {
    await cluster.start(id, machines[id]);
    await cluster.propose(founder, membersCommand({ voters, learners: [id] }), true);
    voters.push(id);
    await cluster.propose(founder, membersCommand({ voters, learners: [] }), true);
  }
  return cluster;
}
