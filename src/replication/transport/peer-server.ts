import { EventEmitter } from 'node:events';
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerReadableStream,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { errorText, invariant } from '../../base/guards.js';
import type { Result } from '../../base/result.js';
import type { Timers } from '../../base/timers.js';
import type { MemberId } from '../../raft/types.js';
import { type MemberGate, otherClusterRefusal, refusalFor } from '../peer-gate.js';
import type { PeerMessage } from '../peer-message.js';
import { limitControlFrames } from './control-frames.js';
import { decodeEnvelope } from './envelope-codec.js';
import * as wire from './generated/peer.js';
import {
  callJsonBytesMax,
  connectionAgeGraceMs,
  connectionAgeMsMax,
  inboundCallsMax,
  inboundKeepaliveMs,
  inboundStreamsMax,
  messageBytesMax,
} from './limits.js';
import { certificateNames, type PeerTlsFiles } from './peer-credentials.js';
import { type ListenFailure, PeerListener } from './peer-listener.js';
import { peerService } from './peer-service.js';
import { type Refusal, refusalStatus } from './refusal.js';
import type { TransportTally } from './transport-counters.js';

/** What a node that holds a join token asks of a member. */
export interface JoinRequest {
  readonly clusterId: string;
  readonly memberId: MemberId;
  /** As in its certificate. */
  readonly nodeName: string;
  /** Of the join token. */
  readonly secret: string;
  /** `host:port` where it listens for members. */
  readonly advertise: string;
  /** Formats that it reads and writes. */
  readonly formatMin: number;
  readonly formatMax: number;
}

/** Who we are, who may speak to us, and in which formats. */
export interface PeerGate extends MemberGate {
  /** Formats of messages that are read. */
  readonly formatMin: number;
  readonly formatMax: number;
}

export interface PeerServerEvents {
  onMessage(from: MemberId, message: PeerMessage): void;
  /** Its answer is sent as JSON. What it rejects with is told to the asking node. */
  onJoin(request: JoinRequest): Promise<unknown>;
  /** The same, for a question of the member `from`. */
  onCall(from: MemberId, name: string, body: unknown): Promise<unknown>;
}

type Exchange = ServerReadableStream<Buffer, Buffer>;
type Unary = ServerUnaryCall<Buffer, Buffer>;
type Answer = sendUnaryData<Buffer>;

/** The accepting side: one listener, mutual TLS, and the checks that every message and call passes. */
export class PeerServer {
  readonly #gate: PeerGate;
  readonly #events: PeerServerEvents;
  readonly #tally: TransportTally;
  readonly #grpc: Server;
  readonly #listener: PeerListener;
  readonly #stopCounting: () => void;
  readonly #streams = new Set<Exchange>();
  #calls = 0;

