import t from 'tap';
import { initialiseDataDirectory } from '../../src/replication/data-directory.js';
import type { Identity } from '../../src/replication/identity-file.js';
import type { PeerInbox } from '../../src/replication/peer-transport.js';
import { type OpenedRaftLog, openRaftLog } from '../../src/replication/raft-log.js';
import { raftLogLimits } from '../../src/replication/raft-log-limits.js';
import { dataDirectory, emptyDisk, nodeReport, openDirectory } from '../support/durable-node.js';
import { ListMachine, membersCommand } from '../support/list-machine.js';
import { type Fault, MemoryDisk } from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';
import { VirtualTime } from '../support/virtual-time.js';

const ids = ['member-1', 'member-2', 'member-3'] as const;
type Id = (typeof ids)[number];

interface Member extends OpenedRaftLog<number> {
  readonly machine: ListMachine;
  readonly fatal: string[];
  readonly restored: number[];
}

/** Several members over disks in memory and a network that a test can cut, in virtual time. */
class Cluster {
  readonly time = new VirtualTime();
  readonly disks = new Map<string, MemoryDisk>();
  readonly members = new Map<string, Member>();
  /** Nothing goes to them or comes from them. */
  readonly cut = new Set<string>();
  readonly #random = new SeededRandom(1);
  readonly #inboxes = new Map<string, PeerInbox>();

  static async make(faults: Partial<Record<Id, Fault>> = {}): Promise<Cluster> {
    const cluster = new Cluster();
    for (const memberId of ids) {
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

  async start(memberId: string): Promise<Member> {
    const disk = this.disks.get(memberId);
    if (disk === undefined) throw new Error(memberId);
    const directory = await openDirectory(disk);
    if (!directory.ok) throw new Error(directory.error.message);
    const machine = new ListMachine();
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

  async close(): Promise<void> {
    for (const memberId of ids) await this.stop(memberId);
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

const memberOf = (cluster: Cluster, id: Id): Member => {
  const member = cluster.members.get(id);
  if (member === undefined) throw new Error(id);
  return member;
};

/** A founder that took two others in, one at a time, as learners first. */
async function grown(faults?: Partial<Record<Id, Fault>>): Promise<Cluster> {
  const cluster = await Cluster.make(faults);
  const founder = await cluster.start('member-1');
  await cluster.propose(founder, 'before the others');
  const voters: string[] = ['member-1'];
  for (const id of ['member-2', 'member-3']) {
    await cluster.start(id);
    await cluster.propose(founder, membersCommand({ voters, learners: [id] }), true);
    voters.push(id);
    await cluster.propose(founder, membersCommand({ voters, learners: [] }), true);
  }
  return cluster;
}

t.test('a founder takes in others, who propose and read as it does', async (t) => {
  const cluster = await grown();
  const last = await cluster.propose(memberOf(cluster, 'member-3'), 'from a follower');
  await cluster.until('all have it', () => cluster.applied(last));
  const texts = memberOf(cluster, 'member-1').machine.texts();
  t.match(texts, ['before the others', /members:/, /members:/, /members:/, /members:/, 'from a follower']);
  for (const { machine } of cluster.members.values()) {
    t.strictSame(machine.texts(), texts);
    t.equal(machine.stateHash(), memberOf(cluster, 'member-1').machine.stateHash());
  }
  const read = await cluster.settled(memberOf(cluster, 'member-2').log.readIndex());
  t.match(read, { ok: true });
  t.ok(read.ok && read.value >= last);
  await cluster.close();
});

t.test('the leader goes, another leads, and all is there when it comes back', async (t) => {
  const cluster = await grown();
  await cluster.propose(memberOf(cluster, 'member-1'), 'under the first');
  await cluster.stop('member-1');
  await cluster.until('another leads', () => cluster.agreed());
  const last = await cluster.propose(memberOf(cluster, 'member-2'), 'under the second');
  const leader = cluster.leader;
  t.ok(leader !== undefined && leader.engine.memberId !== 'member-1');
  const returned = await cluster.start('member-1');
  await cluster.until('it has caught up', () => returned.log.appliedIndex >= last);
  t.match(returned.machine.texts().slice(-2), ['under the first', 'under the second']);
  t.strictSame(returned.machine.texts(), leader?.machine.texts());
  await cluster.close();
});

t.test('without a quorum nothing is taken, and what is committed is there after a cold start', async (t) => {
  const cluster = await grown();
  const last = await cluster.propose(memberOf(cluster, 'member-1'), 'committed');
  await cluster.until('all have it', () => cluster.applied(last));
  for (const id of ids) await cluster.stop(id);
  const alone = await cluster.start('member-2');
  t.equal(alone.machine.texts().at(-1), 'committed');
  const answer = await cluster.settled(alone.log.propose(Buffer.from('nobody hears'), { timeoutMs: 3_000 }));
  t.match(answer, { ok: false, error: { kind: 'not-taken' } });
  t.match(await cluster.settled(alone.log.readIndex(3_000)), { ok: false, error: { kind: 'no-quorum' } });
  await cluster.close();
});

t.test('one that is far behind gets a snapshot in place of its log, and keeps it', async (t) => {
  const cluster = await grown();
  cluster.cut.add('member-3');
  const leader = memberOf(cluster, 'member-1');
  for (let count = 0; count < 120; count += 1) {
    await cluster.propose(leader, `while it is away ${count}`);
  }
  await cluster.until('the log before is forgotten', () => {
    const { firstIndex } = cluster.leader?.engine.status().raft ?? { firstIndex: 0 };
    return firstIndex > memberOf(cluster, 'member-3').log.appliedIndex + 1;
  });
  cluster.cut.clear();
  const last = await cluster.propose(leader, 'when it is back');
  await cluster.until('all have it', () => cluster.applied(last));
  const behind = memberOf(cluster, 'member-3');
  t.ok(behind.restored.length > 0, 'by a snapshot');
  const texts = leader.machine.texts();
  t.strictSame(behind.machine.texts(), texts);
  await cluster.stop('member-3');
  const again = await cluster.start('member-3');
  t.strictSame(again.machine.texts(), texts, 'what it applied is on its disk');
  const later = await cluster.propose(again, 'and it goes on');
  await cluster.until('all have it', () => cluster.applied(later));
  t.equal(again.machine.stateHash(), leader.machine.stateHash());
  await cluster.close();
});

t.test('a leader whose disk fails says nothing any more, and loses nothing', async (t) => {
  const probe = await grown();
  const count = probe.disks.get('member-1')?.operations.length ?? 0;
  await probe.close();
  const cluster = await grown({ 'member-1': { operation: count + 4, code: 'EIO' } });
  const first = memberOf(cluster, 'member-1');
  const acknowledged: string[] = [];
  for (let place = 0; first.fatal.length === 0 && place < 50; place += 1) {
    const answer = await cluster.settled(first.log.propose(Buffer.from(`command ${place}`)));
    if (answer.ok) acknowledged.push(`command ${place}`);
    else t.equal(answer.error.kind, 'closed');
  }
  t.match(first.fatal, [/cannot write to the data directory \/data: EIO/]);
  t.match(await first.log.propose(Buffer.from('too late')), { ok: false, error: { kind: 'closed' } });
  await cluster.until('another leads', () => cluster.agreed());
  await cluster.propose(memberOf(cluster, 'member-2'), 'under another leader');
  const texts = memberOf(cluster, 'member-2').machine.texts();
  t.strictSame(
    acknowledged.filter((text) => !texts.includes(text)),
    [],
  );
  t.ok(texts.includes('under another leader'));
  await cluster.close();
});
