import type { Membership } from '../../src/raft/types.js';
import type { Random } from './random.js';
import { changedMembership, type MembershipChange } from './register-machine.js';
import { newestOf, type ProposeOutcome, type SimNode } from './sim-node.js';
import type { World } from './world.js';

/** What an operator sees and can do beside proposing. */
export interface Fleet {
  /** Nodes that run. */
  reachable(): readonly SimNode[];
  node(memberId: string): SimNode | null;
  /** A new node with an empty disk; `null` when there are enough. */
  addNode(): SimNode | null;
  retire(node: SimNode): void;
}

/**
 * An operator who adds, promotes, removes and replaces members and moves leadership, one act after the other, never so
 * that those left that have their disks are no majority.
 */
export class MembershipOperator {
  readonly #world: World;
  readonly #random: Random;
  readonly #fleet: Fleet;
  readonly #nextRequest: () => number;
  /** Proposals. */
  #waiting = 0;
  #running = true;

  constructor(options: {
    readonly world: World;
    readonly random: Random;
    readonly fleet: Fleet;
    readonly nextRequest: () => number;
  }) {
    this.#world = options.world;
    this.#random = options.random;
    this.#fleet = options.fleet;
    this.#nextRequest = options.nextRequest;
  }

  start(meanMs: number): void {
    this.#world.after(this.#random.exponential(meanMs), 'operator', -1, () => {
      if (!this.#running) return;
      this.start(meanMs);
      if (this.#waiting === 0) this.#act();
    });
  }

  /** For the outcome of a change. */
  get isWaiting(): boolean {
    return this.#waiting > 0;
  }

  stop(): void {
    this.#running = false;
  }

  #act(): void {
    const node = newestOf(this.#fleet.reachable());
    const machine = node?.machine ?? null;
    if (node === null || machine === null) return;
    const membership = machine.membership();
    if (membership === null) {
      this.#propose(node, 'found', node.memberId, machine.membershipRevision);
      return;
    }
    this.#retireFormerMembers(membership);
    const { voters, learners } = membership;
    const broken = [...voters, ...learners].find((member) => this.#fleet.node(member)?.lostDisk === true);
    if (broken !== undefined && this.#random.chance(0.5)) {
      this.#change(membership, 'remove', broken, machine.membershipRevision);
      return;
    }
    const [learner] = learners;
    const fewLearners = learners.length < this.#world.scenario.learnersMax;
    if (learner !== undefined && this.#random.chance(fewLearners ? 0.4 : 0.8)) {
      const change = this.#random.chance(0.9) ? 'promote' : 'remove';
      this.#change(membership, change, learner, machine.membershipRevision);
    } else if (fewLearners && voters.length < this.#world.scenario.nodes) {
      const added = this.#fleet.addNode();
      if (added !== null) this.#change(membership, 'addLearner', added.memberId, machine.membershipRevision);
    } else if (this.#random.chance(0.5)) {
      this.#transfer(voters);
    } else {
      this.#removeOne(membership, machine.membershipRevision);
    }
  }

  #removeOne(membership: Membership, revision: number): void {
    const leader = this.#world.checkers.newestLeader;
    const victim =
      leader !== null && this.#random.chance(0.4) ? leader : this.#random.pick(membership.voters);
    this.#change(membership, 'remove', victim, revision);
  }

  #transfer(voters: readonly string[]): void {
    const leader = this.#fleet.node(this.#world.checkers.newestLeader ?? '');
    const to = this.#random.pick(voters);
    if (leader === null || !leader.up) return;
    this.#world.say(() => `operator moves leadership from ${leader.memberId} to ${to}`);
    leader.transferLeadership(to);
  }

  /** Proposes it if a majority of those left have their disks; and some more at once, which must wait for the first. */
  #change(membership: Membership, change: MembershipChange, member: string, revision: number): void {
    const nodes = this.#fleet.reachable();
    if (nodes.length === 0) return;
    // At one node, so that they come into the log in this order; most directly at the leader.
    const leader = this.#fleet.node(this.#world.checkers.newestLeader ?? '');
    const node = leader !== null && nodes.includes(leader) ? leader : this.#random.pick(nodes);
    let next = this.#proposeSound(node, membership, change, member, revision);
    const { chainsChanges } = this.#world.kind;
    for (let more = 1; next !== null && chainsChanges && this.#random.chance(0.4); more += 1) {
      const [learner] = next.learners;
      next =
        learner === undefined
          ? this.#proposeSound(node, next, 'remove', this.#random.pick(next.voters), revision + more)
          : this.#proposeSound(node, next, 'promote', learner, revision + more);
    }
  }

  /** What the members will be; `null` when nothing was proposed. */
  #proposeSound(
    node: SimNode,
    membership: Membership,
    change: MembershipChange,
    member: string,
    revision: number,
  ): Membership | null {
    const next = changedMembership(membership, change, member);
    if (next === null) return null;
    const sound = next.voters.filter((voter) => {
      const other = this.#fleet.node(voter);
      return other !== null && !other.lostDisk && !other.retired && other.halted === null;
    });
    if (sound.length * 2 <= next.voters.length) return null;
    this.#propose(node, change, member, revision);
    return next;
  }

  #propose(node: SimNode, change: MembershipChange, member: string, seen: number): void {
    const { machine, memberId: at } = node;
    const request = this.#nextRequest();
    const asked =
      machine === null
        ? null
        : this.#world.kind.membershipCommand({ request, change, member, seen, at, machine });
    if (asked === null) return;
    const { kind, bytes: command } = asked;
    this.#waiting += 1;
    this.#world.say(() => `operator: ${change} ${member} at ${node.memberId} (request ${request})`);
    node.propose(`${request}.1`, kind, command, (outcome) => this.#settled(node, request, command, outcome));
  }

  #settled(node: SimNode, request: number, command: Uint8Array, outcome: ProposeOutcome | null): void {
    this.#waiting -= 1;
    this.#world.say(() => {
      const text =
        outcome === null ? 'lost' : outcome.ok ? `index ${outcome.value.index}` : outcome.error.kind;
      return `${node.memberId} answers the operator's request ${request}: ${text}`;
    });
    const { checkers, nowMs } = this.#world;
    if (outcome?.ok) {
      checkers.acknowledgements.acknowledged(nowMs, outcome.value.index, request, command);
    } else if (outcome !== null && outcome.error.kind !== 'unknown' && outcome.error.kind !== 'closed') {
      checkers.exactlyOnce.notTaken(request);
    }
  }

  /**
   * Membership is effective when applied: a voter that has yet to apply a removal may need the vote of the one removed.
   * Only when all have may it be turned off.
   */
  #knowsRemoved(voter: string, removed: string): boolean {
    const membership = this.#fleet.node(voter)?.machine?.membership() ?? null;
    return (
      membership !== null && !membership.voters.includes(removed) && !membership.learners.includes(removed)
    );
  }

  /** Those removed go on for a while, not knowing or not caring; then someone turns them off. */
  #retireFormerMembers({ voters, learners }: Membership): void {
    for (const node of this.#fleet.reachable()) {
      const { memberId } = node;
      if (voters.includes(memberId) || learners.includes(memberId)) continue;
      // One just added is no member yet.
      if (node.machine?.membership() === null || !this.#random.chance(0.3)) continue;
      if (!voters.every((voter) => this.#knowsRemoved(voter, memberId))) continue;
      this.#fleet.retire(node);
    }
  }
}