  constructor(options: {
    readonly gate: PeerGate;
    readonly events: PeerServerEvents;
    readonly tally: TransportTally;
    readonly files: PeerTlsFiles;
    readonly timers: Timers;
  }) {
    this.#gate = options.gate;
    this.#events = options.events;
    this.#tally = options.tally;
    this.#grpc = new Server({
      'grpc.enable_channelz': 0,
      'grpc.max_concurrent_streams': inboundStreamsMax,
      'grpc.max_receive_message_length': messageBytesMax,
      'grpc.max_send_message_length': messageBytesMax,
      'grpc.keepalive_time_ms': inboundKeepaliveMs,
      'grpc.keepalive_timeout_ms': inboundKeepaliveMs,
      'grpc.max_connection_age_ms': connectionAgeMsMax,
      'grpc.max_connection_age_grace_ms': connectionAgeGraceMs,
    });
    this.#grpc.addService(peerService, {
      exchange: (stream: Exchange, answer: Answer) => this.#exchange(stream, answer),
      join: (call: Unary, answer: Answer) => this.#join(call, answer),
      call: (call: Unary, answer: Answer) => this.#call(call, answer),
    });
    // Gets connections from the listener only, which has done TLS.
    const injector = this.#grpc.createConnectionInjector(ServerCredentials.createInsecure());
    this.#stopCounting = limitControlFrames(http2ServerOf(this.#grpc), options.timers);
    this.#listener = new PeerListener({
      files: options.files,
      timers: options.timers,
      onSecure: (socket) => injector.injectConnection(socket),
    });
  }

  get connections(): number {
    return this.#listener.connections;
  }

  get streams(): number {
    return this.#streams.size;
  }

  /** Resolves to the port. */
  listen(at: { readonly address: string; readonly port: number }): Promise<Result<number, ListenFailure>> {
    return this.#listener.listen(at);
  }

  /** As `PeerListener` does. */
  reload(files: PeerTlsFiles): void {
    this.#listener.reload(files);
  }

  async close(): Promise<void> {
    this.#grpc.forceShutdown();
    this.#stopCounting();
    await this.#listener.close();
  }

  #exchange(stream: Exchange, answer: Answer): void {
    let over = false;
    const end = (): void => {
      over = true;
      this.#streams.delete(stream);
    };
    this.#streams.add(stream);
    const names = shownNames(stream);
    stream.sendMetadata(new Metadata());
    stream.on('data', (bytes: Buffer) => {
      if (over) return;
      const refusal = this.#receive(bytes, names);
      if (refusal === null) return;
      end();
      this.#refuse(refusal, answer);
    });
    stream.on('end', () => {
      if (over) return;
      end();
      answer(null, Buffer.alloc(0));
    });
    stream.on('cancelled', end);
    stream.on('error', end);
  }

  #receive(bytes: Buffer, names: readonly string[]): Refusal | null {
    const decoded = decodeEnvelope(bytes);
    if (!decoded.ok) return { reason: 'malformed', detail: `malformed message: ${decoded.error}` };
    const { format, clusterId, from, to, message } = decoded.value;
    const refusal = refusalFor(this.#gate, { clusterId, from, to, names });
    if (refusal !== null) return refusal;
    const { formatMin, formatMax } = this.#gate;
    if (format < formatMin || format > formatMax) {
      return {
        reason: 'format',
        detail: `format ${format}, and formats ${formatMin} to ${formatMax} are read`,
      };
    }
    if (message === null) {
      this.#tally.ignored += 1;
      return null;
    }
    this.#tally.received[message.kind] += 1;
    this.#events.onMessage(from, message);
    return null;
  }

  #refuse(refusal: Refusal, answer: Answer): void {
    this.#tally.refused[refusal.reason] += 1;
    answer(refusalStatus(refusal));
  }

  #join(call: Unary, answer: Answer): void {
    const request = decoded(wire.JoinRequest, call.request);
    const refusal = request === null ? malformedRequest : this.#checkJoin(request, shownNames(call));
    if (request === null || refusal !== null) this.#refuse(refusal ?? malformedRequest, answer);
    else this.#answer(() => this.#events.onJoin(request), wire.JoinResponse, answer);
  }

  #checkJoin({ clusterId, memberId, nodeName }: JoinRequest, names: readonly string[]): Refusal | null {
    const otherCluster = otherClusterRefusal(this.#gate, { clusterId, from: memberId, names });
    if (otherCluster !== null) return otherCluster;
    if (names.includes(nodeName)) return null;
    return { reason: 'wrong-name', detail: `the certificate shown is not for ${nodeName}` };
  }

  #call(call: Unary, answer: Answer): void {
    const request = decoded(wire.CallRequest, call.request);
    const body = request === null ? null : parsedJson(request.json);
    if (request === null || body === null) {
      this.#refuse(malformedRequest, answer);
      return;
    }
    const { clusterId, from, to, name } = request;
    const refusal = refusalFor(this.#gate, { clusterId, from, to, names: shownNames(call) });
    if (refusal !== null) this.#refuse(refusal, answer);
    else this.#answer(() => this.#events.onCall(from, name, body.value), wire.CallResponse, answer);
  }

  #answer(
    ask: () => Promise<unknown>,
    type: typeof wire.JoinResponse | typeof wire.CallResponse,
    answer: Answer,
  ): void {
    if (this.#calls >= inboundCallsMax) {
      answer({ code: status.RESOURCE_EXHAUSTED, details: `${inboundCallsMax} calls are being answered` });
      return;
    }
    this.#calls += 1;
    const finished = Promise.resolve()
      .then(ask)
      .then((value) => JSON.stringify(value ?? null))
      .then((json) =>
        Buffer.byteLength(json) <= callJsonBytesMax
          ? answer(null, Buffer.from(type.encode({ json }).finish()))
          : answer({ code: status.OUT_OF_RANGE, details: `the answer has ${Buffer.byteLength(json)} bytes` }),
      )
      .catch((thrown: unknown) => answer({ code: status.UNKNOWN, details: errorText(thrown) }));
    void finished.finally(() => {
      this.#calls -= 1;
    });
  }
}

const malformedRequest: Refusal = { reason: 'malformed', detail: 'malformed request' };

/** gRPC keeps to itself what tells of HTTP/2 sessions; a version that keeps it elsewhere must not start unlimited. */
function http2ServerOf(grpc: Server): EventEmitter {
  const servers: unknown = grpc['http2Servers'];
  const [server]: readonly unknown[] = servers instanceof Map ? [...servers.keys()] : [];
  invariant(server instanceof EventEmitter, 'gRPC has an HTTP/2 server for injected connections');
  return server;
}

/** TLS has verified the chain; without a certificate there is no connection. */
function shownNames(call: Exchange | Unary): readonly string[] {
  const certificate = call.getAuthContext().sslPeerCertificate;
  return certificate === undefined ? [] : certificateNames(certificate.raw);
}

function decoded<T>(type: { decode(bytes: Uint8Array): T }, bytes: Buffer): T | null {
  try {
    return type.decode(bytes);
  } catch {
    return null;
  }
}

function parsedJson(json: string): { readonly value: unknown } | null {
  if (Buffer.byteLength(json) > callJsonBytesMax) return null;
  try {
    return { value: JSON.parse(json) };
  } catch {
    return null;
  }
}
