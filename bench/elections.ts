import { Command } from 'commander';
import { defaultSettings } from '../src/keystate/cluster-settings.js';
import { RaftNode } from '../src/raft/raft-node.js';
import type { Membership, Ready } from '../src/raft/types.js';
import { EventQueue } from '../test/sim/event-queue.js';
import { SeededRandom } from '../test/support/seeded-random.js';
import { percentile } from './open-loop.js';

/**
 * `node dist/bench/elections.js`: how long three members are without a leader when theirs dies, by the consensus core and
 * the settings that ship, in simulated time: what a machine adds by being busy is not in it.
 */
const command = new Command('elections')
  .option('--deaths <count>', 'leaders that die', Number, 2_000)
  .option('--hop <ms>', 'from member to member, on average', Number, 4)
  .option('--sync <ms>', 'for a write to be durable, on average', Number, 6)
  .option('--seed <number>', 'what all is drawn from', Number, 1);
const options = command.parse().opts<{ deaths: number; hop: number; sync: number; seed: number }>();

const { tickMs, electionTicks, heartbeatTicks } = defaultSettings;
const ids = ['1', '2', '3'];
const membership: Membership = { voters: ids, learners: [] };
/** The contract's bound. */
const newLeaderWithinMs = 1_500;
/** Of peace before a leader dies, so that the death falls anywhere between two heartbeats. */
const peaceMs = { min: 1_000, max: 2_000 };

interface SimMember {
  readonly id: string;
  readonly node: RaftNode;
  alive: boolean;
  writing: boolean;
}

const random = new SeededRandom(options.seed);
const unit = (): number => random.integer(2 ** 30) / 2 ** 30;
const between = (min: number, max: number): number => min + unit() * (max - min);
/** Half to one and a half times as long; every twentieth three times as long. */
const about = (ms: number): number => (random.integer(20) === 0 ? 3 * ms : between(ms / 2, 1.5 * ms));

const startMember = (id: string): SimMember => ({
  id,
  alive: true,
  writing: false,
  node: new RaftNode(
    {
      memberId: id,
      electionTicks,
      heartbeatTicks,
      random: unit,
      inflightMessagesMax: 256,
      inflightBytesMax: 1 << 20,
      appendBytesMax: 1 << 20,
      uncommittedBytesMax: 1 << 20,
      committedBytesMax: 1 << 20,
    },
    {
      hardState: { term: 0, votedFor: null, commitIndex: 0 },
      snapshot: { index: 0, term: 0 },
      entries: [],
      membership,
      appliedIndex: 0,
    },
  ),
});

/** One cluster, from its first leader's death to the next leader. */
class Trial {
  readonly #queue = new EventQueue();
  readonly #members = ids.map(startMember);
  #nowMs = 0;

  run(): { readonly ms: number; readonly terms: number } {
    for (const member of this.#members) this.#tickFrom(member, between(0, tickMs));
    while (this.#leader(0) === undefined) this.#next();
    const deathMs = this.#nowMs + between(peaceMs.min, peaceMs.max);
    while (this.#nowMs < deathMs) this.#next();
    const dead = this.#leader(0);
    if (dead === undefined) return new Trial().run();
    const { term } = dead.node.status();
    dead.alive = false;
    const fromMs = this.#nowMs;
    for (;;) {
      const next = this.#leader(term);
      if (next !== undefined) return { ms: this.#nowMs - fromMs, terms: next.node.status().term - term };
      this.#next();
    }
  }

  #leader(termAbove: number): SimMember | undefined {
    return this.#members.find(({ alive, node }) => {
      const { role, term } = node.status();
      return alive && role === 'leader' && term > termAbove;
    });
  }

  #next(): void {
    const event = this.#queue.pop();
    if (event === null) throw new Error('nothing happens any more');
    this.#nowMs = event.atMs;
    event.run();
  }

  #at(ms: number, member: SimMember, kind: string, run: () => void): void {
    this.#queue.push(ms, kind, ids.indexOf(member.id), () => {
      if (member.alive) run();
    });
  }

  #tickFrom(member: SimMember, ms: number): void {
    this.#at(ms, member, 'tick', () => {
      member.node.tick();
      this.#drive(member);
      this.#tickFrom(member, ms + tickMs);
    });
  }

  #drive(member: SimMember): void {
    while (!member.writing && member.node.hasReady()) {
      const ready = member.node.ready();
      if (ready.entries.length === 0 && ready.hardState === null) {
        this.#finish(member, ready);
        continue;
      }
      member.writing = true;
      this.#at(this.#nowMs + about(options.sync), member, 'durable', () => {
        member.writing = false;
        this.#finish(member, ready);
        this.#drive(member);
      });
    }
  }

  #finish({ node }: SimMember, { messages, committed }: Ready): void {
    for (const message of messages) {
      const to = this.#members.find(({ id }) => id === message.to);
      if (to === undefined || message.kind === 'snapshot') continue;
      this.#at(this.#nowMs + about(options.hop), to, message.kind, () => {
        to.node.step(message);
        this.#drive(to);
      });
    }
    const last = committed.at(-1);
    if (last !== undefined) node.applied(last.index, membership);
    node.advance();
  }
}

const trials = Array.from({ length: options.deaths }, () => new Trial().run());
const ascending = Float64Array.from(trials.map(({ ms }) => ms)).sort();
const at = (fraction: number): string => percentile(ascending, fraction).toFixed(0);
const repeated = trials.filter(({ terms }) => terms > 1).length;
const late = trials.filter(({ ms }) => ms > newLeaderWithinMs).length;
console.log(
  `${trials.length} leaders died, messages take ${options.hop} ms and writes ${options.sync} ms: a new one after p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, p99.9 ${at(0.999)} ms, at most ${at(1)} ms; ${late} after ${newLeaderWithinMs} ms; ${repeated} times at the second election or later`,
);
