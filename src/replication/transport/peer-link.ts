import { type ChannelCredentials, connectivityState, type ServiceError } from '@grpc/grpc-js';
import type { Timers } from '../../base/timers.js';
import type { PeerMessage } from '../peer-message.js';
import {
  connectionsPerChannelMax,
  connectTimeoutMs,
  messageBytesMax,
  outboundBytesMax,
  outboundMessagesMax,
  reconnectMsMax,
  reconnectMsMin,
  writingMessagesMax,
} from './limits.js';
import { type OutboundMessage, OutboundQueue } from './outbound-queue.js';
import { type ExchangeStream, PeerChannel } from './peer-channel.js';
import { type Refusal, refusalOf } from './refusal.js';
import type { TransportTally } from './transport-counters.js';

export interface PeerLinkEvents {
  /** Messages are being lost. Never within a call of `send`. */
  onUnreachable(detail: string): void;
  onRefused(refusal: Refusal): void;
  onConnected(): void;
}

/**
 * What goes to one peer: a channel, the stream on it, and the queue before it. A channel that can't connect in time is
 * given up for a new one; a stream that ends is opened again, at most once a second while it is refused. Messages wait
 * while the first connection is made, and are dropped while there is none to be had: they would be stale.
 */
export class PeerLink {
  readonly address: string;
  readonly #timers: Timers;
  readonly #tally: TransportTally;
  readonly #events: PeerLinkEvents;
  readonly #queue = new OutboundQueue(outboundMessagesMax, outboundBytesMax);
  #credentials: ChannelCredentials;
  #channel: PeerChannel;
  /** That `#channel` has made, or failed to. */
  #connections = 0;
  #stream: { readonly stream: ExchangeStream; accepted: boolean; writing: number } | null = null;
  #failed = false;
  #closed = false;
  #reopenMs = reconnectMsMin;
  #cancelReopen: (() => void) | null = null;
  /** The last stream ended because the peer refused us: a new connection is no reason to ask again at once. */
  #refused = false;
  #cancelConnectTimeout: (() => void) | null = null;
  /** Runs once a stream has lived long enough that its end is no refusal of us. */
  #cancelSettled: (() => void) | null = null;
  #unreachable: string | null = null;

  constructor(options: {
    readonly address: string;
    readonly credentials: ChannelCredentials;
    readonly timers: Timers;
    readonly tally: TransportTally;
    readonly events: PeerLinkEvents;
  }) {
    this.address = options.address;
    this.#credentials = options.credentials;
    this.#timers = options.timers;
    this.#tally = options.tally;
    this.#events = options.events;
    this.#channel = this.#dial();
  }

  get connected(): boolean {
    return this.#stream?.accepted === true;
  }

  /** There was no connection to be had when last tried, and there is none yet. */
  get failed(): boolean {
    return this.#failed;
  }

