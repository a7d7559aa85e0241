import { silentLogger } from '../../src/base/logger.js';
import { err, type Result } from '../../src/base/result.js';
import { decodeCommand, encodeCommand } from '../../src/keystate/command-codec.js';
import type { IvReservation } from '../../src/keystate/iv-budget.js';
import { mintRequestId } from '../../src/keystate/request-id.js';
import type { Command, CommandOf, CommandResult } from '../../src/keystate/types.js';
import { FrameDecoder, readJsonPayload } from '../../src/ops/frames.js';
import type { Hello, IvWants } from '../../src/ops/state-link.js';
import { proposingTo } from '../../src/replica/iv-proposals.js';
import { IvReservations } from '../../src/replica/iv-reservations.js';
import type { AppliedEntry, ProposeFailure } from '../../src/replication/ordered-log.js';
import { IvAccounts } from '../../src/serving/iv-accounts.js';
import { IvReports } from '../../src/serving/iv-reports.js';
import { MemoryLog } from '../replica/memory-log.js';
import type { BareCommand } from './pipeline-fixture.js';
import { SeededRandom } from './seeded-random.js';
import { VirtualTime } from './virtual-time.js';

export const ivObject = 'aa';

type Proposed = Result<AppliedEntry<CommandResult>, ProposeFailure>;
type Quorum = 'there' | 'gone' | 'unknown' | 'held';

/** One log, nodes with replicas over it, and their serving processes; the links and the log do what a test says. */
export class IvWorld {
  readonly time = new VirtualTime();
  readonly log = new MemoryLog();
  readonly random = new SeededRandom(1);
  /** `unknown`: it is committed, and whoever proposed it hears nothing. */
  /** `held`: nobody hears anything, and it is committed when it is released. */
  quorum: Quorum = 'there';
  /** For the next proposals, one after the other, in the place of `quorum`. */
  readonly outcomes: Quorum[] = [];
  /** Proposals that no log takes, whoever makes them. */
  isRefused: (command: CommandOf<'iv.reserve'>) => boolean = () => false;
  /** What replicas take to be the active format, where key state knows better and refuses. */
  believedFormat: number | null = null;
  failEncoding = false;
  /** Encryptions that were made, by anybody. */
  made = 0;
  readonly proposed: IvReservation[][] = [];
  readonly encryptionsMax: number;
  readonly #held: Uint8Array[] = [];
  readonly #uses = new Map<string, number>();

  constructor({ format = 4, encryptionsMax = 2 ** 32 } = {}) {
    this.encryptionsMax = encryptionsMax;
    const place = { clusterId: 'c', nodeName: 'n', memberId: 'm', address: 'n:1', format };
    this.apply({ type: 'cluster.init', ...place });
    const regions = ['eu-central-1'];
    this.apply({ type: 'keystore.create', name: 's', uriPathPrefix: '', regions, adopted: false });
    const object = {
      objectId: ivObject,
      witness: null,
      checkValue: null,
      usage: ['ENCRYPT'],
      description: '',
    };
    this.apply({ type: 'key.create', keyStore: 's', externalKeyId: 'k', ...object });
  }

  apply(command: BareCommand): void {
    const requestId = mintRequestId(this.time.wallMs(), this.random.bytes(10));
    const whole = { ...command, requestId, atMs: this.time.wallMs(), by: 'test' } as Command;
    void this.log.propose(encodeCommand(whole));
  }

  get reserved(): number {
    return this.log.machine.state.ivBudget(ivObject)?.reserved ?? 0;
  }

  node(): IvNode {
    return new IvNode(this);
  }

  get held(): number {
    return this.#held.length;
  }

