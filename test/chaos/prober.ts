import { setTimeout as delay } from 'node:timers/promises';
import type { ChaosCluster } from './chaos-cluster.js';
import type { ChaosNode } from './chaos-node.js';
import { XksCaller } from './xks-caller.js';

const pauseMs = 20;
const failuresMax = 100;

/** Asks one node past the balancer all the time, on a connection that is kept and on new ones in turn. */
export class Prober {
  readonly node: ChaosNode;
  readonly #caller: XksCaller;
  readonly #failures: string[] = [];
  #asked = 0;
  #watching = true;
  #stopped = false;
  readonly #done: Promise<void>;

  constructor(cluster: ChaosCluster, node: ChaosNode, key: string) {
    this.node = node;
    this.#caller = new XksCaller(cluster.accessTo(node), 1);
    this.#done = this.#run(key);
  }

  /** Answers with 200, while it was watched. */
  get answered(): number {
    return this.#asked - this.#failures.length;
  }

  /** What was not answered with 200, while it was watched. */
  get failures(): readonly string[] {
    return this.#failures;
  }

  /** What fails from now on is as expected, also of what has been asked already. */
  pause(): void {
    this.#watching = false;
  }

  resume(): void {
    this.#watching = true;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
    await this.#caller.destroy();
  }

  async #run(key: string): Promise<void> {
    for (let turn = 0; !this.#stopped; turn += 1) {
      const sentMs = Date.now();
      const watched = this.#watching;
      const said = await this.#caller.encrypt(key, 'AAAA', turn % 2 === 0).then(
        ({ status, body }) => (status === 200 ? null : `${status} ${JSON.stringify(body)}`),
        (failure: unknown) => String(failure),
      );
      if (watched && this.#watching) {
        this.#asked += 1;
        if (said !== null && this.#failures.length < failuresMax) {
          this.#failures.push(`${this.node.name} ${new Date(sentMs).toISOString()}: ${said}`);
        }
      }
      await delay(pauseMs);
    }
  }
}
