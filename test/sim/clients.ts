import { initialValue, type RegisterOperation } from './checkers/register-history.js';
import type { Random } from './random.js';
import {
  encodeCommand,
  type RegisterCommand,
  RegisterMachine,
  type RegisterResult,
} from './register-machine.js';
import type { ProposeOutcome, SimNode } from './sim-node.js';
import type { World } from './world.js';

/** A client gives up after so many attempts. */
const attemptsMax = 8;

interface Request {
  readonly request: number;
  readonly register: number;
  /** That a grant depends on; `null` for a denial. */
  readonly seen: number | null;
  invokedMs: number;
  readonly command: Uint8Array;
  attempts: number;
  /** From a cluster before this one, whose log may have brought it along. */
  carried: boolean;
  /** Some attempt may have got into a log. */
  maybe: boolean;
}

/** Whoever asks the cluster for something: over registers, or over key state. */
export interface AdminClients {
  readonly history: readonly RegisterOperation[];
  /** Writes acknowledged so far. */
  readonly acknowledged: number;
  /** Reads answered with an index so far. */
  readonly readsAnswered: number;
  /** Whether there is anybody who could answer. */
  readonly mayAsk: boolean;
  /** Whether new operations are writes at all. */
  writing: boolean;
  start(): void;
  stop(): void;
  /** Nobody waits any longer. */
  abandon(): void;
}

/**
 * Clients, each operation at a node of its choice. A write whose outcome is unknown is repeated with its request id, or
 * left so. What each client saw is the history that is checked at the end.
 */
export class Clients implements AdminClients {
  #history: RegisterOperation[] = [];
  readonly #world: World;
  readonly #random: Random;
  readonly #reachable: () => readonly SimNode[];
  readonly #nextRequest: () => number;
  /** The last value that any client saw of a register. */
  readonly #seen = new Map<number, number>();
  /** Writes whose clients have not given up. */
  readonly #open = new Set<Request>();
  #reads = 0;
  #acknowledged = 0;
  #running = true;
  #writing = true;
  #readsAnswered = 0;

  constructor(options: {
    readonly world: World;
    readonly random: Random;
    readonly reachable: () => readonly SimNode[];
    readonly nextRequest: () => number;
  }) {
    this.#world = options.world;
    this.#random = options.random;
    this.#reachable = options.reachable;
    this.#nextRequest = options.nextRequest;
  }

  /** What they saw of this cluster. */
  get history(): readonly RegisterOperation[] {
    return this.#history;
  }

  get acknowledged(): number {
    return this.#acknowledged;
  }

  readonly mayAsk = true;

  get readsAnswered(): number {
    return this.#readsAnswered;
  }

  get writing(): boolean {
    return this.#writing;
  }

  set writing(writing: boolean) {
    this.#writing = writing;
  }

