import { silentLogger } from '../../../src/base/logger.js';
import { err, ok } from '../../../src/base/result.js';
import { decodeCommand } from '../../../src/keystate/command-codec.js';
import type { LinkConnection } from '../../../src/ops/link-connection.js';
import type { IvReservations, IvReservationsOptions } from '../../../src/replica/iv-reservations.js';
import type { ServingLinks, StateSubscriber } from '../../../src/replica/serving-links.js';
import type { StandingWatch } from '../../../src/replica/standing-watch.js';
import type { ReplicationLoop } from '../../../src/replication/replication-loop.js';
import type { KeyLedger } from '../checkers/key-ledger.js';
import { KeyMachine } from '../keys/key-machine.js';
import type { Random } from '../random.js';
import type { MachineResult, SimMachine } from '../sim-machine.js';
import type { Companion, SimNode } from '../sim-node.js';
import type { World } from '../world.js';
import { ServingProcess, supervisorNonce } from './serving-process.js';
import { SimLink } from './sim-link.js';
import { SimProcess } from './sim-process.js';

/** As the replica does it. */
const standingIntervalMs = 1_000;

/** What runs while the replica does. */
interface Publication {
  readonly process: SimProcess;
  readonly machine: KeyMachine;
  readonly links: ServingLinks;
  readonly standing: StandingWatch;
  readonly ivs: IvReservations;
  subscriber: StateSubscriber | null;
}

export interface NodeServingOptions {
  readonly world: World;
  readonly random: Random;
  readonly ledger: KeyLedger;
  /** A number for a request of this node's own. */
  readonly nextRequest: () => number;
  readonly node: SimNode;
  /** When a quorum last confirmed its state, by what is on its disk (wall clock, ms). */
  readonly confirmedAtMs: number | null;
  readonly processes: number;
  readonly linkDelayMeanMs: number;
  readonly linkBufferBytesMax: number;
  readonly hsmMeanMs: number;
  readonly joinedTooLate: () => boolean;
  readonly nextPid: () => number;
}

type Settled = Parameters<IvReservationsOptions['propose']>[2];

/** The number in the place of chance, as `requestIdOf` has it. */
function numbered(request: number, length: number): Uint8Array {
  const bytes = Buffer.alloc(length);
  bytes.writeUIntBE(request, length - 6, 6);
  return bytes;
}

/** The serving processes of a node, and the publication of its replica's key state to them: the real one. */
export class NodeServing implements Companion {
  readonly node: SimNode;
  readonly processes: readonly ServingProcess[];
  /** Nothing gets through between replica and serving processes until then. */
  linksStalledUntilMs = 0;
  readonly #options: NodeServingOptions;
  readonly #connections = new Set<SimLink>();
  #publication: Publication | null = null;
  /** Of the publication being made. */
  #subscriber: StateSubscriber | null = null;
  #confirmedAtMs: number | null;
  #proposals = 0;

  constructor(options: NodeServingOptions) {
    const { world, random, ledger, node, hsmMeanMs, nextPid } = options;
    this.#options = options;
    this.node = node;
    this.#confirmedAtMs = options.confirmedAtMs;
    this.processes = Array.from(
      { length: options.processes },
      (_, place) =>
        new ServingProcess({
          world,
          random,
          ledger,
          node,
          slot: place + 1,
          hsmMeanMs,
          nextPid,
          connect: (from) => this.#connect(from),
          acknowledgedIndex: (processId) => this.#acknowledgedBy(processId),
        }),
    );
  }

  get joinedTooLate(): boolean {
    return this.#options.joinedTooLate();
  }

  get appliedIndex(): number {
    const publication = this.#publication;
    if (publication === null) return 0;
    return Math.min(
      publication.machine.appliedIndex,
      ...publication.links.links().map(({ appliedIndex }) => appliedIndex),
    );
  }

