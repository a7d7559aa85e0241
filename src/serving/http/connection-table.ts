import type { Socket } from 'node:net';
import type { Connection } from './connection.js';

/**
 * Every open connection of the listener, from TCP's accept on. Strangers are those on which no request has been
 * authentic so far: anyone can open them, so when the table is full the one that nothing was heard of for longest makes
 * room for the newcomer. Only a table full of the authentic turns a newcomer away.
 */
export class ConnectionTable {
  readonly #connectionsMax: number;
  readonly #onClosedForRoom: (remoteAddress: string) => void;
  readonly #onClosed: () => void;
  /** TCP connections whose handshake is not done, by both ends: TLS hands out another object for the same connection. */
  readonly #handshaking = new Map<string, Socket>();
  readonly #connections = new Set<Connection>();
  /** In the order in which they were last heard of. */
  readonly #strangers = new Set<Socket>();

  /** `onClosed`: after each that has gone. */
  constructor(
    connectionsMax: number,
    onClosedForRoom: (remoteAddress: string) => void,
    onClosed: () => void,
  ) {
    this.#connectionsMax = connectionsMax;
    this.#onClosedForRoom = onClosedForRoom;
    this.#onClosed = onClosed;
  }

  /** Those whose handshake is done. */
  get connections(): ReadonlySet<Connection> {
    return this.#connections;
  }

  /** Those whose handshake is not done as well. */
  get size(): number {
    return this.#handshaking.size + this.#connections.size;
  }

  /** TCP has accepted `socket`. */
  accepted(socket: Socket): void {
    const ends = endsOf(socket);
    this.#handshaking.set(ends, socket);
    this.#strangers.add(socket);
    socket.once('close', () => {
      this.#strangers.delete(socket);
      if (this.#handshaking.get(ends) !== socket) return;
      this.#handshaking.delete(ends);
      this.#onClosed();
    });
    this.#makeRoom();
  }

  /** The handshake is done. */
  secured(connection: Connection): void {
    const { socket } = connection;
    const ends = endsOf(socket);
    const handshaken = this.#handshaking.get(ends);
    if (handshaken !== undefined) {
      this.#handshaking.delete(ends);
      this.#strangers.delete(handshaken);
    }
    this.#connections.add(connection);
    this.#strangers.add(socket);
    connection.onStrangerActive = () => {
      this.#strangers.delete(socket);
      if (!connection.authenticated) this.#strangers.add(socket);
    };
    socket.once('close', () => {
      connection.onStrangerActive = () => {};
      this.#strangers.delete(socket);
      this.#connections.delete(connection);
      this.#onClosed();
    });
  }

  /** Those whose handshake is not done as well. */
  destroyAll(): void {
    for (const socket of this.#handshaking.values()) socket.destroy();
    for (const { socket } of this.#connections) socket.destroy();
  }

  #makeRoom(): void {
    if (this.size <= this.#connectionsMax) return;
    for (const stranger of this.#strangers) {
      this.#strangers.delete(stranger);
      this.#onClosedForRoom(stranger.remoteAddress ?? '');
      stranger.destroy();
      return;
    }
  }
}

const endsOf = (socket: Socket): string =>
  `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress}`;
