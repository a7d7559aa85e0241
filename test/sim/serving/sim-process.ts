import type { Clock } from '../../../src/base/clock.js';
import type { Timers } from '../../../src/base/timers.js';
import { wallMs } from '../keys/simulated-ids.js';
import type { NodeClock } from '../node-clock.js';
import type { World } from '../world.js';
import { guarded } from './guarded.js';

/**
 * A process of a node, as far as what happens in it is concerned: nothing while it is stopped, in order once it goes on,
 * and nothing any more when it has ended.
 */
export class SimProcess {
  readonly name: string;
  readonly #world: World;
  readonly #heldUntilMs: () => number;
  #ended = false;

  /** @param heldUntilMs stopped until then (true time). */
  constructor(world: World, name: string, heldUntilMs: () => number) {
    this.#world = world;
    this.name = name;
    this.#heldUntilMs = heldUntilMs;
  }

  end(): void {
    this.#ended = true;
  }

  /** @param kind for the trace. */
  after(delayMs: number, kind: string, run: () => void): void {
    const happen = (): void => {
      if (this.#ended) return;
      const heldMs = this.#heldUntilMs() - this.#world.nowMs;
      if (heldMs > 0) this.#world.after(heldMs, kind, -1, happen);
      else guarded(this.#world, this.name, run);
    };
    this.#world.after(delayMs, kind, -1, happen);
  }

  timers(): Timers {
    return {
      after: (delayMs, run) => {
        let cancelled = false;
        this.after(delayMs, 'timer', () => {
          if (!cancelled) run();
        });
        return () => {
          cancelled = true;
        };
      },
    };
  }

  clock(node: NodeClock): Clock {
    return {
      wallMs: () => wallMs(this.#world.nowMs),
      monotonicMs: () => node.monotonicMs(this.#world.nowMs),
    };
  }
}
