import { limits } from '../../../src/keystate/types.js';
import type { Random } from '../random.js';
import type { SimNode } from '../sim-node.js';
import type { World } from '../world.js';
import type { NodeServing } from './node-serving.js';

const kinds = [
  'killProcess',
  'stopProcess',
  'stallLinks',
  'suspendMachine',
  'killMachine',
  'isolateNode',
] as const;

/** Makes things go wrong between replicas and serving processes, and isolates nodes for longer than D. */
export class ServingFaults {
  readonly #world: World;
  readonly #random: Random;
  readonly #nodes: () => readonly NodeServing[];
  readonly #meanMs: number;
  /** A node's replica ends, and is started again some time. */
  readonly #crash: (node: SimNode) => void;
  #running = true;

  constructor(options: {
    readonly world: World;
    readonly random: Random;
    /** All that are not retired. */
    readonly nodes: () => readonly NodeServing[];
    readonly meanMs: number;
    readonly crash: (node: SimNode) => void;
  }) {
    this.#world = options.world;
    this.#random = options.random;
    this.#nodes = options.nodes;
    this.#meanMs = options.meanMs;
    this.#crash = options.crash;
  }

  start(): void {
    if (this.#meanMs === Number.POSITIVE_INFINITY) return;
    this.#world.after(this.#random.exponential(this.#meanMs), 'serving fault', -1, () => {
      if (!this.#running) return;
      this.start();
      const nodes = this.#nodes();
      if (nodes.length > 0) this.#strike(this.#random.pick(nodes), this.#random.pick(kinds));
    });
  }

  stop(): void {
    this.#running = false;
  }

  #strike(serving: NodeServing, kind: (typeof kinds)[number]): void {
    const { nowMs } = this.#world;
    const { node } = serving;
    const process = this.#random.pick(serving.processes);
    switch (kind) {
      case 'killProcess':
        process.kill('killed');
        this.#restart(serving);
        return;
      case 'stopProcess':
        process.stalledUntilMs = nowMs + this.#random.exponential(1_000);
        return;
      case 'stallLinks':
        serving.linksStalledUntilMs = nowMs + this.#random.exponential(this.#random.pick([500, 8_000]));
        return;
      case 'suspendMachine': {
        // Its boot clock goes on, the other one does not.
        const lengthMs = this.#random.exponential(4_000);
        this.#world.say(() => `${node.memberId}'s machine is suspended for ${lengthMs.toFixed(0)} ms`);
        node.pausedUntilMs = Math.max(node.pausedUntilMs, nowMs + lengthMs);
        for (const each of serving.processes) each.stalledUntilMs = node.pausedUntilMs;
        node.clock.suspend(nowMs, lengthMs);
        return;
      }
      case 'killMachine':
        this.#world.say(() => `${node.memberId}'s machine fails`);
        serving.killProcesses('its machine fails');
        this.#crash(node);
        this.#restart(serving);
        return;
      case 'isolateNode':
        this.#isolate(node);
        return;
    }
  }

  #restart(serving: NodeServing): void {
    this.#world.after(this.#random.exponential(500), 'restart', -1, () => {
      if (!serving.node.retired) serving.startProcesses();
    });
  }

  /** Long enough for the rule of isolation to matter. Other partitions may end it early. */
  #isolate(node: SimNode): void {
    const { network } = this.#world;
    const lengthMs = limits.isolationBoundMsMin * this.#random.between(0.5, 2.5);
    this.#world.say(() => `${node.memberId} is isolated for ${lengthMs.toFixed(0)} ms`);
    for (const { node: other } of this.#nodes()) {
      if (other === node) continue;
      network.cut(node.slot, other.slot);
      network.cut(other.slot, node.slot);
    }
    this.#world.after(lengthMs, 'mend', -1, () => {
      if (this.#running) network.mend(node.slot);
    });
  }
}
