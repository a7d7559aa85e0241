import { invariant } from '../../src/base/guards.js';
import type { MemberId } from '../../src/raft/types.js';
import type { PeerMessage } from '../../src/replication/peer-message.js';
import type { LoopLimits } from '../../src/replication/replication-loop.js';
import { membersCommand } from './loop-machine.js';
import { LoopNode, loopLimits } from './loop-node.js';

export interface Envelope {
  readonly from: MemberId;
  readonly to: MemberId;
  readonly message: PeerMessage;
}

/** Messages delivered in one go; more are a storm. */
const deliveriesMax = 100_000;

/** Several loops in one process, a queue between them, and one clock. */
export class LoopCluster {
  readonly nodes = new Map<MemberId, LoopNode>();
  readonly limits: Partial<LoopLimits>;
  nowMs = 1_000_000;
  /** Which copies of a message arrive, now; as a network without faults would. */
  network: (envelope: Envelope) => readonly Envelope[] = (envelope) => [envelope];
  readonly #queue: Envelope[] = [];

  constructor(limits: Partial<LoopLimits> = {}) {
    this.limits = limits;
  }

  add(memberId: MemberId, founder = false): LoopNode {
    const node = new LoopNode({
      memberId,
      founder,
      nowMs: () => this.nowMs,
      limits: this.limits,
      send: (to, message) => {
        this.#queue.push(...this.network({ from: memberId, to, message }));
      },
    });
    this.nodes.set(memberId, node);
    node.loop.start();
    this.deliver();
    return node;
  }

  node(memberId: MemberId): LoopNode {
    const node = this.nodes.get(memberId);
    invariant(node !== undefined, `no node ${memberId}`);
    return node;
  }

  /** In place of the network, for one message. */
  inject(envelope: Envelope): void {
    this.#queue.push(envelope);
    this.deliver();
  }

  deliver(): void {
    for (let delivered = 0; this.#queue.length > 0; delivered += 1) {
      invariant(delivered < deliveriesMax, 'a storm of messages');
      const envelope = this.#queue.shift();
      if (envelope === undefined) return;
      this.nodes.get(envelope.to)?.loop.receive(envelope.from, envelope.message);
    }
  }

  tick(times = 1): void {
    for (let time = 0; time < times; time += 1) {
      this.nowMs += loopLimits.tickMs;
      for (const node of this.nodes.values()) {
        node.loop.tick();
        this.deliver();
      }
    }
  }

  /** Ticks until `done`, for a limited time. */
  until(done: () => boolean, what: string, ticksMax = 400): void {
    for (let ticks = 0; ticks < ticksMax; ticks += 1) {
      if (done()) return;
      this.tick();
    }
    invariant(done(), `never: ${what}`);
  }

  get leader(): LoopNode | null {
    const leaders = [...this.nodes.values()].filter(({ role }) => role === 'leader');
    leaders.sort((left, right) => right.loop.status().raft.term - left.loop.status().raft.term);
    return leaders[0] ?? null;
  }

  /** Until a leader is known to all that `among` names. */
  elect(among: readonly MemberId[] = [...this.nodes.keys()]): LoopNode {
    const settled = (): boolean => {
      const leader = this.leader;
      return (
        leader !== null &&
        among.includes(leader.memberId) &&
        among.every((member) => this.node(member).loop.status().raft.leader === leader.memberId)
      );
    };
    this.until(settled, 'a leader');
    const leader = this.leader;
    invariant(leader !== null, 'no leader');
    return leader;
  }

  /** Proposes at `node` and waits for the outcome. */
  propose(
    node: LoopNode,
    proposalId: string,
    command: Uint8Array,
    kind: 'command' | 'membership' = 'command',
  ): void {
    node.loop.propose(proposalId, kind, command, 5_000);
    this.deliver();
    this.until(() => node.outcomes.has(proposalId), `the outcome of ${proposalId}`);
  }

  /** Nothing goes between the groups; members not named reach nobody. */
  partition(...groups: readonly (readonly MemberId[])[]): void {
    this.network = (envelope) =>
      groups.some((group) => group.includes(envelope.from) && group.includes(envelope.to)) ? [envelope] : [];
  }

  heal(): void {
    this.network = (envelope) => [envelope];
  }
}

/** `a` founded it; all of `members` are voters and know the leader. */
export function loopCluster(members: readonly MemberId[], limits: Partial<LoopLimits> = {}): LoopCluster {
  const cluster = new LoopCluster(limits);
  const [founder = '', ...others] = members;
  const first = cluster.add(founder, true);
  cluster.propose(first, 'founding', membersCommand([founder]), 'membership');
  const voters = [founder];
  for (const member of others) {
    cluster.add(member);
    cluster.propose(first, `learner ${member}`, membersCommand(voters, [member]), 'membership');
    cluster.until(() => cluster.node(member).machine.index === first.machine.index, `${member} catches up`);
    voters.push(member);
    cluster.propose(first, `voter ${member}`, membersCommand(voters), 'membership');
  }
  cluster.elect();
  cluster.until(
    () => [...cluster.nodes.values()].every(({ machine }) => machine.index === first.machine.index),
    'all are caught up',
  );
  return cluster;
}
