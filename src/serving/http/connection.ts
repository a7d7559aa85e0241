import type { TLSSocket } from 'node:tls';
import type { Clock } from '../../base/clock.js';
import type { HttpLimits } from './limits.js';

/** So long a connection past its age may wait for a moment without requests in flight. */
const overdueMs = 10_000;

/** One TLS connection, from the end of its handshake to its close, whichever HTTP version it speaks. */
export class Connection {
  readonly socket: TLSSocket;
  readonly remoteAddress: string;
  /** Closes politely: what is in flight finishes, nothing new is taken. Set by whoever speaks HTTP on it. */
  closePolitely: () => void;
  /** Requests the handler is working on, also those whose client has given up. */
  answering = 0;
  /** Requests whose peer has not taken or not allowed the end of them in time: nothing more will come of them. */
  stuck = 0;
  /** Called when a request begins or ends, and when one is authentic, while none was authentic before. */
  onStrangerActive: () => void = () => {};
  readonly #clock: Clock;
  readonly #limits: HttpLimits;
  readonly #retireAtMs: number;
  #authenticated = false;
  #inFlight = 0;
  #requests = 0;
  #lastActiveMs: number;

  /** `random`: 0 ≤ x < 1, spreads the maximum age by ±10% so that connections opened together do not end together. */
  constructor(socket: TLSSocket, limits: HttpLimits, clock: Clock, random: number) {
    this.socket = socket;
    this.remoteAddress = socket.remoteAddress ?? '';
    this.closePolitely = () => socket.destroy();
    this.#limits = limits;
    this.#clock = clock;
    this.#lastActiveMs = clock.monotonicMs();
    this.#retireAtMs = this.#lastActiveMs + limits.connectionAgeMaxMs * (0.9 + 0.2 * random);
  }

  /** A request on it was authentic. */
  get authenticated(): boolean {
    return this.#authenticated;
  }

  /** So long it may be idle: a connection that anybody can open is not kept as one that KMS has opened. */
  get keepAliveMs(): number {
    const { keepAliveMs, strangerKeepAliveMs } = this.#limits;
    return this.#authenticated ? keepAliveMs : Math.min(keepAliveMs, strangerKeepAliveMs);
  }

  /** Requests taken and not yet done with. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Requests taken so far. */
  get requests(): number {
    return this.#requests;
  }

  /** Old enough to be closed after the next answer. */
  get retired(): boolean {
    return this.#clock.monotonicMs() >= this.#retireAtMs;
  }

  /** Too old to wait any longer for a moment without requests in flight. */
  get overdue(): boolean {
    return this.#clock.monotonicMs() >= this.#retireAtMs + overdueMs;
  }

  /** For how long nothing has been in flight. */
  get idleMs(): number {
    return this.#inFlight > 0 ? 0 : this.#clock.monotonicMs() - this.#lastActiveMs;
  }

  /** Of the requests in flight there is none to wait for. */
  get onlyStuck(): boolean {
    return this.stuck > 0 && this.#inFlight <= this.stuck;
  }

  begin(): void {
    this.#inFlight += 1;
    this.#requests += 1;
    if (!this.#authenticated) this.onStrangerActive();
  }

  end(): void {
    this.#inFlight -= 1;
    this.#lastActiveMs = this.#clock.monotonicMs();
    if (!this.#authenticated) this.onStrangerActive();
  }

  /** A request on it was authentic. */
  authenticate(): void {
    if (this.#authenticated) return;
    this.#authenticated = true;
    this.onStrangerActive();
  }
}
