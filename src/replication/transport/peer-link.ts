import { connectivityState, type ServiceError } from '@grpc/grpc-js';
import { invariant } from '../../base/guards.js';
import type { Timers } from '../../base/timers.js';
import type { PeerMessage } from '../peer-message.js';
import type { TrustedAuthorities } from './certificate-trust.js';
import {
  connectTimeoutMs,
  messageBytesMax,
  outboundBytesMax,
  outboundMessagesMax,
  reconnectMsMax,
  reconnectMsMin,
  retiredChannelsMax,
  untrustedGraceMs,
  writingMessagesMax,
} from './limits.js';
import { LinkRenewal } from './link-renewal.js';
import { type OutboundMessage, OutboundQueue } from './outbound-queue.js';
import { connectionProblem, type ExchangeStream, PeerChannel } from './peer-channel.js';
import type { PeerChannelCredentials } from './peer-credentials.js';
import { type Refusal, refusalOf } from './refusal.js';
import { RetiredChannel } from './retired-channel.js';
import type { TransportTally } from './transport-counters.js';

export interface PeerLinkEvents {
  /** Messages are being lost. Never within a call of `send`. */
  onUnreachable(detail: string): void;
  onRefused(refusal: Refusal): void;
  /** Also after `renew`, with the new credentials. */
  onConnected(): void;
  /** Once after `renew`: for the reason given the old connection is still used. */
  onRenewalTrouble(detail: string): void;
}

interface OpenStream {
  readonly stream: ExchangeStream;
  accepted: boolean;
  /** Given to the stream, and not yet taken by the connection. */
  readonly writing: Set<OutboundMessage>;
}

/**
 * What goes to one peer: a channel, the stream on it, and the queue before it. A channel that can't connect in time is
 * given up for a new one; a stream that ends is opened again, at most once a second while it is refused. Messages wait
 * while the first connection is made, and are dropped while there is none to be had: they would be stale. With new
 * credentials, a second channel is connected before the first is left.
 */
export class PeerLink {
  readonly address: string;
  readonly #timers: Timers;
  readonly #tally: TransportTally;
  readonly #events: PeerLinkEvents;
  readonly #queue = new OutboundQueue(outboundMessagesMax, outboundBytesMax);
  /** Of channels to come. */
  #credentials: PeerChannelCredentials;
  #channel: PeerChannel;
  #stream: OpenStream | null = null;
  /** Only beside an accepted stream whose channel has older credentials: that one never connects again. */
  #renewal: LinkRenewal | null = null;
  /** Runs when the peer's certificate on `#channel` is no longer trusted. */
  #cancelCut: (() => void) | null = null;
  /** Oldest first. */
  readonly #retired = new Set<RetiredChannel>();
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
    readonly credentials: PeerChannelCredentials;
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

