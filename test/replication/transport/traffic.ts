import type { PeerMessage } from '../../../src/replication/peer-message.js';
import { heartbeat, type PeerEvent, type TestPeer } from './peers.js';

interface Direction {
  readonly name: string;
  readonly send: (commitIndex: number) => void;
  sent: number;
  readonly received: number[];
}

/** Heartbeats that may be under way in one direction. */
const windowMessages = 3;

/** Heartbeats between all members, each numbered; one that arrives is followed by the next. */
export class Traffic {
  readonly #directions = new Map<string, Direction>();
  readonly #unreachable: string[] = [];
  #running = false;
  #arrived: () => void = () => {};

  /** To be told of everything that happens to `member`. */
  heard(member: string, event: PeerEvent): void {
    if (!this.#running && event.kind !== 'message') return;
    if (event.kind === 'unreachable') {
      this.#unreachable.push(`${member} to ${event.member}: ${event.detail}`);
      this.#arrived();
    }
    if (event.kind !== 'message') return;
    const direction = this.#directions.get(`${event.from} to ${member}`);
    if (direction === undefined) return;
    direction.received.push(commitIndexOf(event.message));
    if (this.#running) this.#next(direction);
    this.#arrived();
  }

  start(peers: readonly TestPeer[]): void {
    this.#running = true;
    for (const from of peers) {
      for (const to of peers) {
        if (from === to) continue;
        const name = `${from.memberId} to ${to.memberId}`;
        const send = (commitIndex: number): void =>
          from.transport.send(to.memberId, heartbeat(from, to, commitIndex));
        const direction: Direction = { name, send, sent: 0, received: [] };
        this.#directions.set(name, direction);
        for (let ahead = 0; ahead < windowMessages; ahead++) this.#next(direction);
      }
    }
  }

  /** Until so many more have arrived in every direction, or one may have been lost. */
  async more(messages: number): Promise<void> {
    const goals = [...this.#directions.values()].map((direction) => ({
      direction,
      goal: direction.received.length + messages,
    }));
    await this.#until(() => goals.every(({ direction, goal }) => direction.received.length >= goal));
  }

  /** Waits for what is under way. */
  async stop(): Promise<{ readonly lost: readonly string[]; readonly unreachable: readonly string[] }> {
    this.#running = false;
    const directions = [...this.#directions.values()];
    await this.#until(() => directions.every(({ received, sent }) => received.length >= sent));
    const lost = directions.flatMap(({ name, sent, received }) => {
      const numbers = new Set(received);
      const missing = Array.from({ length: sent }, (_, number) => number + 1).filter((n) => !numbers.has(n));
      return missing.map((number) => `${name}: ${number}`);
    });
    return { lost, unreachable: this.#unreachable };
  }

  #next(direction: Direction): void {
    direction.sent += 1;
    direction.send(direction.sent);
  }

  async #until(done: () => boolean): Promise<void> {
    while (!done() && this.#unreachable.length === 0) {
      await new Promise<void>((resolve) => {
        this.#arrived = resolve;
      });
    }
  }
}

function commitIndexOf(message: PeerMessage): number {
  if (message.kind !== 'raft' || message.message.kind !== 'heartbeat') throw new Error('no heartbeat');
  return message.message.commitIndex;
}
