import type { Random } from './random.js';
import type { FaultKind } from './scenario.js';
import type { SimNode } from './sim-node.js';
import type { World } from './world.js';

/** How far a clock may be off (design: drift ±5%). */
const driftMax = 0.05;

/** Makes things go wrong, one after the other, each for a while. */
export class Faults {
  readonly #world: World;
  readonly #random: Random;
  readonly #nodes: () => readonly SimNode[];

  constructor(options: {
    readonly world: World;
    readonly random: Random;
    /** All that are not retired. */
    readonly nodes: () => readonly SimNode[];
  }) {
    this.#world = options.world;
    this.#random = options.random;
    this.#nodes = options.nodes;
  }

  start(): void {
    const { faultMeanMs } = this.#world.scenario;
    if (faultMeanMs === Number.POSITIVE_INFINITY) return;
    this.#world.after(this.#random.exponential(faultMeanMs), 'fault', -1, () => {
      if (this.#world.faultsEnded) return;
      this.start();
      this.#strike(this.#random.weighted(this.#world.scenario.faults));
    });
  }

  /** Starts a node again after a while. */
  restartLater(node: SimNode): void {
    const { faultLengthMeanMs } = this.#world.scenario;
    this.#world.after(this.#random.exponential(faultLengthMeanMs), 'restart', -1, () => {
      if (!this.#world.faultsEnded && node.mayStart) node.start();
    });
  }

  #victim(): SimNode | null {
    const nodes = this.#nodes();
    const leader = this.#world.checkers.newestLeader;
    if (this.#random.chance(this.#world.scenario.leaderBias)) {
      const node = nodes.find(({ memberId }) => memberId === leader);
      if (node !== undefined) return node;
    }
    return nodes.length === 0 ? null : this.#random.pick(nodes);
  }

  #strike(kind: FaultKind): void {
    if (kind === 'crashAll') {
      for (const node of this.#nodes()) this.#crash(node, 'the power fails');
      return;
    }
    const node = this.#victim();
    if (node === null) return;
    switch (kind) {
      case 'crash':
        this.#crash(node, 'killed');
        return;
      case 'crashWriting':
        node.crashesWriting = node.up;
        return;
      case 'isolate':
      case 'oneWay':
      case 'split':
      case 'bridge':
      case 'randomCuts':
        this.#partition(kind, node);
        return;
      case 'pause':
        this.#pause(node);
        return;
      case 'diskStall':
        this.#stall(node);
        return;
      case 'diskError':
        node.diskFailing = node.up;
        return;
      case 'clock':
        this.#disturbClock(node);
        return;
      case 'loseDisk':
        this.#loseDisk(node);
        return;
    }
  }

  #lengthMs(): number {
    return this.#random.exponential(this.#world.scenario.faultLengthMeanMs);
  }

  #crash(node: SimNode, reason: string): void {
    if (!node.up) return;
    node.crash(reason);
    this.restartLater(node);
  }

  #pause(node: SimNode): void {
    const lengthMs = this.#lengthMs();
    this.#world.say(() => `${node.memberId} is paused for ${lengthMs.toFixed(0)} ms`);
    node.pausedUntilMs = Math.max(node.pausedUntilMs, this.#world.nowMs + lengthMs);
  }

  #stall(node: SimNode): void {
    const lengthMs = this.#lengthMs();
    this.#world.say(() => `${node.memberId}'s disk stalls for ${lengthMs.toFixed(0)} ms`);
    node.diskStalledUntilMs = Math.max(node.diskStalledUntilMs, this.#world.nowMs + lengthMs);
  }

  #disturbClock(node: SimNode): void {
    const rate = this.#random.between(1 - driftMax, 1 + driftMax);
    const jumpMs = this.#random.chance(0.5) ? this.#random.exponential(2_000) : 0;
    this.#world.say(
      () => `${node.memberId}'s clock runs at ${rate.toFixed(3)} and jumps ${jumpMs.toFixed(0)} ms`,
    );
    node.clock.change(this.#world.nowMs, rate, jumpMs);
  }

  #partition(kind: 'isolate' | 'oneWay' | 'split' | 'bridge' | 'randomCuts', node: SimNode): void {
    const { network } = this.#world;
    const others = this.#nodes().filter((other) => other !== node);
    const between = (left: readonly SimNode[], right: readonly SimNode[]): void => {
      for (const one of left) {
        for (const other of right) {
          network.cut(one.slot, other.slot);
          network.cut(other.slot, one.slot);
        }
      }
    };
    // One partition at a time: two would be just another.
    network.mendAll();
    switch (kind) {
      case 'isolate':
        between([node], others);
        break;
      case 'oneWay': {
        const outward = this.#random.chance(0.5);
        for (const other of others) {
          if (outward) network.cut(node.slot, other.slot);
          else network.cut(other.slot, node.slot);
        }
        break;
      }
      case 'split':
      case 'bridge': {
        const shuffled = this.#random.shuffled(others);
        const half = shuffled.splice(0, Math.floor(shuffled.length / 2));
        // In a bridge the victim alone reaches both sides.
        between(half, shuffled);
        if (kind === 'split') between([node], this.#random.chance(0.5) ? half : shuffled);
        break;
      }
      case 'randomCuts':
        for (const one of this.#nodes()) {
          for (const other of this.#nodes()) if (this.#random.chance(0.3)) network.cut(one.slot, other.slot);
        }
        break;
    }
    const lengthMs = this.#lengthMs();
    this.#world.say(() => `partition (${kind}, ${node.memberId}) for ${lengthMs.toFixed(0)} ms`);
    this.#world.after(lengthMs, 'mend', -1, () => {
      // What is cut later than that is not this partition.
      if (!this.#world.faultsEnded) network.mendAll();
    });
  }

  /**
   * Wipes a disk or sets it back. Only where Raft can stand it at all: the others hold all that this one may have
   * acknowledged, and follow a leader in the term in which it may have voted; else a promise kept by it alone is gone.
   */
  #loseDisk(node: SimNode): void {
    const nodes = this.#nodes();
    if (nodes.some(({ lostDisk }) => lostDisk) || nodes.length < 3 || !node.up) return;
    if (!this.#othersHoldAll(node)) {
      // Perhaps there will be a better moment; what it is set back to is from now. Not from when it was alone, or it
      // would be so again, and nobody could tell it.
      if ((node.machine?.membership()?.voters.length ?? 0) >= 3) node.keepImage();
      return;
    }
    node.crash('its disk is lost');
    node.loseDisk(this.#random.chance(0.5));
    this.restartLater(node);
  }

  #othersHoldAll(node: SimNode): boolean {
    const { checkers } = this.#world;
    const leader = checkers.newestLeader;
    const log = checkers.log(node.memberId);
    const status = this.#nodes()
      .find(({ memberId }) => memberId === leader)
      ?.loop?.status().raft;
    if (status === undefined || status.role !== 'leader' || status.memberId === node.memberId) return false;
    if (log.pendingHardState.term > status.term) return false;
    const { voters, learners } = status.membership;
    // Without it there must still be a majority, or nothing could ever replace it.
    const left = voters.filter((voter) => voter !== node.memberId).length;
    if (left * 2 <= voters.length || !voters.includes(node.memberId)) return false;
    // Also former members: they might know of no other members than this one, and it of no others than them.
    const running = this.#nodes().map(({ memberId }) => memberId);
    return [...voters, ...learners, ...running].every((member) => {
      if (member === node.memberId) return true;
      const other = checkers.log(member);
      const raft = this.#nodes()
        .find(({ memberId }) => memberId === member)
        ?.loop?.status().raft;
      return (
        raft !== undefined &&
        raft.term === status.term &&
        raft.leader === leader &&
        other.hardState.term === status.term &&
        other.syncedIndex >= log.lastIndex &&
        other.termAt(log.lastIndex) === log.termAt(log.lastIndex)
      );
    });
  }
}
