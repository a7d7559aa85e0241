import type { MemberId } from '../../src/raft/types.js';
import type { PeerMessage } from '../../src/replication/peer-message.js';
import { KeyLedger } from './checkers/key-ledger.js';
import { Recovery } from './checkers/recovery.js';
import { checkRegisters } from './checkers/register-history.js';
import { Verdict, type Violation } from './checkers/verdict.js';
import { type AdminClients, Clients } from './clients.js';
import { emptyImage } from './disk.js';
import { Faults } from './faults.js';
import { beginHistory, type History } from './history.js';
import { KeyKind } from './keys/key-kind.js';
import { drawKeyScenario, withKeys } from './keys/key-scenario.js';
import { KeySide } from './keys/key-side.js';
import { LastMisfortune } from './last-misfortune.js';
import { type Fleet, MembershipOperator } from './membership-operator.js';
import { Network } from './network.js';
import { Random } from './random.js';
import { RecoveryOperator } from './recovery-operator.js';
import { registerKind } from './register-kind.js';
import { RegisterMachine, registersMax } from './register-machine.js';
import { drawScenario, type Scenario, slotsMax } from './scenario.js';
import type { AnswerCounts } from './serving/xks-traffic.js';
import type { SimBuild } from './sim-build.js';
import { newestOf, SimNode } from './sim-node.js';
import { Trace } from './trace.js';
import { World } from './world.js';

export interface SimulationOptions {
  readonly seed: number;
  /** Before the cluster is healed; healing takes some more. */
  readonly events: number;
  /** `null`: drawn. */
  readonly nodes: number | null;
  /** Whether it is over key state, and not over registers; `null`: drawn. */
  readonly keys: boolean | null;
  readonly readable: boolean;
  readonly build: SimBuild;
}

export interface SimulationResult {
  readonly seed: number;
  readonly violation: Violation | null;
  readonly events: number;
  readonly traceHash: string;
  readonly acknowledged: number;
  readonly committedIndex: number;
  readonly simulatedMs: number;
  readonly tail: readonly string[];
  /** What serving processes answered; `null` where there are none. */
  readonly answers: AnswerCounts | null;
}

/** Streams of random numbers: what one part draws must not depend on how often another does. */
const streams = {
  scenario: 1,
  network: 2,
  world: 3,
  clients: 4,
  operator: 5,
  faults: 6,
  healing: 7,
  keyScenario: 8,
  serving: 9,
  traffic: 10,
  servingFaults: 11,
  releases: 12,
  recovery: 13,
} as const;

const firstClusterId = 'simulated';
/** Those left behind by a recovery hear of it within so many intervals of reports. */
const fencedReportIntervals = 2;

/** Progress within so many election timeouts after healing. */
const progressElectionTimeouts = 10;
/** Then all members catch up; snapshots may have to be sent, so it takes longer. */
const convergenceElectionTimeouts = 30;
/** Serving processes link again, get the state whole, and hear that it is fresh. */
const servingConvergenceMs = 5_000;
const healingEventsMax = 400_000;
const isVoteRequest = (message: PeerMessage): boolean =>
  message.kind === 'raft' && message.message.kind === 'vote';

const isAcceptedAppend = (message: PeerMessage): boolean =>
  message.kind === 'raft' && message.message.kind === 'appendResponse' && !message.message.rejected;

/** One run: everything in it comes from its seed. */
export class Simulation {
  readonly #options: SimulationOptions;
  readonly #scenario: Scenario;
  readonly #world: World;
  readonly #nodes: SimNode[] = [];
  readonly #clients: AdminClients;
  /** Beside the replicas, where they are of key state. */
  readonly #keySide: KeySide | null;
  readonly #operator: MembershipOperator;
  readonly #faults: Faults;
  readonly #recovery: RecoveryOperator;
  readonly #recoveryChecker: Recovery;
  readonly #lastMisfortune: LastMisfortune;
  readonly #healing: Random;
  /** Of the majority that is healed. */
  #healedFirst: readonly SimNode[] = [];
  #events = 0;
  #requests = 0;

