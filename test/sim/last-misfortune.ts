import type { PeerProgress } from '../../src/raft/types.js';
import type { Random } from './random.js';
import type { LastMisfortuneKind } from './scenario.js';
import type { SimNode } from './sim-node.js';
import type { World } from './world.js';

/** Until there is a leader to speak of. */
const settlingElectionTimeouts = 3;
/** For a follower to make a snapshot that its leader, which has none as new, hears nothing of. */
const unheardTriesMax = 10;
const unheardElectionTimeouts = 4;

/**
 * What takes several things in a row that chance alone hardly ever brings together, played right before everything is
 * healed. Each of these things is one that may happen: messages lost or late, cuts, a leadership moved.
 */
export class LastMisfortune {
  readonly #world: World;
  readonly #random: Random;
  readonly #nodes: () => readonly SimNode[];
  readonly #runUntil: (lengthMs: number, done: () => boolean) => void;

  constructor(options: {
    readonly world: World;
    readonly random: Random;
    /** All that are not retired. */
    readonly nodes: () => readonly SimNode[];
    /** Lets so much simulated time go by, or less when it is done before. */
    readonly runUntil: (lengthMs: number, done: () => boolean) => void;
  }) {
    this.#world = options.world;
    this.#random = options.random;
    this.#nodes = options.nodes;
    this.#runUntil = options.runUntil;
  }

  /**
   * Once faults have ended: meanwhile only the network goes on losing, repeating and delaying. @returns of whom a majority
   * has to be made first: without them it would not show what has come of it.
   */
  play(kind: LastMisfortuneKind): readonly SimNode[] {
    this.#world.network.mendAll();
    for (const node of this.#nodes()) if (node.mayStart) node.start();
    this.#runFor(settlingElectionTimeouts * this.#electionMs);
    switch (kind) {
      case 'lostCampaign':
        this.#lostCampaign();
        return [];
      case 'lateAnswers':
        this.#lateAnswers();
        return [];
      case 'unheardFollower':
        return this.#unheardFollower();
    }
  }

  #runFor(lengthMs: number): void {
    this.#runUntil(lengthMs, () => false);
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

  /**
   * What a follower says of the entries that it takes is lost. It applies what is committed with the others' votes, and
   * makes a snapshot of more than the leader knows that it has; then the connection breaks, and the leader, whose own log
   * still begins before that, goes back to what it knows (databendlabs/openraft#511).
   */
  #unheardFollower(): readonly SimNode[] {
    const { network } = this.#world;
    for (let attempt = 0; attempt < unheardTriesMax; attempt += 1) {
      const leader = this.#leader();
      const others = leader === null ? [] : this.#otherVoters(leader);
      // Without it there must be a majority still.
      if (leader === null || others.length < 2) return [];
      const follower = this.#random.pick(others);
      network.loseAcceptances(follower.slot, leader.slot);
      this.#runUntil(
        unheardElectionTimeouts * this.#electionMs,
        () => stateOf(leader, follower) !== 'waiting',
      );
      if (stateOf(leader, follower) === 'unheard') {
        this.#world.say(
          () => `${leader.memberId} has not heard of the snapshot that ${follower.memberId} made`,
        );
        network.cut(leader.slot, follower.slot);
        network.cut(follower.slot, leader.slot);
        this.#runUntil(this.#electionMs, () => progressOf(leader, follower)?.state !== 'replicate');
        network.hearAcceptances();
        network.mendAll();
        return [leader, follower];
      }
      network.hearAcceptances();
      this.#runFor(this.#electionMs);
    }
    return [];
  }
}

/** `late`: what the leader would have to send is compacted by itself, too. */
function stateOf(leader: SimNode, follower: SimNode): 'waiting' | 'unheard' | 'late' {
  const known = progressOf(leader, follower)?.matchIndex;
  if (known === undefined || snapshotIndexOf(leader) > known) return 'late';
  return snapshotIndexOf(follower) > known ? 'unheard' : 'waiting';
}

const snapshotIndexOf = ({ loop }: SimNode): number => loop?.status().snapshotIndex ?? 0;

const progressOf = ({ loop }: SimNode, { memberId }: SimNode): PeerProgress | undefined =>
  loop?.status().raft.progress.find((progress) => progress.memberId === memberId);
