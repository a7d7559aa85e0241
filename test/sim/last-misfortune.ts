import type { Random } from './random.js';
import type { LastMisfortuneKind } from './scenario.js';
import type { SimNode } from './sim-node.js';
import type { World } from './world.js';

/** Until there is a leader to speak of. */
const settlingElectionTimeouts = 3;

/**
 * What takes several things in a row that chance alone hardly ever brings together, played right before everything is
 * healed. Each of these things is one that may happen: messages lost or late, cuts, a leadership moved.
 */
export class LastMisfortune {
  readonly #world: World;
  readonly #random: Random;
  readonly #nodes: () => readonly SimNode[];
  readonly #runFor: (lengthMs: number) => void;

  constructor(options: {
    readonly world: World;
    readonly random: Random;
    /** All that are not retired. */
    readonly nodes: () => readonly SimNode[];
    /** Lets so much simulated time go by. */
    readonly runFor: (lengthMs: number) => void;
  }) {
    this.#world = options.world;
    this.#random = options.random;
    this.#nodes = options.nodes;
    this.#runFor = options.runFor;
  }

  /** Once faults have ended: meanwhile only the network goes on losing, repeating and delaying. */
  play(kind: LastMisfortuneKind): void {
    this.#world.network.mendAll();
    for (const node of this.#nodes()) if (node.mayStart) node.start();
    this.#runFor(settlingElectionTimeouts * this.#electionMs);
    switch (kind) {
      case 'lostCampaign':
        this.#lostCampaign();
        return;
      case 'lateAnswers':
        this.#lateAnswers();
        return;
    }
  }

  get #electionMs(): number {
    const { tickMs, electionTicks } = this.#world.scenario.limits;
    return tickMs * electionTicks;
  }

  #leader(): SimNode | null {
    const { newestLeader } = this.#world.checkers;
    return this.#nodes().find(({ memberId }) => memberId === newestLeader) ?? null;
  }

  #otherVoters(leader: SimNode): readonly SimNode[] {
    const voters = leader.machine?.membership()?.voters ?? [];
    return this.#nodes().filter((node) => node !== leader && voters.includes(node.memberId));
  }

  /**
   * A member takes a term of its own that nobody else hears of: asked to lead, it campaigns without PreVote (thesis
   * §3.10), and its requests are lost. Those that go on without it must bring it back (etcd-io/etcd#8501, #8243).
   */
  #lostCampaign(): void {
    const leader = this.#leader();
    const others = leader === null ? [] : this.#otherVoters(leader);
    if (leader === null || others.length === 0) return;
    const candidate = this.#random.pick(others);
    this.#world.say(() => `${candidate.memberId} is to lead, and asks for votes in vain`);
    this.#world.network.loseVoteRequests(candidate.slot);
    leader.transferLeadership(candidate.memberId);
    this.#runFor(2 * this.#electionMs);
  }

  /**
   * A leader and one follower are cut off, and what the follower answers stays on the way. The others go on, the leader
   * comes back, loses what only the two of them had, and leads again: then the answers of that earlier term arrive.
   */
  #lateAnswers(): void {
    const { network } = this.#world;
    const leader = this.#leader();
    const others = leader === null ? [] : this.#otherVoters(leader);
    const [follower, ...rest] = this.#random.shuffled(others);
    if (leader === null || follower === undefined) return;
    this.#world.say(() => `what ${follower.memberId} answers ${leader.memberId} stays on the way`);
    const electionMs = this.#electionMs;
    const cut = (left: SimNode, right: SimNode): void => {
      network.cut(left.slot, right.slot);
      network.cut(right.slot, left.slot);
    };
    for (const other of rest) for (const one of [leader, follower]) cut(one, other);
    network.holdBack(follower.slot, leader.slot);
    this.#runFor(2 * electionMs);
    network.mendAll();
    for (const other of [leader, ...rest]) cut(follower, other);
    this.#runFor(2 * electionMs);
    this.#leader()?.transferLeadership(leader.memberId);
    this.#runFor(electionMs);
    network.mendAll();
    network.letThrough();
    this.#runFor(electionMs);
  }
}
