import type { KeyLedger } from '../checkers/key-ledger.js';
import type { Random } from '../random.js';
import { NodeServing } from '../serving/node-serving.js';
import { ServingFaults } from '../serving/serving-faults.js';
import type { ServingProcess } from '../serving/serving-process.js';
import { type AnswerCounts, XksTraffic } from '../serving/xks-traffic.js';
import type { SimNode } from '../sim-node.js';
import type { World } from '../world.js';
import { KeyClients } from './key-clients.js';
import type { KeyScenario } from './key-scenario.js';
import { ReleaseOperator } from './release-operator.js';
import { wallMs } from './simulated-ids.js';

export interface KeySideOptions {
  readonly world: World;
  readonly scenario: KeyScenario;
  readonly ledger: KeyLedger;
  readonly randoms: {
    readonly clients: Random;
    readonly serving: Random;
    readonly traffic: Random;
    readonly faults: Random;
    readonly releases: Random;
  };
  readonly reachable: () => readonly SimNode[];
  readonly nextRequest: () => number;
  /** A node that went down is started again some time. */
  readonly restartLater: (node: SimNode) => void;
}

/** All that a simulation over key state has beside replicas: administrators, serving processes, KMS, two releases. */
export class KeySide {
  readonly clients: KeyClients;
  readonly #options: KeySideOptions;
  readonly #traffic: XksTraffic;
  readonly #faults: ServingFaults;
  readonly #releases: ReleaseOperator;
  readonly #serving = new Map<SimNode, NodeServing>();
  #pids = 0;

  constructor(options: KeySideOptions) {
    const { world, scenario, ledger, randoms, reachable, nextRequest, restartLater } = options;
    this.#options = options;
    this.clients = new KeyClients({
      world,
      scenario,
      ledger,
      random: randoms.clients,
      reachable,
      nextRequest,
    });
    this.#traffic = new XksTraffic({
      world,
      scenario,
      ledger,
      random: randoms.traffic,
      processes: () => this.#processes(),
      accessKeyIds: (keyStore) => this.clients.accessKeyIds(keyStore),
    });
    const nodes = (): readonly NodeServing[] => this.#standing();
    this.#faults = new ServingFaults({
      world,
      random: randoms.faults,
      nodes,
      meanMs: scenario.servingFaultMeanMs,
      crash: (node) => {
        if (!node.up) return;
        node.crash('its machine fails');
        restartLater(node);
      },
    });
    this.#releases = new ReleaseOperator({
      world,
      random: randoms.releases,
      mixed: scenario.mixedReleases,
      nodes,
      nextRequest,
      restart: (serving) => {
        serving.killProcesses('restarted');
        serving.node.crash('restarted');
        serving.node.start();
        serving.startProcesses();
      },
    });
  }

  get answers(): AnswerCounts {
    return this.#traffic.counts;
  }

  /** Before its first start. @param prepared it is of a cluster that was there before the simulation began. */
  created(node: SimNode, prepared: boolean): void {
    const { world, scenario, randoms, ledger, nextRequest } = this.#options;
    this.#releases.install(node);
    const serving = new NodeServing({
      world,
      random: randoms.serving,
      ledger,
      nextRequest,
      node,
      confirmedAtMs: prepared ? wallMs(0) : null,
      processes: scenario.servingProcesses[node.slot] ?? 1,
      linkDelayMeanMs: scenario.linkDelayMeanMs,
      linkBufferBytesMax: scenario.linkBufferBytesMax,
      hsmMeanMs: scenario.hsmMeanMs,
      joinedTooLate: () => this.#releases.joinedTooLate(node),
      nextPid: () => {
        this.#pids += 1;
        return this.#pids;
      },
    });
    this.#serving.set(node, serving);
    node.companion = serving;
    serving.startProcesses();
  }

  retired(node: SimNode): void {
    this.#serving.get(node)?.killProcesses('turned off for good');
  }

  /** @param prepared the cluster was made at once. */
  start(prepared: boolean): void {
    if (prepared) this.clients.recordPreparation();
    this.#traffic.start();
    this.#faults.start();
    this.#releases.start();
  }

  /** Nothing goes wrong by chance any more, and nobody changes releases. */
  leaveAlone(): void {
    this.#faults.stop();
    this.#releases.stop();
  }

  heal(): void {
    for (const serving of this.#standing()) {
      const { nowMs } = this.#options.world;
      serving.linksStalledUntilMs = nowMs;
      for (const process of serving.processes)
        process.stalledUntilMs = Math.min(process.stalledUntilMs, nowMs);
      serving.startProcesses();
    }
  }

  /** KMS asks no more. */
  stop(): void {
    this.#traffic.stop();
  }

  /** What keeps serving processes of `node` from serving where all is healed; `null`: nothing. */
  fault(node: SimNode): string | null {
    return this.#serving.get(node)?.fault() ?? null;
  }

  #standing(): readonly NodeServing[] {
    return [...this.#serving.values()].filter(({ node }) => !node.retired);
  }

  #processes(): readonly ServingProcess[] {
    return this.#standing().flatMap(({ processes }) => processes.filter(({ up }) => up));
  }
}