  #acknowledgedBy(processId: string): number {
    const links = this.#publication?.links.links() ?? [];
    return links.find(({ hello }) => hello.processId === processId)?.appliedIndex ?? 0;
  }

  startProcesses(): void {
    for (const process of this.processes) process.start();
  }

  killProcesses(reason: string): void {
    for (const process of this.processes) process.kill(reason);
  }

  #connect(from: SimProcess): LinkConnection {
    const { world, random, linkDelayMeanMs } = this.#options;
    const publication = this.#publication;
    const plan = { delayMeanMs: linkDelayMeanMs, stalledUntilMs: () => this.linksStalledUntilMs };
    const to = publication?.process ?? new SimProcess(world, 'nobody', () => 0);
    const link = new SimLink(world, random, plan, from, to);
    if (publication === null) {
      link.refuse();
      return link.client;
    }
    for (const known of this.#connections) if (known.isOver) this.#connections.delete(known);
    this.#connections.add(link);
    publication.links.accept(link.server);
    link.connected();
    return link.client;
  }

  replicaStarted(machine: SimMachine, loop: ReplicationLoop<MachineResult>): void {
    if (!(machine instanceof KeyMachine)) throw new Error('only key state is published');
    const { world, node, linkBufferBytesMax } = this.#options;
    const release = world.build.releases[node.release];
    const process = new SimProcess(world, `${node.memberId}'s publication`, () => node.pausedUntilMs);
    const bootTimeMs = (): number => node.clock.localMs(world.nowMs);
    const standing = new release.StandingWatch({
      state: () => machine.state,
      replication: () => loop.status(),
      lastConfirmation: {
        foundAtMs: node.lostDisk ? null : this.#confirmedAtMs,
        confirmed: (atMs) => {
          this.#confirmedAtMs = atMs;
        },
      },
      fence: null,
      clock: process.clock(node.clock),
      bootTimeMs,
    });
    const links = new release.ServingLinks({
      supervisorNonce,
      state: {
        get appliedIndex() {
          return machine.appliedIndex;
        },
        snapshot: () => machine.snapshot(),
        subscribe: (subscriber) => {
          this.#subscriber = subscriber;
          return () => {};
        },
      },
      logger: silentLogger,
      timers: process.timers(),
      isProcessAlive: (pid) => this.processes.some((serving) => serving.pid === pid),
      runningServingProcesses: () =>
        this.processes.flatMap(({ slot, pid }) => (pid === null ? [] : [{ slot, pid }])),
      standing: standing.standing(),
      linkBufferBytesMax,
    });
    standing.watch((changed) => links.standingChanged(changed));
    const ivs = new release.IvReservations({
      propose: (command, _, settled) => this.#propose(process, command, settled),
      encodeCommand: release.encodeCommand,
      activeFormat: () => machine.state.activeFormat(),
      clock: process.clock(node.clock),
      timers: process.timers(),
      random: { bytes: (length) => numbered(this.#options.nextRequest(), length) },
      logger: silentLogger,
    });
    links.observe(ivs);
    this.#publication = { process, machine, links, standing, ivs, subscriber: this.#subscriber };
    this.#watchStanding(this.#publication);
  }

  #propose(process: SimProcess, command: Uint8Array, settled: Settled): void {
    const { world, node, ledger } = this.#options;
    this.#proposals += 1;
    const decoded = decodeCommand(command);
    node.propose(`iv${this.#proposals}`, 'command', command, (outcome) => {
      // Its replica may have ended meanwhile.
      if (this.#publication?.process !== process) return;
      if (outcome === null) settled(err({ kind: 'closed', reason: 'the node is down' }));
      else if (!outcome.ok) settled(outcome);
      else {
        const { index, result } = outcome.value;
        const done = result !== null && 'result' in result ? result.result : null;
        world.checkers.acknowledgements.acknowledged(world.nowMs, index, result?.request ?? 0, command);
        if (decoded.ok && decoded.value.type === 'iv.reserve' && done?.ok)
          ledger.ivs.acknowledged(decoded.value);
        settled(ok({ index, command, result: done }));
      }
    });
  }

  #watchStanding(publication: Publication): void {
    publication.process.after(standingIntervalMs, 'standing', () => {
      this.#watchStanding(publication);
      publication.standing.update();
    });
  }

  applied(entry: { readonly index: number; readonly command: Uint8Array }): void {
    this.#publication?.subscriber?.onEntry(entry);
  }

  restored(index: number): void {
    this.#publication?.subscriber?.onRestore(index);
  }

  fresh(asOfMs: number, index: number): void {
    const publication = this.#publication;
    publication?.subscriber?.onFresh(asOfMs, index);
    publication?.standing.confirmed();
  }

  replicaEnded(): void {
    const publication = this.#publication;
    if (publication === null) return;
    this.#publication = null;
    publication.ivs.close();
    publication.process.end();
    for (const link of this.#connections) link.close(link.server);
    this.#connections.clear();
  }

  /** What keeps a serving process from serving where all is healed; `null`: nothing. */
  fault(): string | null {
    const publication = this.#publication;
    if (publication === null) return `${this.node.memberId} has no replica`;
    const { machine } = publication;
    for (const process of this.processes) {
      const fault = process.fault(machine.appliedIndex, machine.hashNumber());
      if (fault !== null) return `${process.name}: ${fault}`;
    }
    return null;
  }
}
