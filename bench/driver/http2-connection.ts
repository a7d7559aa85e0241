import type { Socket } from 'node:net';
import { type Connection, type ConnectionEvents, type Endpoint, open, reopen } from './connection.js';
import {
  content,
  type Frame,
  FrameReader,
  flag,
  frame,
  frameHeaderBytes,
  frameType,
  onStream,
  readSettings,
  settingsFrame,
  statusOf,
  windowUpdate,
} from './http2-frames.js';

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
/** RFC 9113 §6.5.2. */
const setting = { headerTableSize: 1, enablePush: 2, concurrentStreamsMax: 3, initialWindowSize: 4 } as const;
const windowInitial = 65_535;
/** What we let the server send on a stream. */
const ownWindow = 1_048_576;
/** Of the connection; given back in pieces of half of it. */
const ownConnectionWindow = 64 * 1_048_576;

interface Stream<Sent> extends Waiting<Sent> {
  status: number;
  body: Buffer | null;
}

/** What waits for the server to open its window. */
interface Waiting<Sent> {
  readonly sent: Sent;
  readonly wire: Buffer;
}

/**
 * One HTTP/2 connection with up to `streams` requests on the way, by frames: Node's own client takes more of a core
 * than a proxy does.
 */
export class Http2Connection<Sent> implements Connection<Sent> {
  readonly #endpoint: Endpoint;
  readonly #events: ConnectionEvents<Sent>;
  readonly #streamsMax: number;
  #socket: Socket | null = null;
  #streams = new Map<number, Stream<Sent>>();
  #waiting: Waiting<Sent>[] = [];
  /** What the server said that it had not looked at when it left (RFC 9113 §6.8): for the next connection. */
  #unseen: Waiting<Sent>[] = [];
  #nextStreamId = 1;
  #sendWindow = windowInitial;
  /** What the server lets us have on the way. */
  #peerStreamsMax = Number.POSITIVE_INFINITY;
  #received = 0;
  #leaving = false;
  #closed = false;

  private constructor(endpoint: Endpoint, streamsMax: number, events: ConnectionEvents<Sent>) {
    this.#endpoint = endpoint;
    this.#streamsMax = streamsMax;
    this.#events = events;
  }

  /** Rejects when the first attempt to connect fails. */
  static async connect<Sent>(
    endpoint: Endpoint,
    streamsMax: number,
    events: ConnectionEvents<Sent>,
  ): Promise<Connection<Sent>> {
    const connection = new Http2Connection(endpoint, streamsMax, events);
    connection.#use(await open(endpoint, 'h2'));
    return connection;
  }

