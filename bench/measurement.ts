import { DriverClient } from './driver/driver-client.js';
import type { LoadShape } from './driver/load-run.js';
import type { DriverPlan } from './driver/protocol.js';
import { type RunReport, usedBetween } from './report/bench-report.js';
import type { BenchTarget } from './target/bench-target.js';
import { processTree } from './target/process-usage.js';

/** How requests come to the proxy. */
export type Traffic = Pick<DriverPlan, 'http' | 'connections' | 'streams' | 'bodies' | 'encryptShare'>;

/** A proxy with a driver connected to it. */
export class Measurement {
  readonly #target: BenchTarget;
  readonly #driver: DriverClient;
  readonly #verify: boolean;

  private constructor(target: BenchTarget, driver: DriverClient, verify: boolean) {
    this.#target = target;
    this.#driver = driver;
    this.#verify = verify;
  }

  /** `verify`: look at a sample of the answers of each run. */
  static async open(target: BenchTarget, traffic: Traffic, { verify = true } = {}): Promise<Measurement> {
    const { urls, ca, access } = target;
    return new Measurement(target, await DriverClient.start({ urls, ca, access, ...traffic }), verify);
  }

  get signingMicros(): number {
    return this.#driver.signingMicros;
  }

  /** Load whose figures nobody wants: compilers and caches come to rest. */
  async warmUp(shape: LoadShape): Promise<void> {
    await this.#driver.run(shape);
  }

  async run(name: string, shape: LoadShape): Promise<RunReport> {
    const { pids } = this.#target;
    const before = processTree(pids);
    const load = await this.#driver.run(shape);
    const processes = usedBetween(before, processTree(pids));
    const verification = this.#verify ? await this.#driver.verify() : null;
    return { name, load, verification, processes };
  }

  close(): Promise<void> {
    return this.#driver.stop();
  }
}
