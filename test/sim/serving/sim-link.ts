import type { LinkConnection } from '../../../src/ops/link-connection.js';
import type { Random } from '../random.js';
import type { World } from '../world.js';
import type { SimProcess } from './sim-process.js';

/** What waits in a socket before its writer is told to wait. */
const highWaterBytes = 2_048;
/** A stall may end before its time. */
const stallLookMs = 100;
/** Of a turn of events that brings what there is in two pieces. */
const splitChance = 0.1;

type Listener = (argument: never) => void;

/** One end of a simulated connection between two processes of a node. */
class LinkEnd implements LinkConnection {
  destroyed = false;
  readonly process: SimProcess;
  readonly #link: SimLink;
  readonly #listeners = new Map<string, Listener[]>();
  /** On its way to the other end. */
  outgoing: Uint8Array[] = [];
  outgoingBytes = 0;
  full = false;

  constructor(link: SimLink, process: SimProcess) {
    this.#link = link;
    this.process = process;
  }

  get writableLength(): number {
    return this.outgoingBytes;
  }

  on(event: string, listener: Listener): void {
    const list = this.#listeners.get(event);
    if (list === undefined) this.#listeners.set(event, [listener]);
    else list.push(listener);
  }

  emit(event: string, argument?: unknown): void {
    for (const listener of this.#listeners.get(event) ?? []) listener(argument as never);
  }

  write(bytes: Uint8Array): boolean {
    if (this.destroyed) return false;
    this.outgoing.push(bytes);
    this.outgoingBytes += bytes.byteLength;
    this.#link.carry(this);
    this.full = this.outgoingBytes > highWaterBytes;
    return !this.full;
  }

  destroy(): void {
    this.#link.close(this);
  }

  /** What came in is taken in one go: nothing to hold back. */
  pause(): void {}

  resume(): void {}
}

export interface LinkPlan {
  readonly delayMeanMs: number;
  /** Nothing gets through until then (true time). */
  readonly stalledUntilMs: () => number;
}

/**
 * A unix socket between a replica and a serving process: bytes in order, in pieces of any size, after a while; and an end
 * when one of the two ends.
 */
export class SimLink {
  readonly client: LinkEnd;
  readonly server: LinkEnd;
  readonly #world: World;
  readonly #random: Random;
  readonly #plan: LinkPlan;
  readonly #carrying = new Set<LinkEnd>();

  constructor(world: World, random: Random, plan: LinkPlan, client: SimProcess, server: SimProcess) {
    this.#world = world;
    this.#random = random;
    this.#plan = plan;
    this.client = new LinkEnd(this, client);
    this.server = new LinkEnd(this, server);
  }

  get isOver(): boolean {
    return this.client.destroyed && this.server.destroyed;
  }

  #other(end: LinkEnd): LinkEnd {
    return end === this.client ? this.server : this.client;
  }

  #delayMs(): number {
    const leftMs = this.#plan.stalledUntilMs() - this.#world.nowMs;
    const stalledMs = Math.min(Math.max(0, leftMs), stallLookMs);
    return stalledMs + 0.02 + this.#random.exponential(this.#plan.delayMeanMs);
  }

  /** Has what `from` wrote arrive, unless it is on its way already. */
  carry(from: LinkEnd): void {
    if (this.#carrying.has(from)) return;
    this.#carrying.add(from);
    const to = this.#other(from);
    to.process.after(this.#delayMs(), 'link', () => {
      this.#carrying.delete(from);
      if (to.destroyed) return;
      // It stalled meanwhile.
      if (this.#plan.stalledUntilMs() > this.#world.nowMs) {
        this.carry(from);
        return;
      }
      this.#arrive(from, to);
    });
  }

  #arrive(from: LinkEnd, to: LinkEnd): void {
    let bytes = Buffer.concat(from.outgoing);
    from.outgoing = [];
    if (bytes.byteLength > 1 && this.#random.chance(splitChance)) {
      const cut = 1 + this.#random.below(bytes.byteLength - 1);
      from.outgoing = [bytes.subarray(cut)];
      bytes = bytes.subarray(0, cut);
      this.carry(from);
    }
    from.outgoingBytes -= bytes.byteLength;
    if (bytes.byteLength > 0) to.emit('data', bytes);
    if (from.full && from.outgoingBytes <= highWaterBytes && !from.destroyed) {
      from.full = false;
      from.process.after(0, 'drain', () => from.emit('drain'));
    }
  }

  /** `end` closes, or its process has ended. What it wrote may get through yet; then the other end sees it. */
  close(end: LinkEnd): void {
    if (end.destroyed) return;
    end.destroyed = true;
    end.process.after(0, 'close', () => end.emit('close'));
    const other = this.#other(end);
    if (this.#random.chance(0.5)) {
      end.outgoing = [];
      end.outgoingBytes = 0;
    }
    // After what is on its way: each has a delay of its own, and this waits for two.
    other.process.after(this.#delayMs() + this.#delayMs(), 'close', () => {
      if (other.destroyed) return;
      other.destroyed = true;
      other.emit('close');
    });
  }

  /** Nobody listens there. */
  refuse(): void {
    const { client } = this;
    client.process.after(0.1, 'refused', () => {
      if (client.destroyed) return;
      client.destroyed = true;
      client.emit('error', new Error('nobody listens'));
      client.emit('close');
    });
  }

  connected(): void {
    const { client } = this;
    client.process.after(0.05, 'connect', () => {
      if (!client.destroyed) client.emit('connect');
    });
  }
}
