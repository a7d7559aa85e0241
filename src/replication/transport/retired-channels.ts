import type { ServiceError } from '@grpc/grpc-js';
import type { Timers } from '../../base/timers.js';
import { retiredChannelsMax } from './limits.js';
import type { ExchangeStream, PeerChannel } from './peer-channel.js';
import { RetiredChannel } from './retired-channel.js';

export interface RetiredChannelsEvents {
  /** What was written into its stream may be lost. */
  onFailed(error: ServiceError): void;
  /** One is closed before its time, to make room. */
  onTooMany(): void;
}

/** Those of one peer that have a successor: few at a time. */
export class RetiredChannels {
  readonly #timers: Timers;
  readonly #events: RetiredChannelsEvents;
  /** Oldest first. */
  readonly #channels = new Set<RetiredChannel>();
  #closed = false;

  constructor(timers: Timers, events: RetiredChannelsEvents) {
    this.#timers = timers;
    this.#events = events;
  }

  retire(channel: PeerChannel, stream: ExchangeStream): void {
    for (const oldest of this.#channels) {
      if (this.#channels.size < retiredChannelsMax) break;
      this.#channels.delete(oldest);
      oldest.close();
      this.#events.onTooMany();
    }
    const retired: RetiredChannel = new RetiredChannel({
      channel,
      stream,
      timers: this.#timers,
      onStreamEnded: (error) => {
        if (error !== null && !this.#closed) this.#events.onFailed(error);
      },
      onClosed: () => this.#channels.delete(retired),
    });
    this.#channels.add(retired);
  }

  close(): void {
    this.#closed = true;
    for (const channel of this.#channels) channel.close();
    this.#channels.clear();
  }
}