  /**
   * Connects anew, with these. An open stream is used until the peer has accepted another; while the peer does not, for as
   * long as it lives, or until `untrustedGraceMs` have gone by if its certificate is none of `authorities`' any more.
   */
  renew(credentials: PeerChannelCredentials, authorities: TrustedAuthorities): void {
    if (this.#closed) return;
    this.#credentials = credentials;
    if (!this.connected) {
      this.#leaveStream();
      this.#replaceChannel();
      return;
    }
    this.#renewal?.cancel();
    this.#renewal = new LinkRenewal({
      dial: () => new PeerChannel(this.address, credentials),
      timers: this.#timers,
      events: {
        onAccepted: (channel, stream) => this.#swap(channel, stream),
        onTrouble: (detail) => this.#events.onRenewalTrouble(detail),
      },
    });
    if (authorities.trust(this.#channel.shown)) {
      this.#cancelCut?.();
      this.#cancelCut = null;
    } else {
      this.#cancelCut ??= this.#timers.after(untrustedGraceMs, () =>
        this.#redial("the peer's certificate is no longer trusted"),
      );
    }
  }

  close(): void {
    this.#closed = true;
    this.#endStream('closed');
    this.#stopRenewal();
    this.#cancelReopen?.();
    this.#channel.close();
    for (const retired of this.#retired) retired.close();
    this.#retired.clear();
  }

  #dial(): PeerChannel {
    const channel = new PeerChannel(this.address, this.#credentials);
    this.#watch(channel);
    this.#awaitAcceptance();
    return channel;
  }

  #watch(channel: PeerChannel): void {
    channel.watch((state) => {
      if (channel === this.#channel) this.#follow(state);
    });
  }

  #redial(why: string): void {
    if (this.#closed) return;
    this.#endStream(why);
    this.#replaceChannel();
  }

  #replaceChannel(): void {
    this.#stopRenewal();
    this.#channel.close();
    this.#channel = this.#dial();
  }

  #stopRenewal(): void {
    this.#renewal?.cancel();
    this.#renewal = null;
    this.#cancelCut?.();
    this.#cancelCut = null;
  }

  /** What the old stream was given arrives on it, perhaps after what the new one is given next. */
  #swap(channel: PeerChannel, stream: ExchangeStream): void {
    const old = this.#stream;
    invariant(old !== null, 'a renewal ends with the stream it renews');
    this.#stopRenewal();
    this.#retire(this.#channel, old);
    this.#leaveTimers();
    const opened: OpenStream = { stream, accepted: true, writing: new Set() };
    this.#stream = opened;
    stream.handOver((error) => {
      if (this.#stream === opened) this.#ended(error);
    });
    this.#channel = channel;
    this.#watch(channel);
    this.#accepted(opened);
  }

  #retire(channel: PeerChannel, { stream, writing }: OpenStream): void {
    // From now on bounded by the number of retired channels, and by `drainMsMax`.
    for (const message of writing) this.#queue.release(message);
    for (const oldest of this.#retired) {
      if (this.#retired.size < retiredChannelsMax) break;
      this.#retired.delete(oldest);
      oldest.close();
      this.#drop([], 'certificates are reloaded too often');
    }
    const retired: RetiredChannel = new RetiredChannel({
      channel,
      stream,
      timers: this.#timers,
      onStreamEnded: (error) => {
        if (error === null || this.#closed) return;
        this.#drop([], connectionProblem(error.details));
        const refusal = refusalOf(error);
        if (refusal !== null) this.#events.onRefused(refusal);
      },
      onClosed: () => this.#retired.delete(retired),
    });
    this.#retired.add(retired);
  }

  #follow(state: connectivityState): void {
    if (this.#renewal !== null && state !== connectivityState.READY) {
      this.#redial('the connection ended');
      return;
    }
    switch (state) {
      case connectivityState.READY:
        if (!this.#refused) {
          this.#cancelReopen?.();
          this.#cancelReopen = null;
        }
        this.#openStream();
        return;
      case connectivityState.TRANSIENT_FAILURE:
        // Fails at once and says why.
        this.#openStream();
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
    const opened: OpenStream = {
      stream: this.#channel.exchange({
        onAccepted: () => {
          if (this.#stream === opened) this.#accepted(opened);
        },
        onEnded: (error) => {
          if (this.#stream === opened) this.#ended(error);
        },
      }),
      accepted: false,
      writing: new Set(),
    };
    this.#stream = opened;
    this.#awaitAcceptance();
  }

  #accepted(opened: OpenStream): void {
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
    if (this.#renewal !== null) {
      this.#replaceChannel();
      if (refusal !== null) this.#retryLater();
      return;
    }
    const state = this.#channel.state();
    if (state === connectivityState.IDLE || state === connectivityState.CONNECTING) this.#awaitAcceptance();
    else this.#retryLater();
  }

  #retryLater(): void {
    this.#cancelReopen?.();
    this.#cancelReopen = this.#timers.after(this.#reopenMs, () => {
      this.#cancelReopen = null;
      const state = this.#channel.state();
      if (state === connectivityState.READY) this.#openStream();
      // gRPC would go on to try, but says no more of it until it succeeds: nobody would see an attempt that hangs.
      else if (state === connectivityState.TRANSIENT_FAILURE) this.#replaceChannel();
    });
    this.#reopenMs = Math.min(this.#reopenMs * 2, reconnectMsMax);
  }

  #endStream(why: string): void {
    this.#leaveStream();
    this.#failed = true;
    this.#drop(this.#queue.clear(), why);
  }

  #leaveStream(): void {
    const left = this.#stream;
    this.#stream = null;
    this.#leaveTimers();
    left?.stream.cancel();
  }

  /** Those of the stream. */
  #leaveTimers(): void {
    for (const cancel of [this.#cancelSettled, this.#cancelConnectTimeout]) cancel?.();
    this.#cancelSettled = null;
    this.#cancelConnectTimeout = null;
  }

  #pump(): void {
    const open = this.#stream;
    if (open === null || !open.accepted) return;
    while (open.writing.size < writingMessagesMax) {
      const message = this.#queue.shift();
      if (message === undefined) return;
      open.writing.add(message);
      this.#tally.sent[message.kind] += 1;
      open.stream.write(message.bytes, () => {
        open.writing.delete(message);
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
