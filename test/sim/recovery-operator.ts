import type { MemberId } from '../../src/raft/types.js';
import type { SurvivorReport } from '../../src/replication/survivor-report.js';
import { endOf, type Recovery, type SurvivingLog } from './checkers/recovery.js';
import { beginHistory } from './history.js';
import { imageAsOf } from './prepared-cluster.js';
import type { Random } from './random.js';
import { RegisterRecovery } from './register-recovery.js';
import { newestOf, type SimNode } from './sim-node.js';
import type { World } from './world.js';

/** How many of those left behind are started again as they were. */
const comeBackChance = 0.7;
/** How often the members were divided right before. */
const divideChance = 0.6;

/** What `planLostQuorum` makes of a survivor, with the state that it made. */
interface Attempt {
  readonly node: SimNode;
  readonly planned: ReturnType<World['build']['planLostQuorum']>;
  readonly recovery: RegisterRecovery;
}

/**
 * A majority is lost for good. An operator turns the others off, recovers the one with the greatest log as another
 * cluster (replication.md 13, docs/cluster.md), and forgets about the rest; of which some are started again one day.
 */
export class RecoveryOperator {
  readonly #world: World;
  readonly #random: Random;
  readonly #checker: Recovery;
  readonly #nodes: () => readonly SimNode[];
  readonly #nextRequest: () => number;
  readonly #runUntil: (lengthMs: number, done: () => boolean) => void;
  #survivor: SimNode | null = null;
  #leftBehind: readonly SimNode[] = [];

  constructor(options: {
    readonly world: World;
    readonly random: Random;
    readonly checker: Recovery;
    /** Of the cluster, all that are not turned off for good. */
    readonly nodes: () => readonly SimNode[];
    readonly nextRequest: () => number;
    /** Lets so much simulated time go by, or until it is `done`. */
    readonly runUntil: (lengthMs: number, done: () => boolean) => void;
  }) {
    this.#world = options.world;
    this.#random = options.random;
    this.#checker = options.checker;
    this.#nodes = options.nodes;
    this.#nextRequest = options.nextRequest;
    this.#runUntil = options.runUntil;
  }

  /** The member that the new cluster began with; `null` when there was no recovery. */
  get survivor(): SimNode | null {
    return this.#survivor;
  }

  get leftBehind(): readonly SimNode[] {
    return this.#leftBehind;
  }

