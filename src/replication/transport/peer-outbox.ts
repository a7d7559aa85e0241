import type { PeerMessage } from '../peer-message.js';
import { messageBytesMax, outboundBytesMax, outboundMessagesMax, writingMessagesMax } from './limits.js';
import { type OutboundMessage, OutboundQueue } from './outbound-queue.js';
import type { ExchangeStream } from './peer-channel.js';
import type { TransportTally } from './transport-counters.js';

interface Open {
  readonly stream: ExchangeStream;
  /** Given to the stream, and not yet taken by the connection. */
  readonly writing: Set<OutboundMessage>;
}

/** What waits for one peer, and is written into the stream that there is; what is lost is counted, and told of. */
export class PeerOutbox {
  readonly #tally: TransportTally;
  readonly #onLost: (detail: string) => void;
  readonly #queue = new OutboundQueue(outboundMessagesMax, outboundBytesMax);
  #open: Open | null = null;
  /** Why, for the last of what was lost in this turn. */
  #lost: string | null = null;
  #closed = false;

  /** @param options.onLost never within a call of ours. */
  constructor(options: { readonly tally: TransportTally; readonly onLost: (detail: string) => void }) {
    this.#tally = options.tally;
    this.#onLost = options.onLost;
  }

  get queued(): { readonly messages: number; readonly bytes: number } {
    return { messages: this.#queue.messages, bytes: this.#queue.bytes };
  }

  send(message: { readonly kind: PeerMessage['kind']; readonly bytes: Buffer }): void {
    const { kind, bytes } = message;
    if (bytes.byteLength > messageBytesMax) {
      this.drop([message], `a ${kind} message of ${bytes.byteLength} bytes`);
    } else if (!this.#queue.push(message)) this.drop([message], 'the queue is full');
    else this.#pump();
  }

  /**
   * From now on what waits goes into `stream`; `null`: it goes on to wait. What the stream before was given is its own
   * business, and no longer counts as waiting here.
   */
  writeInto(stream: ExchangeStream | null): void {
    for (const message of this.#open?.writing ?? []) this.#queue.release(message);
    this.#open = stream === null ? null : { stream, writing: new Set() };
    this.#pump();
  }

  /** There is no stream: what waits would be stale by the time there is one. */
  clear(why: string): void {
    this.#open = null;
    this.drop(this.#queue.clear(), why);
  }

  /** Also says that messages are lost when none of `messages` is known. */
  drop(messages: readonly OutboundMessage[], detail: string): void {
    for (const { kind } of messages) this.#tally.dropped[kind] += 1;
    if (this.#lost === null && !this.#closed) {
      queueMicrotask(() => {
        const told = this.#lost;
        this.#lost = null;
        if (told !== null && !this.#closed) this.#onLost(told);
      });
    }
    this.#lost = detail;
  }

  close(): void {
    this.#closed = true;
    this.clear('closed');
  }

  #pump(): void {
    const open = this.#open;
    if (open === null) return;
    while (open.writing.size < writingMessagesMax) {
      const message = this.#queue.shift();
      if (message === undefined) return;
      open.writing.add(message);
      this.#tally.sent[message.kind] += 1;
      open.stream.write(message.bytes, () => {
        open.writing.delete(message);
        if (this.#open !== open) return;
        this.#queue.release(message);
        this.#pump();
      });
    }
  }
}