  send(sent: Sent, wire: Buffer): boolean {
    if (this.#socket === null || this.#leaving) return false;
    // Closed while it was free, it was free as often again when it was back.
    if (this.#streams.size + this.#waiting.length >= Math.min(this.#streamsMax, this.#peerStreamsMax))
      return false;
    this.#waiting.push({ sent, wire });
    this.#flush(this.#socket);
    return true;
  }

  close(): void {
    this.#closed = true;
    this.#socket?.destroy();
  }

  #use(socket: Socket): void {
    const reader = new FrameReader();
    this.#socket = socket;
    this.#nextStreamId = 1;
    this.#sendWindow = windowInitial;
    this.#peerStreamsMax = Number.POSITIVE_INFINITY;
    this.#received = 0;
    this.#leaving = false;
    socket.write(
      Buffer.concat([
        preface,
        settingsFrame([
          [setting.headerTableSize, 0],
          [setting.enablePush, 0],
          [setting.initialWindowSize, ownWindow],
        ]),
        windowUpdate(0, ownConnectionWindow - windowInitial),
      ]),
    );
    let reason = 'the connection was closed';
    socket.on('data', (chunk: Buffer) => {
      for (const received of reader.push(chunk)) this.#receive(socket, received);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      reason = error.code ?? error.message;
    });
    socket.once('close', () => {
      this.#socket = null;
      const lost = [...this.#streams.values(), ...this.#waiting];
      this.#streams = new Map();
      this.#waiting = [];
      for (const { sent } of lost) this.#events.failed(sent, reason);
      this.#reconnect();
    });
    this.#waiting = this.#unseen;
    this.#unseen = [];
    const free = this.#streamsMax - this.#waiting.length;
    this.#flush(socket);
    for (let slot = 0; slot < free; slot++) this.#events.free(this);
  }

  #flush(socket: Socket): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const dataBytes = dataBytesOf(next.wire);
      // A body fits the window that a stream begins with: the XKS API has none above 64 KiB.
      if (dataBytes > this.#sendWindow) return;
      this.#sendWindow -= dataBytes;
      this.#waiting.shift();
      const streamId = this.#nextStreamId;
      this.#nextStreamId += 2;
      this.#streams.set(streamId, { ...next, status: 0, body: null });
      socket.write(onStream(next.wire, streamId));
    }
  }

  #receive(socket: Socket, received: Frame): void {
    switch (received.type) {
      case frameType.headers: {
        const stream = this.#streams.get(received.streamId);
        // Trailers have no status.
        if (stream !== undefined && stream.status < 200) stream.status = statusOf(content(received));
        this.#endIfLast(socket, received);
        return;
      }
      case frameType.data: {
        const stream = this.#streams.get(received.streamId);
        const bytes = content(received);
        if (stream !== undefined)
          stream.body = stream.body === null ? bytes : Buffer.concat([stream.body, bytes]);
        this.#received += received.payload.length;
        if (this.#received > ownConnectionWindow / 2) {
          socket.write(windowUpdate(0, this.#received));
          this.#received = 0;
        }
        this.#endIfLast(socket, received);
        return;
      }
      case frameType.settings: {
        if ((received.flags & flag.ack) !== 0) return;
        const settings = readSettings(received.payload);
        if ((settings.get(setting.initialWindowSize) ?? windowInitial) < windowInitial)
          socket.destroy(new Error('the server allows a stream less than 64 KiB'));
        this.#peerStreamsMax = settings.get(setting.concurrentStreamsMax) ?? this.#peerStreamsMax;
        socket.write(frame(frameType.settings, flag.ack, 0, Buffer.alloc(0)));
        return;
      }
      case frameType.ping:
        if ((received.flags & flag.ack) === 0)
          socket.write(frame(frameType.ping, flag.ack, 0, received.payload));
        return;
      case frameType.windowUpdate:
        if (received.streamId !== 0) return;
        this.#sendWindow += received.payload.readUInt32BE() & 0x7fff_ffff;
        this.#flush(socket);
        return;
      case frameType.rstStream: {
        const stream = this.#streams.get(received.streamId);
        if (stream === undefined) return;
        this.#streams.delete(received.streamId);
        this.#events.failed(stream.sent, `RST_STREAM ${received.payload.readUInt32BE()}`);
        this.#freed(socket);
        return;
      }
      case frameType.goaway:
        this.#leave(socket, received.payload.readUInt32BE() & 0x7fff_ffff);
        return;
    }
  }

  #endIfLast(socket: Socket, { streamId, flags }: Frame): void {
    if ((flags & flag.endStream) === 0) return;
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    this.#streams.delete(streamId);
    this.#events.answered(stream.sent, stream.status, stream.body ?? Buffer.alloc(0));
    this.#freed(socket);
  }

  /** Streams up to `lastStreamId` are still answered. */
  #leave(socket: Socket, lastStreamId: number): void {
    this.#leaving = true;
    for (const [streamId, stream] of this.#streams) {
      if (streamId <= lastStreamId) continue;
      this.#streams.delete(streamId);
      this.#unseen.push(stream);
    }
    this.#unseen.push(...this.#waiting.splice(0));
    if (this.#streams.size === 0) socket.destroy();
  }

  #freed(socket: Socket): void {
    if (!this.#leaving) this.#events.free(this);
    else if (this.#streams.size === 0) socket.destroy();
  }

  #reconnect(): void {
    if (this.#closed) return;
    reopen(
      this.#endpoint,
      'h2',
      () => this.#closed,
      (socket) => this.#use(socket),
    );
  }
}

/** Content of the DATA frames: what flow control counts (RFC 9113 §5.2). */
function dataBytesOf(wire: Buffer): number {
  let bytes = 0;
  for (let at = 0; at < wire.length; ) {
    const length = wire.readUIntBE(at, 3);
    if (wire.readUInt8(at + 3) === frameType.data) bytes += length;
    at += frameHeaderBytes + length;
  }
  return bytes;
}
