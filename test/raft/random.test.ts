import t from 'tap';
import type { MemberId, Membership, Message, Ready } from '../../src/raft/types.js';
import { emptyDisk, TestCluster, type TestMember } from '../support/raft-cluster.js';
import { RaftSafety } from '../support/raft-safety.js';
import { SeededRandom } from '../support/seeded-random.js';

/**
 * Members that crash, on a network that loses, repeats and reorders, with membership changes and snapshots: whatever
 * one seed brings. A quick one; the simulator goes further.
 */
const steps = 12_000;
const seeds = 40;
const messagesMax = 200;

type Phase = 'idle' | 'taken' | 'persisted';

class RandomRun {
  readonly #random: SeededRandom;
  readonly safety = new RaftSafety();
  readonly cluster: TestCluster;
  readonly #phases = new Map<MemberId, Phase>();
  readonly #ready = new Map<MemberId, Ready>();
  readonly #asked = new Map<string, number>();
  #cut: ReadonlySet<MemberId> = new Set();
  #counter = 0;
  snapshots = 0;
  reads = 0;
  changes = 0;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    this.cluster = new TestCluster(() => this.#random.integer(1 << 20) / (1 << 20), {
      inflightMessagesMax: 3,
      appendBytesMax: 200,
      inflightBytesMax: 500,
      committedBytesMax: 150,
      uncommittedBytesMax: 2_000,
    });
    const voters = ['1', '2', '3', '4', '5'].slice(0, this.#random.pick([1, 3, 3, 4, 5]));
    for (const id of ['1', '2', '3', '4', '5']) {
      const founder = voters.includes(id);
      this.cluster.add(id, emptyDisk({ voters: founder ? voters : [], learners: [] }));
    }
  }

  get #members(): readonly TestMember[] {
    return [...this.cluster.members.values()];
  }

  #chance(percent: number): boolean {
    return this.#random.integer(1_000) < percent * 10;
  }

  /** One stage of one member's Ready. */
  #work(member: TestMember): void {
    const phase = this.#phases.get(member.id) ?? 'idle';
    const ready = this.#ready.get(member.id);
    if (phase === 'idle' || ready === undefined) {
      if (!member.node.hasReady()) return;
      this.#ready.set(member.id, member.take());
      this.#phases.set(member.id, 'taken');
    } else if (phase === 'taken') {
      this.safety.check(member, ready);
      member.persist();
      this.cluster.send(member, ready);
      if (ready.messages.some(({ kind }) => kind === 'snapshot')) this.snapshots += 1;
      this.#phases.set(member.id, 'persisted');
    } else {
      this.#phases.set(member.id, 'idle');
      const answered = member.reads.length;
      member.finish();
      for (const { readId, index } of member.reads.slice(answered)) this.#answered(readId, index);
      this.safety.observe(member);
    }
  }

  #answered(readId: string, index: number | null): void {
    const atLeast = this.#asked.get(readId) ?? Number.POSITIVE_INFINITY;
    if (index === null) return;
    this.reads += 1;
    if (index < atLeast)
      throw new Error(`stale read: ${index} where ${atLeast} was applied when it was asked`);
  }

  #crash(member: TestMember): void {
    this.#phases.set(member.id, 'idle');
    this.#ready.delete(member.id);
    member.restart();
    this.safety.crashed(member);
  }

  #change(member: TestMember): void {
    const { voters, learners } = member.node.status().membership;
    const id = this.#random.pick(['1', '2', '3', '4', '5']);
    const next: Membership = voters.includes(id)
      ? { voters: voters.filter((voter) => voter !== id), learners }
      : learners.includes(id)
        ? { voters: [...voters, id], learners: learners.filter((learner) => learner !== id) }
        : { voters, learners: [...learners, id] };
    if (next.voters.length === 0) return;
    const command = `voters=${next.voters.join(',')} learners=${next.learners.join(',')}`;
    if (member.node.propose('membership', new TextEncoder().encode(command)).ok) this.changes += 1;
  }

  #deliver(): void {
    const { inFlight } = this.cluster;
    if (inFlight.length === 0) return;
    const at = this.#chance(70) ? 0 : this.#random.integer(inFlight.length);
    const message = inFlight[at];
    if (message === undefined) return;
    if (!this.#chance(5)) inFlight.splice(at, 1);
    if (this.#chance(5) || this.#cut.has(message.from) !== this.#cut.has(message.to)) {
      this.#lost(message);
      return;
    }
    const member = this.cluster.member(message.to);
    member.node.step(message);
    if (message.kind === 'snapshot') this.cluster.node(message.from).reportSnapshot(message.to, true);
    this.safety.observe(member);
  }

  #lost(message: Message): void {
    const from = this.cluster.node(message.from);
    if (message.kind === 'snapshot') from.reportSnapshot(message.to, false);
    else if (this.#chance(20)) from.reportUnreachable(message.to);
  }

  step(): void {
    const member = this.#random.pick(this.#members);
    const what = this.#random.integer(1_000);
    if (what < 420) this.#work(member);
    else if (what < 850) this.#deliver();
    else if (what < 920) member.node.tick();
    else if (what < 950) {
      this.#counter += 1;
      member.node.propose('command', new TextEncoder().encode(`c${this.#counter}`));
    } else if (what < 970) {
      this.#counter += 1;
      this.#asked.set(`r${this.#counter}`, this.safety.appliedIndex);
      member.node.readIndex(`r${this.#counter}`);
    } else if (what < 980) this.#change(member);
    else if (what < 983) this.#crash(member);
    else if (what < 990) {
      if ((this.#phases.get(member.id) ?? 'idle') === 'idle') member.compact();
    } else if (what < 992) {
      this.#cut = new Set(this.#members.filter(() => this.#chance(40)).map(({ id }) => id));
    } else if (what < 997) this.#cut = new Set();
    else if (what < 998) member.node.transferLeadership(this.#random.pick(this.#members).id);
    else if (what < 999) member.node.stepDown();
    else member.node.setElectable(this.#chance(70));
    this.safety.observe(member);
    // The network forgets the oldest.
    while (this.cluster.inFlight.length > messagesMax) {
      const oldest = this.cluster.inFlight.shift();
      if (oldest !== undefined) this.#lost(oldest);
    }
  }

  /** No more faults: whether a command proposed now is applied by all members. */
  heals(): boolean {
    this.#cut = new Set();
    for (const member of this.#members) {
      while ((this.#phases.get(member.id) ?? 'idle') !== 'idle') this.#work(member);
      member.node.setElectable(true);
    }
    for (let round = 0; round < 300; round += 1) {
      for (const member of this.#members) {
        member.node.tick();
        for (let stage = 0; stage < 60; stage += 1) this.#work(member);
        while ((this.#phases.get(member.id) ?? 'idle') !== 'idle') this.#work(member);
      }
      for (const message of this.cluster.deliver()) this.safety.observe(this.cluster.member(message.to));
      const leader = this.#members.find(({ node }) => node.status().role === 'leader');
      if (round === 200) leader?.node.propose('command', new TextEncoder().encode('last'));
    }
    const leader = this.#members.find(({ node }) => node.status().role === 'leader');
    if (leader === undefined) return false;
    const { voters, learners } = leader.node.status().membership;
    return [...voters, ...learners].every((id) => this.cluster.member(id).state.commands.includes('last'));
  }
}

t.test('the properties of figure 3 hold under random faults, and all go on when they end', async (t) => {
  let [elections, snapshots, reads, changes] = [0, 0, 0, 0];
  for (let seed = 1; seed <= seeds; seed += 1) {
    const run = new RandomRun(seed);
    try {
      for (let step = 0; step < steps; step += 1) run.step();
      t.ok(run.heals(), `seed ${seed} goes on after the faults`);
    } catch (error) {
      t.fail(`seed ${seed}`, { error });
    }
    elections += run.safety.elections;
    snapshots += run.snapshots;
    reads += run.reads;
    changes += run.changes;
  }
  // A run in which little happens proves little.
  t.ok(elections > 5 * seeds, `${elections} elections`);
  t.ok(snapshots > seeds, `${snapshots} snapshots`);
  t.ok(reads > 10 * seeds, `${reads} reads answered`);
  t.ok(changes > 2 * seeds, `${changes} membership changes`);
});