  start(): void {
    this.#world.after(this.#random.exponential(this.#world.operationMeanMs), 'client', -1, () => {
      if (!this.#running) return;
      this.start();
      this.#operate();
    });
  }

  stop(): void {
    this.#running = false;
  }

  /**
   * They go on at another cluster, whose registers have the values `recovered`. What they saw of the one before is
   * checked by itself. @returns it.
   */
  moveOn(recovered: readonly number[]): readonly RegisterOperation[] {
    const { nowMs } = this.#world;
    for (const write of this.#open) {
      this.#maybeWritten(write);
      write.carried = true;
      write.maybe = true;
      write.invokedMs = nowMs;
    }
    const before = this.#history;
    this.#history = recovered.flatMap((value, register) =>
      value === initialValue
        ? []
        : [{ register, kind: 'write', value, invokedMs: nowMs, respondedMs: nowMs } as const],
    );
    return before;
  }

  abandon(): void {
    for (const write of this.#open) this.#maybeWritten(write);
    this.#open.clear();
  }

  #node(): SimNode | null {
    const nodes = this.#reachable();
    return nodes.length === 0 ? null : this.#random.pick(nodes);
  }

  #operate(): void {
    const { scenario } = this.#world;
    const node = this.#node();
    if (node === null) return;
    const register = this.#random.below(scenario.registers);
    if (!this.#writing || this.#random.chance(scenario.readShare)) this.#read(node, register);
    else this.#write(node, register);
  }

  #read(node: SimNode, register: number): void {
    const { checkers } = this.#world;
    this.#reads += 1;
    const readId = `r${this.#reads}`;
    const invokedMs = this.#world.nowMs;
    const startIndex = checkers.acknowledgements.index;
    this.#world.say(
      () => `client reads ${register} at ${node.memberId} (${readId}, ${startIndex} acknowledged)`,
    );
    node.read(readId, (index) => {
      const { machine } = node;
      if (index === null || !(machine instanceof RegisterMachine)) return;
      this.#world.say(() => `${node.memberId} answers ${readId}: index ${index}`);
      this.#readsAnswered += 1;
      checkers.acknowledgements.read(node.memberId, startIndex, index, machine.appliedIndex);
      const value = machine.value(register);
      this.#saw(register, value);
      this.#record('read', register, value, invokedMs);
    });
  }

  #record(kind: RegisterOperation['kind'], register: number, value: number, invokedMs: number): void {
    this.#history.push({ register, kind, value, invokedMs, respondedMs: this.#world.nowMs });
  }

  #saw(register: number, value: number): void {
    this.#seen.set(register, value);
  }

  #write(node: SimNode, register: number): void {
    const request = this.#nextRequest();
    const seen = this.#random.chance(0.5) ? (this.#seen.get(register) ?? initialValue) : null;
    const command: RegisterCommand =
      seen === null ? { kind: 'deny', request, register } : { kind: 'grant', request, register, seen };
    const { paddingBytesMax } = this.#world.scenario;
    const padding = paddingBytesMax > 0 ? this.#random.below(paddingBytesMax) : 0;
    const write: Request = {
      request,
      register,
      seen,
      invokedMs: this.#world.nowMs,
      command: encodeCommand(command, padding),
      attempts: 0,
      carried: false,
      maybe: false,
    };
    this.#open.add(write);
    this.#attempt(node, write);
  }

  #attempt(node: SimNode, write: Request): void {
    write.attempts += 1;
    const { request, attempts } = write;
    this.#world.say(
      () => `client writes ${request} to ${write.register} at ${node.memberId}, attempt ${attempts}`,
    );
    node.propose(`${request}.${attempts}`, 'command', write.command, (outcome) =>
      this.#settled(node, write, outcome),
    );
  }

  #settled(node: SimNode, write: Request, outcome: ProposeOutcome | null): void {
    const { request, command } = write;
    this.#world.say(() => {
      const text =
        outcome === null ? 'lost' : outcome.ok ? `index ${outcome.value.index}` : outcome.error.kind;
      return `${node.memberId} answers write ${request}: ${text}`;
    });
    if (outcome?.ok) {
      const { index, result } = outcome.value;
      this.#world.checkers.acknowledgements.acknowledged(this.#world.nowMs, index, request, command);
      if (result === null || result.request !== request || !('outcome' in result)) {
        this.#world.verdict.broken(
          'outcomes',
          `write ${request} got the result of ${result?.request ?? 'nothing'}`,
        );
      } else {
        this.#acknowledged += 1;
        this.#done(write, result);
      }
      return;
    }
    const kind = outcome?.error.kind ?? 'closed';
    if (kind === 'unknown' || kind === 'closed') write.maybe = true;
    const again = write.attempts < attemptsMax && this.#random.chance(this.#world.scenario.retryChance);
    if (again) {
      this.#world.after(this.#random.exponential(100), 'retry', -1, () => {
        const next = this.#running && this.#writing ? this.#node() : null;
        if (next === null) this.#givesUp(write);
        else this.#attempt(next, write);
      });
    } else {
      this.#givesUp(write);
    }
  }

  #givesUp(write: Request): void {
    this.#open.delete(write);
    if (write.maybe) this.#maybeWritten(write);
    else this.#world.checkers.exactlyOnce.notTaken(write.request);
  }

  #maybeWritten(write: Request): void {
    const { register, request: value, invokedMs } = write;
    this.#history.push({ register, kind: 'write', value, invokedMs, respondedMs: Number.POSITIVE_INFINITY });
  }

  #done(write: Request, { outcome, before, repeated }: RegisterResult): void {
    this.#open.delete(write);
    // It was executed in the cluster before, or is only now known to have been in this one: no part of what was seen.
    if (write.carried && repeated) {
      this.#maybeWritten(write);
      return;
    }
    const { register, request, invokedMs } = write;
    switch (outcome) {
      case 'done':
        if (write.seen !== null && write.seen !== before) {
          this.#world.verdict.broken(
            'late grants undo nothing',
            `request ${request} saw ${write.seen} and was granted over ${before}`,
          );
        }
        this.#record('read', register, before, invokedMs);
        this.#record('write', register, request, invokedMs);
        this.#saw(register, request);
        return;
      case 'conflict':
        this.#record('read', register, before, invokedMs);
        this.#saw(register, before);
        return;
      case 'expired':
        this.#givesUp(write);
        return;
    }
  }
}
