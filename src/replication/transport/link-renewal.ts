import type { Timers } from '../../base/timers.js';
import { connectTimeoutMs, renewalRetryMs, renewalTroubleMs } from './limits.js';
import { connectionProblem, type ExchangeStream, type PeerChannel } from './peer-channel.js';

export interface LinkRenewalEvents {
  /** Once: both are the receiver's from now on. */
  onAccepted(channel: PeerChannel, stream: ExchangeStream): void;
  /** At most once: it takes long, for the reason given. It goes on. */
  onTrouble(detail: string): void;
}

/** Tries to open a stream on a channel of its own until the peer accepts one, while the old stream goes on. */
export class LinkRenewal {
  readonly #dial: () => PeerChannel;
  readonly #timers: Timers;
  readonly #events: LinkRenewalEvents;
  #channel: PeerChannel | null = null;
  #problem = `no connection within ${connectTimeoutMs} ms`;
  /** The next thing that an attempt, or the pause before one, waits for at most. */
  #cancelTimer: () => void = () => {};
  readonly #cancelTrouble: () => void;

  constructor(options: {
    readonly dial: () => PeerChannel;
    readonly timers: Timers;
    readonly events: LinkRenewalEvents;
  }) {
    this.#dial = options.dial;
    this.#timers = options.timers;
    this.#events = options.events;
    this.#cancelTrouble = this.#timers.after(renewalTroubleMs, () => this.#events.onTrouble(this.#problem));
    this.#attempt();
  }

  cancel(): void {
    this.#channel?.close();
    this.#release();
  }

  #release(): void {
    this.#channel = null;
    this.#cancelTimer();
    this.#cancelTrouble();
  }

  #attempt(): void {
    const channel = this.#dial();
    this.#channel = channel;
    const stream = channel.exchange({
      onAccepted: () => {
        if (this.#channel !== channel) return;
        this.#release();
        this.#events.onAccepted(channel, stream);
      },
      onEnded: (error) => {
        if (this.#channel === channel)
          this.#failed(error === null ? 'the peer ended the stream' : connectionProblem(error.details));
      },
    });
    this.#cancelTimer = this.#timers.after(connectTimeoutMs, () =>
      this.#failed(`no connection within ${connectTimeoutMs} ms`),
    );
  }

  #failed(problem: string): void {
    this.#problem = problem;
    const failed = this.#channel;
    this.#channel = null;
    failed?.close();
    this.#cancelTimer();
    this.#cancelTimer = this.#timers.after(renewalRetryMs, () => this.#attempt());
  }
}
