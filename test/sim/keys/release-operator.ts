import type { CommandEnvelope } from '../../../src/keystate/types.js';
import { reachableWithinMs } from '../../../src/replica/upgrade-gate.js';
import { nextFormat } from '../next-format.js';
import type { Random } from '../random.js';
import type { NodeServing } from '../serving/node-serving.js';
import type { SimNode } from '../sim-node.js';
import type { World } from '../world.js';
import { KeyMachine } from './key-machine.js';
import { requestIdOf, wallMs } from './simulated-ids.js';

const actMeanMs = 1_500;
/** Once decided. */
const decidedActMeanMs = 700;
/** How likely an act brings a node to the later release then, and is no try of the gate. */
const diligences = [0.05, 0.3];
/** Whoever goes back to the former release doesn't finalise in the same breath: reports of the later one must be outlived. */
const settledMs = reachableWithinMs * 1.2;
/** Acts before the operator decides for the later release. */
const playMeanActs = 4;

/**
 * Has nodes run two releases: restarts them with the one and the other, in both directions, until he decides for the
 * later one; then brings all of them there, and raises the active format once the gate lets him.
 */
export class ReleaseOperator {
  readonly #world: World;
  readonly #random: Random;
  readonly #nodes: () => readonly NodeServing[];
  readonly #nextRequest: () => number;
  /** Replica and serving processes of a node end, and start again at once. */
  readonly #restart: (serving: NodeServing) => void;
  readonly #mixed: boolean;
  readonly #diligence: number;
  #decided = false;
  /** When a node last went back to the former release. */
  #wentBackMs = Number.NEGATIVE_INFINITY;
  /** Some proposal to raise the active format was acknowledged. */
  #finalized = false;
  #waiting = false;
  /** What had been applied where the gate was last found open. */
  #gateIndex: number | null = null;
  #running = true;

  constructor(options: {
    readonly world: World;
    readonly random: Random;
    readonly mixed: boolean;
    readonly nodes: () => readonly NodeServing[];
    readonly nextRequest: () => number;
    readonly restart: (serving: NodeServing) => void;
  }) {
    this.#world = options.world;
    this.#random = options.random;
    this.#mixed = options.mixed;
    this.#diligence = options.random.pick(diligences);
    this.#nodes = options.nodes;
    this.#nextRequest = options.nextRequest;
    this.#restart = options.restart;
  }

  /** A node is set up: some with a release that is too old by then, which must be told so. */
  install(node: SimNode): void {
    if (!this.#mixed) return;
    const isBetween = this.#decided && !this.#finalized;
    node.release = isBetween || this.#random.chance(0.5) ? 1 : 0;
  }

  start(): void {
    if (!this.#mixed) return;
    const meanMs = this.#decided ? decidedActMeanMs : actMeanMs;
    this.#world.after(this.#random.exponential(meanMs), 'releases', -1, () => {
      if (!this.#running) return;
      this.start();
      this.#act();
    });
  }

  stop(): void {
    this.#running = false;
  }

  /**
   * Whether a node of the former release came in while the format was being raised: its join was on its way when the gate
   * was looked at. It can't follow, and says so; no quorum rests on it.
   */
  joinedTooLate(node: SimNode): boolean {
    const gateIndex = this.#gateIndex;
    if (node.release === 1 || gateIndex === null) return false;
    return this.#nodes().some(({ node: { machine } }) => {
      const member = machine instanceof KeyMachine ? machine.state.member(node.memberId) : null;
      return (member?.joinedIndex ?? 0) > gateIndex;
    });
  }

  #act(): void {
    const nodes = this.#nodes();
    if (nodes.length === 0) return;
    const [behind, ...moreBehind] = nodes.filter(({ node }) => node.release === 0);
    if (!this.#decided) {
      if (behind !== undefined && this.#random.chance(1 / playMeanActs)) {
        this.#decided = true;
        this.#world.say(() => 'operator decides for the next release');
        return;
      }
      this.#change(this.#random.pick(nodes));
      return;
    }
    const settled = this.#world.nowMs - this.#wentBackMs > settledMs;
    // Somebody is left behind until then: the gate must be found shut, too. A joiner kept out for its age waits here.
    const chance = settled || moreBehind.length > 0 ? this.#diligence : 0;
    if (behind !== undefined && this.#random.chance(chance)) {
      this.#change(behind);
    } else if (settled) {
      const newer = nodes.filter(({ node }) => node.release === 1);
      for (const { node } of this.#random.shuffled(newer)) this.#finalize(node);
    }
  }

  #change(serving: NodeServing): void {
    const { node } = serving;
    node.release = node.release === 0 ? 1 : 0;
    if (node.release === 0) this.#wentBackMs = this.#world.nowMs;
    this.#world.say(() => `operator restarts ${node.memberId} with release ${node.release}`);
    this.#restart(serving);
  }

  /** Unless that is under way, or done. */
  #finalize(node: SimNode): void {
    const { machine, loop, memberId } = node;
    if (!(machine instanceof KeyMachine) || loop === null || this.#waiting) return;
    const { state } = machine;
    if (state.cluster() === null || state.activeFormat() >= nextFormat) return;
    const { nowMs } = this.#world;
    const { membersBehind, encodeCommand } = this.#world.build.releases[node.release];
    const behind = membersBehind(nextFormat, {
      memberId,
      state,
      reports: loop.status().reports,
      nowMs: node.clock.localMs(nowMs),
    });
    if (behind.length > 0) {
      this.#world.say(() => `operator may not finalise the upgrade at ${memberId}: ${behind.join()}`);
      return;
    }
    const request = this.#nextRequest();
    const envelope: CommandEnvelope = {
      requestId: requestIdOf(request, nowMs),
      atMs: wallMs(nowMs),
      by: 'operator',
    };
    const command = encodeCommand({ type: 'cluster.upgrade', ...envelope, format: nextFormat });
    this.#waiting = true;
    this.#gateIndex = state.appliedIndex;
    this.#world.say(() => `operator finalises the upgrade at ${memberId} (request ${request})`);
    node.propose(`${request}.1`, 'command', command, (outcome) => {
      this.#waiting = false;
      const { checkers } = this.#world;
      if (outcome?.ok) {
        this.#finalized = true;
        checkers.acknowledgements.acknowledged(this.#world.nowMs, outcome.value.index, request, command);
      } else if (outcome !== null && outcome.error.kind !== 'unknown' && outcome.error.kind !== 'closed') {
        checkers.exactlyOnce.notTaken(request);
      }
    });
  }
}
