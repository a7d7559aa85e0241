import { connectivityState, type ServiceError } from '@grpc/grpc-js';
import { invariant } from '../../base/guards.js';
import type { Timers } from '../../base/timers.js';
import type { PeerMessage } from '../peer-message.js';
import type { TrustedAuthorities } from './certificate-trust.js';
import { connectTimeoutMs, untrustedGraceMs } from './limits.js';
import { LinkRenewal } from './link-renewal.js';
import { connectionProblem, type ExchangeStream, PeerChannel } from './peer-channel.js';
import type { PeerChannelCredentials } from './peer-credentials.js';
import { PeerOutbox } from './peer-outbox.js';
import { type Refusal, refusalOf } from './refusal.js';
import { ReopeningPace } from './reopening-pace.js';
import { RetiredChannels } from './retired-channels.js';
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
  readonly #events: PeerLinkEvents;
  readonly #outbox: PeerOutbox;
  readonly #pace: ReopeningPace;
  readonly #retired: RetiredChannels;
  /** Of channels to come. */
  #credentials: PeerChannelCredentials;
  #channel: PeerChannel;
  #stream: OpenStream | null = null;
  /** Only beside an accepted stream, on a channel with older credentials, which is left when that stream ends. */
  #renewal: LinkRenewal | null = null;
  /** Runs when the peer's certificate on `#channel` is no longer trusted. */
  #cancelCut: (() => void) | null = null;
  #failed = false;
  #closed = false;
  #cancelConnectTimeout: (() => void) | null = null;

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
    this.#events = options.events;
    this.#outbox = new PeerOutbox({
      tally: options.tally,
      onLost: (detail) => this.#events.onUnreachable(detail),
    });
    this.#pace = new ReopeningPace(options.timers);
    this.#retired = new RetiredChannels(options.timers, {
      onFailed: (error) => {
        this.#outbox.drop([], connectionProblem(error.details));
        const refusal = refusalOf(error);
        if (refusal !== null) this.#events.onRefused(refusal);
      },
      onTooMany: () => this.#outbox.drop([], 'certificates are reloaded too often'),
    });
    this.#channel = this.#dial();
  }

  /** Our stream is open, and the peer listens as far as is known: not while it refuses one stream after the other. */
  get connected(): boolean {
    return this.#isAccepted && !this.#pace.refused;
  }

  get #isAccepted(): boolean {
    return this.#stream?.accepted === true;
  }

  /** There was no connection to be had when last tried, and there is none yet. */
  get failed(): boolean {
    return this.#failed;
  }

  get queued(): { readonly messages: number; readonly bytes: number } {
    return this.#outbox.queued;
  }

  /** For a call beside the stream. */
  get channel(): PeerChannel {
    return this.#channel;
  }

  send(kind: PeerMessage['kind'], bytes: Buffer): void {
    const message = { kind, bytes };
    if (this.#closed || this.#failed) this.#outbox.drop([message], 'no connection');
    else this.#outbox.send(message);
  }

  /**
   * Connects anew, with these. An open stream is used until the peer has accepted another; while the peer does not, for as
   * long as it lives, or until `untrustedGraceMs` have gone by if its certificate is none of `authorities`' any more.
   */
  renew(credentials: PeerChannelCredentials, authorities: TrustedAuthorities): void {
    if (this.#closed) return;
    this.#credentials = credentials;
    if (!this.#isAccepted) {
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
    this.#leaveStream();
    this.#outbox.close();
    this.#stopRenewal();
    this.#pace.stop();
    this.#channel.close();
    this.#retired.close();
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
    // From now on bounded by the number of retired channels, and by the time that they have.
    this.#outbox.writeInto(null);
    this.#retired.retire(this.#channel, old.stream);
    this.#leaveTimers();
    const opened: OpenStream = { stream, accepted: true };
    this.#stream = opened;
    stream.handOver((error) => {
      if (this.#stream === opened) this.#ended(error);
    });
    this.#channel = channel;
    this.#watch(channel);
    this.#accepted(opened);
  }

  #follow(state: connectivityState): void {
    switch (state) {
      case connectivityState.READY:
        this.#pace.hurry();
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
    if (this.#closed || this.#isAccepted || this.#cancelConnectTimeout !== null) return;
    this.#cancelConnectTimeout = this.#timers.after(connectTimeoutMs, () => {
      this.#cancelConnectTimeout = null;
      this.#redial(`no connection within ${connectTimeoutMs} ms`);
    });
  }

  #openStream(): void {
    if (this.#closed || this.#stream !== null || this.#pace.waiting) return;
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
    };
    this.#stream = opened;
    this.#awaitAcceptance();
  }

  #accepted(opened: OpenStream): void {
    opened.accepted = true;
    this.#failed = false;
    this.#cancelConnectTimeout?.();
    this.#cancelConnectTimeout = null;
    this.#pace.accepted();
    this.#events.onConnected();
    this.#outbox.writeInto(opened.stream);
  }

  #ended(error: ServiceError | null): void {
    this.#endStream(error === null ? 'the peer ended the stream' : connectionProblem(error.details));
    const refusal = error === null ? null : refusalOf(error);
    this.#pace.ended(refusal !== null);
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
    this.#pace.later(() => {
      const state = this.#channel.state();
      if (state === connectivityState.READY) this.#openStream();
      // gRPC would go on to try, but says no more of it until it succeeds: nobody would see an attempt that hangs.
      else if (state === connectivityState.TRANSIENT_FAILURE) this.#replaceChannel();
    });
  }

  #endStream(why: string): void {
    this.#leaveStream();
    this.#failed = true;
    this.#outbox.clear(why);
  }

  #leaveStream(): void {
    const left = this.#stream;
    this.#stream = null;
    this.#leaveTimers();
    left?.stream.cancel();
  }

  /** Those of the stream. */
  #leaveTimers(): void {
    this.#pace.left();
    this.#cancelConnectTimeout?.();
    this.#cancelConnectTimeout = null;
  }
}