  releaseHeld(): void {
    for (const bytes of this.#held.splice(0)) void this.log.propose(bytes);
  }

  /** What was used, by all that was ever proposed: each number of each holder once. */
  proposedUses(): number {
    return [...this.#uses.values()].reduce((sum, used) => sum + used, 0);
  }

  encode(command: Command): Uint8Array {
    if (this.failEncoding) throw new Error('a bug');
    return encodeCommand(command);
  }

  async propose(bytes: Uint8Array): Promise<Proposed> {
    const command = decodeCommand(bytes);
    if (!command.ok || command.value.type !== 'iv.reserve') throw new Error('not a reservation');
    if (this.isRefused(command.value)) return err({ kind: 'too-large' });
    this.proposed.push([...command.value.reservations]);
    const { holder, sequence, reservations } = command.value;
    const used = reservations.reduce((sum, one) => sum + one.used, 0);
    this.#uses.set(`${holder} ${sequence}`, used);
    const quorum = this.outcomes.shift() ?? this.quorum;
    if (quorum === 'held') {
      this.#held.push(bytes);
      return err({ kind: 'unknown', reason: 'no answer' });
    }
    if (quorum === 'gone') return err({ kind: 'not-taken', reason: 'no leader' });
    const proposed = await this.log.propose(bytes);
    return quorum === 'unknown' ? err({ kind: 'unknown', reason: 'no answer' }) : proposed;
  }

  /** Time goes on, in steps between which everything that is due happens. */
  async pass(ms: number, stepMs = 50): Promise<void> {
    for (let passed = 0; passed < ms; passed += stepMs) {
      this.time.advance(stepMs);
      await settled();
    }
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class IvNode {
  readonly world: IvWorld;
  readonly reservations: IvReservations;

  constructor(world: IvWorld) {
    this.world = world;
    this.reservations = new IvReservations({
      propose: proposingTo({ propose: (bytes) => world.propose(bytes) }),
      encodeCommand: (command) => world.encode(command),
      activeFormat: () => world.believedFormat ?? world.log.machine.state.activeFormat(),
      clock: world.time,
      timers: world.time,
      random: world.random,
      logger: silentLogger,
    });
  }

  start(processId: string): IvProcess {
    return new IvProcess(this, processId);
  }
}

export class IvProcess {
  readonly accounts: IvAccounts;
  isLinked = true;
  /** What it sent to its replica. */
  frames = 0;
  #node: IvNode;
  readonly #hello: Hello;
  readonly #reports: IvReports;
  readonly #unsubscribe: () => void;

  constructor(node: IvNode, processId: string) {
    this.#node = node;
    const { world } = node;
    this.#hello = {
      ...{ linkVersion: 1, pid: 1, slot: 1, supervisorNonce: '', processId },
      ...{ startedAtMs: 0, linkedBefore: false, version: '' },
    } as const;
    this.accounts = new IvAccounts({ clock: world.time, encryptionsMax: world.encryptionsMax });
    const state = () => world.log.machine.state;
    this.#reports = new IvReports({
      accounts: this.accounts,
      processId,
      state,
      timers: world.time,
      send: (frame) => {
        if (!this.isLinked) return;
        this.frames += 1;
        const decoded = new FrameDecoder().push(frame);
        const payload = decoded.ok ? readJsonPayload(decoded.value[0]?.payload ?? Buffer.alloc(0)) : null;
        this.#node.reservations.onIvWants(null, this.#hello, payload as unknown as IvWants);
      },
    });
    this.#unsubscribe = world.log.subscribe({
      onEntry: ({ command, result }) => {
        const decoded = decodeCommand(command);
        if (decoded.ok && this.isLinked) this.#reports.onState(state(), decoded.value, result);
      },
    });
    node.reservations.onHello(null, this.#hello);
  }

  get mayEncrypt(): boolean {
    return this.accounts.mayEncrypt(ivObject, this.#node.world.log.machine.state);
  }

  encrypt(count = 1): void {
    for (let done = 0; done < count; done += 1) this.accounts.asked(ivObject);
    this.#node.world.made += count;
  }

  unlink(): void {
    this.isLinked = false;
    this.#node.reservations.onClosed(null, this.#hello);
  }

  /** Its replica ends: nobody there remembers it. */
  lose(): void {
    this.isLinked = false;
    this.#node.reservations.close();
  }

  /** @param node its replica, where that is another one now. */
  link(node = this.#node): void {
    this.#node = node;
    this.isLinked = true;
    this.#node.reservations.onHello(null, this.#hello);
    // A link begins with a snapshot.
    this.#reports.onState(this.#node.world.log.machine.state, null, null);
  }

  kill(): void {
    this.#reports.close();
    this.#unsubscribe();
    this.unlink();
  }
}