  get queued(): { readonly messages: number; readonly bytes: number } {
    return { messages: this.#queue.messages, bytes: this.#queue.bytes };
  }

  /** For a call beside the stream. */
  get channel(): PeerChannel {
    return this.#channel;
  }

  send(kind: PeerMessage['kind'], bytes: Buffer): void {
    const message = { kind, bytes };
    if (this.#closed || this.#failed) this.#drop([message], 'no connection');
    else if (bytes.byteLength > messageBytesMax)
      this.#drop([message], `a ${kind} message of ${bytes.byteLength} bytes`);
    else if (!this.#queue.push(message)) this.#drop([message], 'the queue is full');
    else this.#pump();
  }

  /** Connects anew, with these. */
  reconnect(credentials: ChannelCredentials): void {
    this.#credentials = credentials;
    this.#redial('new credentials');
  }

  close(): void {
    this.#closed = true;
    this.#endStream('closed');
    this.#cancelReopen?.();
    this.#channel.close();
  }

  #dial(): PeerChannel {
    const channel = new PeerChannel(this.address, this.#credentials);
    this.#connections = 0;
    channel.watch((state) => {
      if (channel === this.#channel) this.#follow(state);
    });
    this.#awaitAcceptance();
    return channel;
  }

  #redial(why: string): void {
    if (this.#closed) return;
    this.#endStream(why);
    this.#channel.close();
    this.#channel = this.#dial();
  }

  #follow(state: connectivityState): void {
    switch (state) {
      case connectivityState.READY:
        this.#connections += 1;
        if (!this.#refused) {
          this.#cancelReopen?.();
          this.#cancelReopen = null;
        }
        this.#openStream();
        return;
      case connectivityState.TRANSIENT_FAILURE:
        this.#connections += 1;
        // Fails at once and says why.
        this.#openStream();
        if (this.#connections >= connectionsPerChannelMax) this.#redial('no connection');
        return;
      default:
        this.#awaitAcceptance();
    }
  }

  /** Gives the channel up unless a stream is accepted, or fails, in time. */
  #awaitAcceptance(): void {
    if (this.#closed || this.connected || this.#cancelConnectTimeout !== null) return;
    this.#cancelConnectTimeout = this.#timers.after(connectTimeoutMs, () => {
      this.#cancelConnectTimeout = null;
      this.#redial(`no connection within ${connectTimeoutMs} ms`);
    });
  }

  #openStream(): void {
    if (this.#closed || this.#stream !== null || this.#cancelReopen !== null) return;
    const opened: { stream: ExchangeStream; accepted: boolean; writing: number } = {
      stream: this.#channel.exchange({
        onAccepted: () => {
          if (this.#stream === opened) this.#accepted(opened);
        },
        onEnded: (error) => {
          if (this.#stream === opened) this.#ended(error);
        },
      }),
      accepted: false,
      writing: 0,
    };
    this.#stream = opened;
    this.#awaitAcceptance();
  }

  #accepted(opened: { accepted: boolean }): void {
    opened.accepted = true;
    this.#failed = false;
    this.#cancelConnectTimeout?.();
    this.#cancelConnectTimeout = null;
    this.#cancelSettled = this.#timers.after(reconnectMsMax, () => {
      this.#cancelSettled = null;
      this.#reopenMs = reconnectMsMin;
    });
    this.#events.onConnected();
    this.#pump();
  }

  #ended(error: ServiceError | null): void {
    this.#endStream(error === null ? 'the peer ended the stream' : connectionProblem(error.details));
    const refusal = error === null ? null : refusalOf(error);
    this.#refused = refusal !== null;
    if (refusal !== null) this.#events.onRefused(refusal);
    if (this.#closed) return;
    const state = this.#channel.state();
    if (state === connectivityState.IDLE || state === connectivityState.CONNECTING) this.#awaitAcceptance();
    // Else a stream is opened when the channel is connected again.
    if (state !== connectivityState.READY) return;
    this.#cancelReopen = this.#timers.after(this.#reopenMs, () => {
      this.#cancelReopen = null;
      if (this.#channel.state() === connectivityState.READY) this.#openStream();
    });
    this.#reopenMs = Math.min(this.#reopenMs * 2, reconnectMsMax);
  }

  #endStream(why: string): void {
    const ended = this.#stream;
    this.#stream = null;
    for (const cancel of [this.#cancelSettled, this.#cancelConnectTimeout]) cancel?.();
    this.#cancelSettled = null;
    this.#cancelConnectTimeout = null;
    ended?.stream.cancel();
    this.#failed = true;
    this.#drop(this.#queue.clear(), why);
  }

  #pump(): void {
    const open = this.#stream;
    if (open === null || !open.accepted) return;
    while (open.writing < writingMessagesMax) {
      const message = this.#queue.shift();
      if (message === undefined) return;
      open.writing += 1;
      this.#tally.sent[message.kind] += 1;
      open.stream.write(message.bytes, () => {
        open.writing -= 1;
        if (this.#stream !== open) return;
        this.#queue.release(message);
        this.#pump();
      });
    }
  }

  #drop(messages: readonly OutboundMessage[], detail: string): void {
    for (const { kind } of messages) this.#tally.dropped[kind] += 1;
    if (this.#unreachable === null && !this.#closed) {
      queueMicrotask(() => {
        const told = this.#unreachable;
        this.#unreachable = null;
        if (told !== null && !this.#closed) this.#events.onUnreachable(told);
      });
    }
    this.#unreachable = detail;
  }
}

/** What gRPC says of a failed connection, without its own frame. */
function connectionProblem(details: string): string {
  const problem =
    /^No connection established\. Last error: (.*?)(?: \(\d{4}-[^)]*\))?\. Resolution note: /.exec(details);
  if (problem === null) return details;
  return problem[1] === 'Failed to connect'
    ? 'the peer closed the connection during the handshake; it may not trust our certificate'
    : (problem[1] ?? details);
}
