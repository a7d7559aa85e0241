import { createServer, type Server } from 'node:net';
import type { Result } from '../base/result.js';
import { systemTimers } from '../base/timers.js';
import type { Standing } from '../ops/state-link.js';
import {
  type GreetedLink,
  type Laggard,
  type PublicationObserver,
  ServingLinks,
  type ServingLinksOptions,
} from './serving-links.js';
import { listenOnUnixSocket } from './unix-socket.js';

export type {
  GreetedLink,
  Laggard,
  PublicationObserver,
  PublishedState,
  StateSubscriber,
} from './serving-links.js';

/** Links at once, those that have not said hello included. */
const linksMax = 64;

export interface PublicationOptions extends Omit<ServingLinksOptions, 'timers'> {
  readonly socketPath: string;
}

/** The state socket of this node, and behind it the links to its serving processes. */
export class StatePublication {
  readonly #socketPath: string;
  readonly #server: Server;
  readonly #links: ServingLinks;

  constructor(options: PublicationOptions) {
    this.#socketPath = options.socketPath;
    this.#links = new ServingLinks({ ...options, timers: systemTimers });
    this.#server = createServer((socket) => this.#links.accept(socket));
    this.#server.maxConnections = linksMax;
  }

  listen(): Promise<Result<null, string>> {
    return listenOnUnixSocket(this.#server, this.#socketPath, 0o600);
  }

  observe(observer: PublicationObserver): void {
    this.#links.observe(observer);
  }

  /** As `ServingLinks.links`. */
  links(): readonly GreetedLink[] {
    return this.#links.links();
  }

  /** Ends all links; serving processes go on with the state they have. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#links.close();
    });
  }

  /** As `ServingLinks.standingChanged`. */
  standingChanged(standing: Standing): void {
    this.#links.standingChanged(standing);
  }

  /** As `ServingLinks.fleetChanged`. */
  fleetChanged(): void {
    this.#links.fleetChanged();
  }

  /** As `ServingLinks.acknowledgedBy`. */
  acknowledgedBy(index: number, timeoutMs: number): Promise<readonly Laggard[]> {
    return this.#links.acknowledgedBy(index, timeoutMs);
  }
}