  constructor(options: SimulationOptions) {
    const { seed } = options;
    this.#options = options;
    const drawn = drawScenario(new Random(seed, streams.scenario), options.nodes);
    const keyRandom = new Random(seed, streams.keyScenario);
    const keys = drawKeyScenario(keyRandom, options.keys);
    this.#scenario = keys === null ? drawn : withKeys(drawn, keyRandom);
    const verdict = new Verdict();
    const ledger = new KeyLedger(verdict);
    this.#world = new World({
      scenario: this.#scenario,
      build: options.build,
      kind:
        keys === null
          ? registerKind(options.build, this.#scenario.snapshotPaddingBytes)
          : new KeyKind({
              build: options.build,
              scenario: keys,
              ledger,
              verdict,
              nowMs: () => this.#world.nowMs,
              isUnsettled: (member) => this.#isUnsettled(member),
              releaseOf: (member) => this.#node(member)?.release ?? 0,
            }),
      network: new Network(this.#scenario.network, slotsMax, new Random(seed, streams.network)),
      trace: new Trace(options.readable),
      verdict,
      history: beginHistory(firstClusterId, verdict),
      random: new Random(seed, streams.world),
    });
    this.#healing = new Random(seed, streams.healing);
    const nextRequest = (): number => {
      this.#requests += 1;
      return this.#requests;
    };
    const world = this.#world;
    const reachable = (): readonly SimNode[] =>
      this.#current().filter(({ up, halted }) => up && halted === null);
    const fleet: Fleet = {
      reachable,
      node: (memberId) => this.#node(memberId),
      addNode: () => this.#addNode(),
      retire: (node) => this.#retire(node),
    };
    // Few would ask one that was never a member.
    const asked = (): readonly SimNode[] => reachable().filter(({ knowsMembers }) => knowsMembers);
    this.#keySide =
      keys === null
        ? null
        : new KeySide({
            world,
            scenario: keys,
            ledger,
            randoms: {
              clients: new Random(seed, streams.clients),
              serving: new Random(seed, streams.serving),
              traffic: new Random(seed, streams.traffic),
              faults: new Random(seed, streams.servingFaults),
              releases: new Random(seed, streams.releases),
            },
            reachable: asked,
            nextRequest,
            restartLater: (node) => this.#faults.restartLater(node),
          });
    this.#clients =
      this.#keySide?.clients ??
      new Clients({ world, random: new Random(seed, streams.clients), reachable: asked, nextRequest });
    this.#operator = new MembershipOperator({
      world,
      random: new Random(seed, streams.operator),
      fleet,
      nextRequest,
    });
    this.#faults = new Faults({
      world,
      random: new Random(seed, streams.faults),
      nodes: () => this.#current().filter(({ retired }) => !retired),
    });
    this.#lastMisfortune = new LastMisfortune({
      world,
      random: this.#healing,
      nodes: () => this.#current().filter(({ retired }) => !retired),
      runUntil: (lengthMs, done) => this.#runUntil(lengthMs, done),
    });
    this.#recoveryChecker = new Recovery(verdict, firstClusterId);
    this.#recovery = new RecoveryOperator({
      world,
      random: new Random(seed, streams.recovery),
      checker: this.#recoveryChecker,
      nodes: () => this.#current().filter(({ retired }) => !retired),
      nextRequest,
      runUntil: (lengthMs, done) => this.#runUntil(lengthMs, done),
    });
  }

  run(): SimulationResult {
    const { events } = this.#options;
    const { verdict, checkers, trace } = this.#world;
    this.#world.say(() => `seed ${this.#options.seed}: ${JSON.stringify(this.#scenario)}`);
    this.#populate();
    this.#keySide?.start(!this.#scenario.grown);
    this.#clients.start();
    this.#faults.start();
    const { operatorMeanMs, grown, limits } = this.#scenario;
    const rebuildingMs = limits.tickMs * limits.electionTicks * 3;
    const growingMs = grown ? rebuildingMs : Number.POSITIVE_INFINITY;
    const actMs = Math.min(operatorMeanMs, growingMs);
    if (actMs !== Number.POSITIVE_INFINITY) this.#operator.start(actMs);
    const { lostQuorumShare } = this.#scenario;
    if (lostQuorumShare !== null) {
      this.#runWhile(() => this.#events < events * lostQuorumShare);
      this.#loseQuorum();
      if (actMs === Number.POSITIVE_INFINITY) this.#operator.start(rebuildingMs);
    }
    this.#runWhile(() => this.#events < events);
    this.#endFaults();
    this.#operator.stop();
    this.#keySide?.leaveAlone();
    const { lastMisfortune } = this.#scenario;
    if (verdict.violation === null && lastMisfortune !== null) {
      this.#healedFirst = this.#lastMisfortune.play(lastMisfortune);
    }
    if (verdict.violation === null) this.#healAndCheck();
    return {
      seed: this.#options.seed,
      violation: verdict.violation,
      events: this.#events,
      traceHash: trace.hash(),
      acknowledged: this.#clients.acknowledged,
      committedIndex: checkers.committed.lastIndex,
      simulatedMs: this.#world.nowMs,
      tail: trace.tail(Number.POSITIVE_INFINITY),
      answers: this.#keySide?.answers ?? null,
    };
  }

  /** None strikes from now on, and none that is due does. */
  #endFaults(): void {
    this.#world.faultsEnded = true;
    for (const node of this.#nodes) {
      node.diskFailing = false;
      node.crashesWriting = false;
    }
  }

  /** Of the cluster that clients and operators speak to; those left behind by a recovery are not. */
  #current(): readonly SimNode[] {
    const { history } = this.#world;
    return this.#nodes.filter((node) => node.history === history);
  }

  #loseQuorum(): void {
    const { verdict } = this.#world;
    if (verdict.violation !== null || !this.#recovery.act() || verdict.violation !== null) return;
    const machine = this.#recovery.survivor?.machine ?? null;
    if (!(machine instanceof RegisterMachine) || !(this.#clients instanceof Clients)) return;
    const values = Array.from({ length: registersMax }, (_, register) => machine.value(register));
    checkRegisters(this.#clients.moveOn(values), verdict);
  }

  #populate(): void {
    const { grown, nodes } = this.#scenario;
    if (grown) {
      this.#createNode(true, emptyImage).start();
      return;
    }
    const image = this.#world.kind.preparedImage(Array.from({ length: nodes }, (_, slot) => `n${slot}`));
    const created = Array.from({ length: nodes }, () => this.#createNode(false, image));
    for (const node of created) node.start();
  }

  #createNode(founder: boolean, image: typeof emptyImage): SimNode {
    const node = new SimNode({
      world: this.#world,
      slot: this.#nodes.length,
      founder,
      image,
      carry: (from, to, message) => this.#carry(from, to, message),
    });
    node.onCrash(() => this.#faults.restartLater(node));
    this.#nodes.push(node);
    this.#keySide?.created(node, image !== emptyImage);
    return node;
  }

  #addNode(): SimNode | null {
    // One that was to be added before and isn't known to anybody yet.
    const spare = this.#current().find(({ retired, knowsMembers }) => !retired && !knowsMembers);
    if (spare !== undefined) return spare.up ? spare : null;
    if (this.#nodes.length >= slotsMax) return null;
    const node = this.#createNode(false, emptyImage);
    node.start();
    return node;
  }

  #retire(node: SimNode): void {
    node.retired = true;
    node.crash('turned off for good');
    this.#keySide?.retired(node);
  }

  #node(memberId: MemberId): SimNode | null {
    return this.#nodes[Number(memberId.slice(1))] ?? null;
  }

  #carry(from: SimNode, to: MemberId, message: PeerMessage): void {
    const world = this.#world;
    const target = this.#node(to);
    if (target === null || target === from) return;
    const lost =
      (isVoteRequest(message) && world.network.losesVoteRequests(from.slot)) ||
      (isAcceptedAppend(message) && world.network.losesAcceptances(from.slot, target.slot));
    const delays = lost ? [] : world.network.delays(from.slot, target.slot);
    world.say(() => `${from.describe(to, message)}${delays.length === 0 ? ' (lost)' : ''}`);
    const sentMs = world.nowMs;
    const { history } = from;
    const arrives = (): void => {
      if (!target.up || world.network.forgets(sentMs) || world.network.isCut(from.slot, target.slot)) return;
      world.say(() => `          ${from.describe(to, message)} (arrives)`);
      if (!this.#listens(target, from, history, message)) return;
      target.receive(from.memberId, message);
      if (isAcceptedAppend(message)) this.#checkCount(target);
    };
    for (const delayMs of delays) {
      const travels = (): void => world.after(delayMs, 'message', target.slot, arrives);
      if (!world.network.keeps(from.slot, target.slot, travels)) travels();
    }
    if (delays.length === 0 && world.random.chance(0.1)) {
      world.after(1, 'unreachable', from.slot, () => from.unreachable(to));
    }
  }

  /** Who may speak to whom matters once there are two clusters. */
  #listens(target: SimNode, from: SimNode, sentIn: History, message: PeerMessage): boolean {
    if (this.#recovery.survivor === null) return true;
    const refusal = target.refusal(sentIn.clusterId, from.memberId);
    if (refusal !== null) {
      if (from.history === sentIn) from.refused(target.memberId, refusal);
      return false;
    }
    if (sentIn !== target.history) {
      this.#recoveryChecker.mixed(from.memberId, target.memberId, from.describe(target.memberId, message));
    }
    return true;
  }

  #checkCount(node: SimNode): void {
    const status = node.loop?.status().raft;
    if (status?.role !== 'leader') return;
    node.history.checkers.counts(status, (member) => this.#node(member)?.lostDisk ?? true);
  }

  #runWhile(condition: () => boolean): void {
    const { queue, verdict, trace } = this.#world;
    while (verdict.violation === null && condition()) {
      const event = queue.pop();
      if (event === null) return;
      const { slot } = event;
      if (slot >= 0) {
        const pausedUntilMs = this.#nodes[slot]?.pausedUntilMs ?? 0;
        if (pausedUntilMs > event.atMs) {
          queue.push(pausedUntilMs, event.kind, slot, event.run);
          continue;
        }
      }
      this.#world.nowMs = event.atMs;
      this.#events += 1;
      trace.mix(event.sequence);
      trace.mix(event.atMs * 1_000);
      event.run();
    }
  }

  /** A majority of the voters is all it takes (paper §5.1: available as long as a majority is). */
  #healAndCheck(): void {
    const { verdict } = this.#world;
    this.#keySide?.heal();
    this.#world.healing = true;
    this.#world.network.calm(this.#world.nowMs);
    const { limits } = this.#scenario;
    const electionMs = limits.tickMs * limits.electionTicks;
    if (!this.#startMajority()) {
      this.#clients.abandon();
      checkRegisters(this.#clients.history, verdict);
      return;
    }
    // A process that is stopped, or waits for its disk, is not healed before it goes on.
    this.#runUntil(this.#stillHeldMs(), () => false);
    if (verdict.violation !== null) return;
    // First only reads: a new leader must be able to answer them although nobody writes.
    this.#clients.writing = false;
    const readsBefore = this.#clients.readsAnswered;
    if (!this.#progresses(electionMs, 'answered no read', () => this.#clients.readsAnswered > readsBefore))
      return;
    this.#clients.writing = true;
    const writesBefore = this.#clients.acknowledged;
    if (
      !this.#progresses(electionMs, 'acknowledged no write', () => this.#clients.acknowledged > writesBefore)
    )
      return;
    for (const node of this.#nodes) if (node.mayStart) node.start();
    this.#clients.stop();
    this.#keySide?.stop();
    // One that was not of the majority may have been started on a machine that is still suspended.
    this.#runUntil(this.#stillHeldMs(), () => false);
    // What is still waiting settles.
    this.#runUntil(this.#world.timeoutMs + electionMs, () => false);
    const converged = (): boolean =>
      this.#sound().every((node) => this.#isComplete(node.machine?.appliedIndex) && this.#serves(node));
    this.#runUntil(convergenceElectionTimeouts * electionMs + this.#servingConvergenceMs, converged);
    this.#runUntil(fencedReportIntervals * limits.reportIntervalMs, () => this.#recovery.isKnown);
    this.#checkEnd();
  }

  /** False when it does not, or something else is wrong. */
  #progresses(electionMs: number, failure: string, done: () => boolean): boolean {
    const { verdict } = this.#world;
    this.#runUntil(progressElectionTimeouts * electionMs, done);
    if (verdict.violation !== null) return false;
    if (done() || !this.#clients.mayAsk) return true;
    verdict.broken('progress', `a majority ${failure} within ${progressElectionTimeouts} election timeouts`);
    return false;
  }

  #stillHeldMs(): number {
    let endMs = this.#world.nowMs;
    for (const { up, pausedUntilMs, diskStalledUntilMs } of this.#current()) {
      if (up) endMs = Math.max(endMs, pausedUntilMs, diskStalledUntilMs);
    }
    return endMs - this.#world.nowMs;
  }

  #runUntil(lengthMs: number, done: () => boolean): void {
    const endMs = this.#world.nowMs + lengthMs;
    const eventsEnd = this.#events + healingEventsMax;
    this.#runWhile(() => this.#world.nowMs < endMs && this.#events < eventsEnd && !done());
  }

  #serves(node: SimNode): boolean {
    return this.#keySide === null || this.#keySide.fault(node) === null;
  }

  get #servingConvergenceMs(): number {
    return this.#keySide === null ? 0 : servingConvergenceMs;
  }

  /** Whether a change of membership may be under way that a further one must not rest upon. */
  #isUnsettled(member: MemberId): boolean {
    const { checkers } = this.#world;
    if (checkers.newestLeader !== member && this.#nodes.length > 1) return true;
    const applied = this.#node(member)?.machine?.appliedIndex ?? 0;
    return checkers.log(member).entries.some(({ kind, index }) => kind === 'membership' && index > applied);
  }

  #isComplete(appliedIndex: number | undefined): boolean {
    return (appliedIndex ?? 0) >= this.#world.checkers.committed.lastIndex;
  }

  /**
   * Stops all but a majority, chosen at random, of the newest members and of those that may follow. False when there
   * is none.
   */
  #startMajority(): boolean {
    const voterSets = this.#possibleVoters();
    const chosen = new Set<SimNode>();
    const usable = this.#current().filter(
      ({ retired, lostDisk, halted }) => !retired && !lostDisk && halted === null,
    );
    // A change that is under way may need any of them.
    const changing = this.#operator.isWaiting || this.#membershipPending();
    const isEnough = (): boolean =>
      (!changing || chosen.size === usable.length) && this.#isMajority(chosen, voterSets);
    // Often without learners: nothing may depend on them.
    const bare = this.#healing.chance(0.5);
    const votes = ({ memberId }: SimNode): boolean => voterSets.some((voters) => voters.includes(memberId));
    const shuffled = this.#healing.shuffled(usable);
    const inOrder = bare ? [...shuffled.filter(votes), ...shuffled.filter((node) => !votes(node))] : shuffled;
    for (const node of this.#healedFirst) if (usable.includes(node)) chosen.add(node);
    for (const node of inOrder) if (!isEnough()) chosen.add(node);
    // A disk lost while another voter was being removed: what is left is no majority, and nothing is promised.
    if (!this.#isMajority(chosen, voterSets)) return false;
    this.#world.say(() => `healed: ${[...chosen].map(({ memberId }) => memberId).join()}`);
    for (const node of this.#current()) {
      if (!chosen.has(node)) node.crash('not of the majority that is healed');
      else if (node.mayStart) node.start();
    }
    return true;
  }

  #isMajority(chosen: ReadonlySet<SimNode>, voterSets: readonly (readonly MemberId[])[]): boolean {
    return voterSets.every((voters) => {
      const present = voters.filter((voter) => [...chosen].some(({ memberId }) => memberId === voter));
      return present.length * 2 > voters.length;
    });
  }

  /** Who votes as of what the newest node has applied, and in the views of those voters. */
  #possibleVoters(): readonly (readonly MemberId[])[] {
    for (const node of this.#current()) if (node.mayStart) node.start();
    const newest = newestOf(this.#current());
    const voters = newest?.machine?.membership()?.voters ?? [newest?.memberId ?? ''];
    // Membership is effective when applied: those that are behind need the quorum that they know of.
    const views = voters.flatMap((voter) => {
      const view = this.#node(voter)?.machine?.membership()?.voters;
      return view === undefined ? [] : [view];
    });
    return [voters, ...views];
  }

  #membershipPending(): boolean {
    const { checkers } = this.#world;
    return this.#current().some(({ memberId, machine }) => {
      const log = checkers.log(memberId);
      const applied = machine?.appliedIndex ?? 0;
      return log.entries.some(({ kind, index }) => kind === 'membership' && index > applied);
    });
  }

  /** Those that must have everything in the end. */
  #sound(): readonly SimNode[] {
    const members = this.#members();
    return this.#current().filter(
      ({ memberId, retired, lostDisk, halted, up }) =>
        up && halted === null && !retired && !lostDisk && members.includes(memberId),
    );
  }

  #members(): readonly MemberId[] {
    const newest = newestOf(this.#current());
    const membership = newest?.machine?.membership() ?? null;
    if (membership === null) return newest === null ? [] : [newest.memberId];
    return [...membership.voters, ...membership.learners];
  }

  #checkEnd(): void {
    const { verdict, checkers } = this.#world;
    if (verdict.violation !== null) return;
    for (const { memberId, machine } of this.#sound()) {
      const appliedIndex = machine?.appliedIndex ?? 0;
      checkers.acknowledgements.finallyAt(memberId, appliedIndex);
      if (!this.#isComplete(appliedIndex)) {
        verdict.broken(
          'progress',
          `${memberId} ends with index ${appliedIndex} of ${checkers.committed.lastIndex}, all healed`,
        );
      }
    }
    this.#recovery.finalCheck();
    for (const node of this.#sound()) {
      const fault = this.#keySide?.fault(node) ?? null;
      if (fault !== null) verdict.broken('serving processes converge', fault);
    }
    this.#clients.abandon();
    checkRegisters(this.#clients.history, verdict);
  }
}
