import {
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  connectivityState,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { dialledAddress } from './dialled-address.js';
import {
  keepaliveMs,
  keepaliveTimeoutMs,
  messageBytesMax,
  reconnectMsMax,
  reconnectMsMin,
} from './limits.js';
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
  cancel(): void;
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
  readonly #abort = new AbortController();
  #closed = false;

  constructor(address: string, credentials: ChannelCredentials) {
    const dialled = dialledAddress(address, this.#abort.signal);
    this.#client = new Client(dialled.target, credentials, { ...channelOptions, ...dialled.options });
  }

  /** Calls `onState` with the state as it is, makes an idle channel connect, and goes on to tell of every change. */
  watch(onState: (state: connectivityState) => void): void {
    if (this.#closed) return;
    const channel = this.#client.getChannel();
    const state = channel.getConnectivityState(true);
    channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, () => {
      // gRPC calls in the middle of its own change.
      queueMicrotask(() => this.watch(onState));
    });
    onState(state);
  }

  state(): connectivityState {
    return this.#closed ? connectivityState.SHUTDOWN : this.#client.getChannel().getConnectivityState(false);
  }

  exchange(events: ExchangeEvents): ExchangeStream {
    const { path, requestSerialize, responseDeserialize } = peerService.exchange;
    const stream = this.#client.makeClientStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      new Metadata(),
      {},
      (error) => events.onEnded(error),
    );
    stream.on('metadata', () => events.onAccepted());
    // Writing into a stream that has just ended; its end is told above.
    stream.on('error', () => {});
    return {
      write: (bytes, taken) => void stream.write(bytes, () => taken()),
      cancel: () => stream.cancel(),
    };
  }

  /** Unary. */
  request(
    method: 'call' | 'join',
    bytes: Buffer,
    deadlineMs: number,
    onAnswer: (error: ServiceError | null, answer: Buffer | undefined) => void,
  ): void {
    const { path, requestSerialize, responseDeserialize } = peerService[method];
    this.#client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      bytes,
      new Metadata(),
      { deadline: Date.now() + deadlineMs },
      onAnswer,
    );
  }

  /** Ends attempts, connections and calls; those under way end as unavailable. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#client.close();
    this.#abort.abort();
  }
}
