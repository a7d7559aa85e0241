import { type ChannelOptions, Client, connectivityState, Metadata, type ServiceError } from '@grpc/grpc-js';
import type { ShownChain } from './certificate-trust.js';
import { DialAttempts, dialledAddress } from './dialled-address.js';
import {
  keepaliveMs,
  keepaliveTimeoutMs,
  messageBytesMax,
  reconnectMsMax,
  reconnectMsMin,
} from './limits.js';
import type { PeerChannelCredentials } from './peer-credentials.js';
import { peerService } from './peer-service.js';

const channelOptions: ChannelOptions = {
  // A proxy from the environment is for the world outside.
  'grpc.enable_http_proxy': 0,
  // The name asked for in the TLS handshake. Peers are told apart by what their certificates say; and without this,
  // an IP address would be asked for, which RFC 6066 §3 does not allow.
  'grpc.ssl_target_name_override': 'xksd',
  'grpc.enable_retries': 0,
  'grpc.enable_channelz': 0,
  'grpc.service_config_disable_resolution': 1,
  // Else channels to one address share connections, also those of several transports in one process.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.initial_reconnect_backoff_ms': reconnectMsMin,
  'grpc.max_reconnect_backoff_ms': reconnectMsMax,
  'grpc.keepalive_time_ms': keepaliveMs,
  'grpc.keepalive_timeout_ms': keepaliveTimeoutMs,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.max_receive_message_length': messageBytesMax,
  'grpc.max_send_message_length': messageBytesMax,
};

export interface ExchangeStream {
  /** `taken`: the connection's flow control has let it through, or the stream has ended. */
  write(bytes: Buffer, taken: () => void): void;
  /** No more is written; it ends once the peer has read all. */
  end(): void;
  cancel(): void;
  /** Its end is told here, and no longer to who opened it. */
  handOver(onEnded: ExchangeEvents['onEnded']): void;
}

export interface ExchangeEvents {
  /** The peer has let us in as far as TLS goes; whether it listens shows when it hears who we are. */
  onAccepted(): void;
  /** Once, also after `cancel`. */
  onEnded(error: ServiceError | null): void;
}

/** One gRPC channel to one address, with credentials that stay as they are. */
export class PeerChannel {
  readonly #client: Client;
  readonly #credentials: PeerChannelCredentials;
  readonly #attempts = new DialAttempts();
  #calls = 0;
  #onRetired: (() => void) | null = null;
  #closed = false;

  constructor(address: string, credentials: PeerChannelCredentials) {
    this.#credentials = credentials;
    const dialled = dialledAddress(address, this.#attempts);
    this.#client = new Client(dialled.target, credentials.grpc, { ...channelOptions, ...dialled.options });
  }

  /** Calls `onState` with the state as it is, makes an idle channel connect, and goes on to tell of every change. */
  watch(onState: (state: connectivityState) => void): void {
    if (this.#closed || this.#onRetired !== null) return;
    const channel = this.#client.getChannel();
    const state = channel.getConnectivityState(true);
    channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, () => {
      // gRPC calls in the middle of its own change.
      queueMicrotask(() => this.watch(onState));
    });
    onState(state);
  }

  /** By the peer, in the last handshake. */
  get shown(): ShownChain {
    return this.#credentials.shown;
  }

  state(): connectivityState {
    return this.#closed ? connectivityState.SHUTDOWN : this.#client.getChannel().getConnectivityState(false);
  }

  exchange(events: ExchangeEvents): ExchangeStream {
    const { path, requestSerialize, responseDeserialize } = peerService.exchange;
    let onEnded: ExchangeEvents['onEnded'] = (error) => events.onEnded(error);
    const stream = this.#client.makeClientStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      new Metadata(),
      {},
      (error) => onEnded(error),
    );
    stream.on('metadata', () => events.onAccepted());
    // Writing into a stream that has just ended; its end is told above.
    stream.on('error', () => {});
    return {
      write: (bytes, taken) => void stream.write(bytes, () => taken()),
      end: () => void stream.end(),
      cancel: () => stream.cancel(),
      handOver: (to) => {
        onEnded = to;
      },
    };
  }

  /** Unary. Not on a channel that is retired. */
  request(
    method: 'call' | 'join',
    bytes: Buffer,
    deadlineMs: number,
    onAnswer: (error: ServiceError | null, answer: Buffer | undefined) => void,
  ): void {
    const { path, requestSerialize, responseDeserialize } = peerService[method];
    this.#calls += 1;
    this.#client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      bytes,
      new Metadata(),
      { deadline: Date.now() + deadlineMs },
      (error, answer) => {
        this.#calls -= 1;
        onAnswer(error, answer);
        if (this.#calls === 0) this.#onRetired?.();
      },
    );
  }

  /** It connects no more; `onRetired` is called, perhaps at once, when no call is under way. */
  retire(onRetired: () => void): void {
    this.#onRetired = onRetired;
    if (this.#calls === 0) onRetired();
  }

  /** Ends attempts, connections and calls; those under way end as unavailable. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#client.close();
    this.#attempts.abort();
  }
}

/** What gRPC says of a failed connection, without its own frame. */
export function connectionProblem(details: string): string {
  const problem =
    /^No connection established\. Last error: (.*?)(?: \(\d{4}-[^)]*\))?\. Resolution note: /.exec(details);
  if (problem === null) return details;
  return problem[1] === 'Failed to connect'
    ? 'the peer closed the connection during the handshake; it may not trust our certificate'
    : (problem[1] ?? details);
}
