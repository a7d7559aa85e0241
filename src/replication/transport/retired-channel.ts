import type { ServiceError } from '@grpc/grpc-js';
import type { Timers } from '../../base/timers.js';
import { drainMsMax } from './limits.js';
import type { ExchangeStream, PeerChannel } from './peer-channel.js';

/**
 * A channel that has a successor. What was written into its stream arrives, what was asked on it is answered, and then it
 * is closed: the stream within `drainMsMax`, calls by their own deadlines.
 */
export class RetiredChannel {
  readonly #channel: PeerChannel;
  readonly #cancelDrain: () => void;
  readonly #onClosed: () => void;
  #streaming = true;
  #calling = true;

  /** @param options.onStreamEnded with an error, messages may be lost. Not called after `close`. */
  constructor(options: {
    readonly channel: PeerChannel;
    readonly stream: ExchangeStream;
    readonly timers: Timers;
    readonly onStreamEnded: (error: ServiceError | null) => void;
    readonly onClosed: () => void;
  }) {
    const { channel, stream } = options;
    this.#channel = channel;
    this.#onClosed = options.onClosed;
    this.#cancelDrain = options.timers.after(drainMsMax, () => stream.cancel());
    stream.handOver((error) => {
      if (!this.#streaming) return;
      this.#streaming = false;
      this.#cancelDrain();
      options.onStreamEnded(error);
      this.#closeWhenDone();
    });
    stream.end();
    channel.retire(() => {
      this.#calling = false;
      this.#closeWhenDone();
    });
  }

  close(): void {
    this.#streaming = false;
    this.#cancelDrain();
    this.#channel.close();
  }

  #closeWhenDone(): void {
    if (this.#streaming || this.#calling) return;
    this.#channel.close();
    this.#onClosed();
  }
}
