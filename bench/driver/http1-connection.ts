import type { Socket } from 'node:net';
import { type Connection, type ConnectionEvents, type Endpoint, open, reopen } from './connection.js';
import { Http1Answers } from './http1-answers.js';

/** One HTTP/1.1 connection that carries one request at a time. */
export class Http1Connection<Sent> implements Connection<Sent> {
  readonly #endpoint: Endpoint;
  readonly #events: ConnectionEvents<Sent>;
  #socket: Socket | null = null;
  #sent: Sent | null = null;
  #closed = false;

  private constructor(endpoint: Endpoint, events: ConnectionEvents<Sent>) {
    this.#endpoint = endpoint;
    this.#events = events;
  }

  /** Rejects when the first attempt to connect fails. */
  static async connect<Sent>(endpoint: Endpoint, events: ConnectionEvents<Sent>): Promise<Connection<Sent>> {
    const connection = new Http1Connection(endpoint, events);
    connection.#use(await open(endpoint, 'http/1.1'));
    return connection;
  }

  send(sent: Sent, wire: Buffer): boolean {
    // Closed while it was free, it was free a second time when it was back: two requests must not share it.
    if (this.#socket === null || this.#sent !== null) return false;
    this.#sent = sent;
    this.#socket.write(wire);
    return true;
  }

  close(): void {
    this.#closed = true;
    this.#socket?.destroy();
  }

  #use(socket: Socket): void {
    const answers = new Http1Answers();
    this.#socket = socket;
    let reason = 'the connection was closed';
    socket.on('data', (chunk: Buffer) => {
      const complete = answers.push(chunk);
      if (typeof complete === 'string') {
        reason = complete;
        socket.destroy();
        return;
      }
      for (const answer of complete) {
        const sent = this.#sent;
        if (sent === null) continue;
        this.#sent = null;
        this.#events.answered(sent, answer.status, answer.body);
        if (answer.keepAlive) this.#events.free(this);
        else socket.destroy();
      }
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      reason = error.code ?? error.message;
    });
    socket.once('close', () => {
      this.#socket = null;
      const sent = this.#sent;
      this.#sent = null;
      if (sent !== null) this.#events.failed(sent, reason);
      this.#reconnect();
    });
    this.#events.free(this);
  }

  #reconnect(): void {
    if (this.#closed) return;
    reopen(
      this.#endpoint,
      'http/1.1',
      () => this.#closed,
      (socket) => this.#use(socket),
    );
  }
}
