import type { Socket } from 'node:net';

/**
 * TLS handshakes begun in one turn of the event loop. One takes half a millisecond of this thread, so that a turn stays
 * a matter of a few; the rest of hundreds that come at once (another process has ended) waits behind the requests of
 * those who are connected.
 */
export const handshakesPerTurn = 4;

/** Lets TCP connections begin their TLS handshake, a few in each turn of the event loop, in the order in which they came. */
export class HandshakePacer {
  readonly #begin: (socket: Socket) => void;
  readonly #nextTurn: (run: () => void) => void;
  readonly #waiting: Socket[] = [];
  #begunThisTurn = 0;

  /** @param nextTurn `setImmediate`: between two of its calls, what has arrived is read. */
  constructor(begin: (socket: Socket) => void, nextTurn: (run: () => void) => void) {
    this.#begin = begin;
    this.#nextTurn = nextTurn;
  }

  take(socket: Socket): void {
    if (this.#begunThisTurn < handshakesPerTurn) this.#beginOne(socket);
    else this.#waiting.push(socket);
  }

  #beginOne(socket: Socket): void {
    // Closed while it waited, to make room.
    if (socket.destroyed) return;
    this.#begunThisTurn += 1;
    if (this.#begunThisTurn === 1) this.#nextTurn(() => this.#onTurn());
    this.#begin(socket);
  }

  #onTurn(): void {
    this.#begunThisTurn = 0;
    while (this.#begunThisTurn < handshakesPerTurn) {
      const socket = this.#waiting.shift();
      if (socket === undefined) return;
      this.#beginOne(socket);
    }
  }
}