  /** @returns whether there is another cluster now. */
  act(): boolean {
    const side = this.#random.chance(divideChance) ? this.#divide() : [];
    const survivors = this.#loseMajority(side);
    if (survivors === null) return false;
    const members = this.#nodes();
    const chosen = this.#plan(survivors);
    if (chosen === null) {
      // Nothing is lost for good, then.
      this.#world.say(() => 'no survivor can be recovered: all are started again');
      for (const node of members) this.#restart(node);
      return false;
    }
    this.#leftBehind = members.filter((node) => node !== chosen);
    this.#survivor = chosen;
    chosen.turnedOff = false;
    chosen.start();
    for (const node of this.#leftBehind) this.#comesBack(node);
    return true;
  }

  /**
   * Before it comes to the worst, the leader is cut off for a while, alone or with some: logs part.
   *
   * @returns those on its side.
   */
  #divide(): readonly SimNode[] {
    const { network, checkers, scenario } = this.#world;
    const nodes = this.#nodes();
    const leader = nodes.find(({ memberId }) => memberId === checkers.newestLeader);
    if (leader === undefined) return [];
    const others = this.#random.shuffled(nodes.filter((node) => node !== leader));
    const side = [leader, ...others.splice(0, this.#random.below(Math.ceil(others.length / 2)))];
    for (const one of side) {
      for (const other of others) {
        network.cut(one.slot, other.slot);
        network.cut(other.slot, one.slot);
      }
    }
    const { tickMs, electionTicks } = scenario.limits;
    const electionMs = tickMs * electionTicks;
    // Soon after a change of leaders the log of the former one may be the longer, and still the lesser.
    const isFollowed = (): boolean => side.some(({ memberId }) => memberId === checkers.newestLeader);
    this.#runUntil(electionMs * this.#random.between(1, 6), () => !isFollowed());
    this.#runUntil(electionMs * this.#random.between(0, 0.5), () => false);
    network.mendAll();
    return side;
  }

  #restart(node: SimNode): void {
    node.turnedOff = false;
    if (node.mayStart) node.start();
  }

  #comesBack(node: SimNode): void {
    if (!this.#random.chance(comeBackChance)) {
      node.retired = true;
      return;
    }
    const { tickMs, electionTicks } = this.#world.scenario.limits;
    this.#world.after(this.#random.exponential(4 * tickMs * electionTicks), 'restart', -1, () =>
      this.#restart(node),
    );
  }

  /**
   * How many survive is drawn; where it can be, one of each side.
   *
   * @returns the others.
   */
  #drawLost(voters: readonly MemberId[], side: readonly SimNode[]): ReadonlySet<MemberId> {
    const shuffled = this.#random.shuffled(voters);
    const isOnSide = (voter: MemberId): boolean => side.some(({ memberId }) => memberId === voter);
    const first = shuffled.find(isOnSide);
    const second = shuffled.find((voter) => !isOnSide(voter));
    const surviving = new Set([first, second, ...shuffled].filter((voter) => voter !== undefined));
    const most = Math.floor(voters.length / 2);
    const count = this.#random.chance(0.7) ? most : 1 + this.#random.below(most);
    const order = count === 1 ? shuffled : [...surviving];
    return new Set(order.slice(count));
  }

  /** All are turned off. @returns those whose disks can be read; `null` when this cluster can't lose its quorum. */
  #loseMajority(side: readonly SimNode[]): readonly SimNode[] | null {
    const nodes = this.#nodes();
    const { voters, learners } = newestOf(nodes)?.machine?.membership() ?? { voters: [], learners: [] };
    if (voters.length < 2) return null;
    const lost = this.#drawLost(voters, side);
    this.#world.say(() => `${[...lost].join()} are lost; all others are turned off`);
    for (const node of nodes) {
      const isMember = voters.includes(node.memberId) || learners.includes(node.memberId);
      node.crash(lost.has(node.memberId) ? 'lost' : 'turned off');
      node.turnedOff = true;
      // Former members, and those whose invitation is to a cluster that is no more.
      if (!isMember) node.retired = true;
    }
    return nodes.filter(
      ({ memberId, retired, lostDisk, halted }) =>
        !lost.has(memberId) && !retired && !lostDisk && halted === null,
    );
  }

  /** Tries them in any order, each told of all the others, until one isn't refused. */
  #plan(nodes: readonly SimNode[]): SimNode | null {
    const logs: SurvivingLog[] = [];
    for (const { memberId, disk } of nodes) {
      const found = disk.recover();
      if (found.ok) logs.push({ ...found.value, memberId });
      else this.#world.verdict.broken('recovery', `${memberId} can't read its disk: ${found.error}`);
    }
    const clusterId = `${this.#world.history.clusterId}'`;
    const request = this.#nextRequest();
    let chosen: SimNode | null = null;
    for (const node of this.#random.shuffled(nodes)) {
      const attempt = this.#attempt(node, logs, clusterId, request);
      if (attempt === null) continue;
      const { planned } = attempt;
      this.#world.say(() => `recovery of ${node.memberId}: ${planned.ok ? 'can be done' : planned.error}`);
      if (!planned.ok) continue;
      this.#checker.accepted(node.memberId, logs);
      if (chosen === null) this.#adopt(attempt, logs);
      chosen ??= node;
    }
    return chosen;
  }

  #attempt(
    node: SimNode,
    logs: readonly SurvivingLog[],
    newClusterId: string,
    request: number,
  ): Attempt | null {
    const { memberId } = node;
    const own = logs.find((log) => log.memberId === memberId);
    if (own === undefined) return null;
    const { build, scenario, history } = this.#world;
    const { clusterId } = history;
    const survivors = logs.filter((log) => log !== own).map((log) => reportOf(log, clusterId));
    const recovery = new RegisterRecovery(
      build.createMachine(() => {}, scenario.snapshotPaddingBytes),
      { memberId, request, reported: survivors.map((report) => report.memberId) },
    );
    const { snapshot, snapshotRecords: records, entries, hardState } = own;
    const planned = build.planLostQuorum(
      {
        identity: { clusterId, memberId, nodeName: memberId },
        recovered: { snapshot: records === null ? null : { ...snapshot, records }, entries, hardState },
        fence: node.fenced,
        survivors,
        newClusterId,
      },
      recovery,
    );
    return { node, planned, recovery };
  }

  /** The new cluster's history begins, with what the survivor's log made of the state. */
  #adopt({ node, planned, recovery }: Attempt, logs: readonly SurvivingLog[]): void {
    if (!planned.ok) return;
    const world = this.#world;
    const { clusterId, position, hardState } = planned.value;
    const { machine } = recovery;
    const { acknowledgements } = world.checkers;
    this.#checker.recovered(
      { memberId: node.memberId, clusterId, position, machine },
      logs,
      acknowledgements.positions(),
    );
    world.history = beginHistory(clusterId, world.verdict);
    for (const { request, index } of machine.executed()) {
      world.checkers.exactlyOnce.executed(node.memberId, request, index);
    }
    node.becomesSurvivor(world.history, imageAsOf(position, hardState, machine.snapshot()));
    world.say(() => `${node.memberId} is recovered as cluster ${clusterId} at ${position.index}`);
  }

  /** At the end, all healed: those left behind that know the survivor have heard of it. */
  finalCheck(): void {
    for (const node of this.#reached()) this.#checker.finally(node.memberId, node.fenced);
  }

  /** Whether all that can have heard of it have. */
  get isKnown(): boolean {
    return this.#reached().every(({ fenced }) => fenced !== null);
  }

  #reached(): readonly SimNode[] {
    const { survivor } = this;
    const machine = survivor?.machine ?? null;
    if (survivor === null || machine === null) return [];
    const knows = ({ machine: theirs }: SimNode, member: MemberId): boolean => {
      const { voters, learners } = theirs?.membership() ?? { voters: [], learners: [] };
      return voters.includes(member) || learners.includes(member);
    };
    return this.#leftBehind.filter(
      (node) =>
        node.up &&
        node.halted === null &&
        machine.leftBehind.includes(node.memberId) &&
        knows(node, survivor.memberId),
    );
  }
}

function reportOf(log: SurvivingLog, clusterId: string): SurvivorReport {
  const { memberId, hardState } = log;
  return {
    clusterId,
    memberId,
    nodeName: memberId,
    lastLog: endOf(log),
    commitIndex: hardState.commitIndex,
  };
}
