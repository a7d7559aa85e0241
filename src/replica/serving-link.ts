import { invariant } from '../base/guards.js';
import type { Timers } from '../base/timers.js';
import { encodeFrameHeader, encodeIndexFrame, FrameDecoder, readIndexPayload } from '../ops/frames.js';
import type { LinkConnection } from '../ops/link-connection.js';
import {
  type Frame,
  FrameType,
  type Hello,
  type HsmReply,
  type IvWants,
  type MetricsReport,
} from '../ops/state-link.js';
import { parseHello, parseHsmReply, parseIvWants, parseMetricsReport } from './link-payloads.js';

/** What may wait behind a slow reader, its snapshot aside. Beyond it the link is cut and starts anew. */
const linkBufferBytesMax = 16 * 1024 * 1024;
/**
 * A snapshot goes out in pieces of so many bytes, or one record: the event loop turns between two, however fast the peer
 * reads, and one write for hundreds of records costs less than one for each.
 */
export const snapshotPieceBytes = 64 * 1024;
/** A peer that has not said who it is by then is not one of ours. */
const helloTimeoutMs = 5_000;
/** `queue` is compacted when so many of its frames are gone. */
const queueCompactAt = 1_024;

export interface ServingLinkEvents {
  /** Why a peer with this hello is to be cut; `null` when it is one of ours. */
  refusal(hello: Hello): string | null;
  /** First frame. The receiver answers with `startSnapshot` in the same turn. */
  onHello(link: ServingLink, hello: Hello): void;
  onApplied(link: ServingLink): void;
  onMetrics(link: ServingLink, report: MetricsReport): void;
  onHsmReply(link: ServingLink, reply: HsmReply): void;
  onIvWants(link: ServingLink, wants: IvWants): void;
  /** Once, also for a peer that never said hello. `reason` is `null` when the peer just went away. */
  onClosed(link: ServingLink, reason: string | null): void;
}

/** One serving process as seen from the replica: what was sent to it, what it acknowledged, what it last reported. */
export class ServingLink {
  /** `null` until the peer has said who it is. */
  hello: Hello | null = null;
  /** The last index that the process says it applied. */
  appliedIndex = 0;
  /** The last report; `null` before the first. */
  report: MetricsReport | null = null;

  readonly #socket: LinkConnection;
  readonly #events: ServingLinkEvents;
  readonly #timers: Timers;
  readonly #bufferBytesMax: number;
  readonly #decoder = new FrameDecoder();
  /** The rest of the snapshot, in pieces; goes out before `#queue`. */
  #snapshot: Iterator<Buffer> | null = null;
  /** A piece of it went out in this turn. */
  #resting = false;
  #queue: Buffer[] = [];
  #queueHead = 0;
  #queueBytes = 0;
  #blocked = false;
  #sentIndex = 0;
  #cutReason: string | null = null;

  /** Called once the peer has said hello, or is gone. */
  readonly #stopWaiting: () => void;

  constructor(
    socket: LinkConnection,
    events: ServingLinkEvents,
    timers: Timers,
    bufferBytesMax: number = linkBufferBytesMax,
  ) {
    this.#socket = socket;
    this.#events = events;
    this.#timers = timers;
    this.#bufferBytesMax = bufferBytesMax;
    this.#stopWaiting = timers.after(helloTimeoutMs, () => this.cut('said no hello'));
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('drain', () => {
      this.#blocked = false;
      this.#pump();
    });
    // An 'error' is always followed by 'close'.
    socket.on('error', (error) => {
      this.#cutReason ??= error.message;
    });
    socket.on('close', () => {
      this.#stopWaiting();
      this.#snapshot = null;
      this.#queue = [];
      events.onClosed(this, this.#cutReason);
    });
  }

  /** The state as of `index` goes out first; entries enqueued from now on follow it. */
  startSnapshot(index: number, records: Iterable<Uint8Array>): void {
    this.#snapshot = snapshotPieces(index, records);
    this.#sentIndex = index;
    this.#pump();
  }

  /** @param frame an encoded entry; the same bytes may be enqueued at many links. */
  enqueueEntry(index: number, frame: Buffer): void {
    invariant(index === this.#sentIndex + 1, `entry ${index} after ${this.#sentIndex}`);
    this.#sentIndex = index;
    this.enqueue(frame);
  }

  enqueue(frame: Buffer): void {
    if (this.#socket.destroyed) return;
    if (this.#queueBytes + frame.byteLength > this.#bufferBytesMax) {
      this.cut(`took nothing while ${this.#queueBytes} bytes waited for it`);
      return;
    }
    this.#queue.push(frame);
    this.#queueBytes += frame.byteLength;
    this.#pump();
  }

  /** Ends the link. A process that lives connects again and gets a snapshot. */
  cut(reason: string): void {
    this.#cutReason ??= reason;
    this.#socket.destroy();
  }

  #pump(): void {
    while (!this.#blocked && !this.#resting && !this.#socket.destroyed) {
      const bytes = this.#nextPiece() ?? this.#nextFrame();
      if (bytes === null) return;
      this.#blocked = !this.#socket.write(bytes);
    }
  }

  #nextPiece(): Buffer | null {
    const next = this.#snapshot?.next();
    if (next === undefined || next.done === true) {
      this.#snapshot = null;
      return null;
    }
    this.#resting = true;
    this.#timers.after(0, () => {
      this.#resting = false;
      this.#pump();
    });
    return next.value;
  }

  #nextFrame(): Buffer | null {
    const frame = this.#queue[this.#queueHead];
    if (frame === undefined) return null;
    this.#queueHead += 1;
    this.#queueBytes -= frame.byteLength;
    if (this.#queueHead >= queueCompactAt || this.#queueHead === this.#queue.length) {
      this.#queue = this.#queue.slice(this.#queueHead);
      this.#queueHead = 0;
    }
    return frame;
  }

  #receive(chunk: Buffer): void {
    const frames = this.#decoder.push(chunk);
    if (!frames.ok) {
      this.cut(frames.error.message);
      return;
    }
    for (const frame of frames.value) {
      if (this.#socket.destroyed) return;
      const failure = this.#handle(frame);
      if (failure !== null) this.cut(failure);
    }
  }

  #handle(frame: Frame): string | null {
    if (this.hello === null)
      return frame.type === FrameType.hello ? this.#greet(frame) : 'hello does not come first';
    switch (frame.type) {
      case FrameType.applied: {
        const applied = readIndexPayload(frame.payload);
        if (applied === null) return 'malformed acknowledgement';
        if (applied.index < this.appliedIndex || applied.index > this.#sentIndex) {
          return `acknowledged index ${applied.index}, sent ${this.#sentIndex}, acknowledged before ${this.appliedIndex}`;
        }
        this.appliedIndex = applied.index;
        this.#events.onApplied(this);
        return null;
      }
      case FrameType.metrics: {
        const report = parseMetricsReport(frame.payload);
        if (!report.ok) return report.error;
        this.report = report.value;
        this.#events.onMetrics(this, report.value);
        return null;
      }
      case FrameType.ivWants: {
        const wants = parseIvWants(frame.payload);
        if (!wants.ok) return wants.error;
        const { appliedIndex, reservations } = wants.value;
        if (appliedIndex > this.#sentIndex)
          return `wants IVs as of index ${appliedIndex}, sent ${this.#sentIndex}`;
        const objects = new Set(reservations.map(({ objectId }) => objectId));
        if (objects.size < reservations.length) return 'wants IVs of an object twice';
        this.#events.onIvWants(this, wants.value);
        return null;
      }
      case FrameType.hsmReply: {
        const reply = parseHsmReply(frame.payload);
        if (!reply.ok) return reply.error;
        this.#events.onHsmReply(this, reply.value);
        return null;
      }
      default:
        return `frame type ${frame.type} does not go this way`;
    }
  }

  #greet(frame: Frame): string | null {
    const hello = parseHello(frame.payload);
    if (!hello.ok) return hello.error;
    const refusal = this.#events.refusal(hello.value);
    if (refusal !== null) return refusal;
    this.#stopWaiting();
    this.hello = hello.value;
    this.#events.onHello(this, hello.value);
    return null;
  }
}

function* snapshotPieces(index: number, records: Iterable<Uint8Array>): Generator<Buffer> {
  const begin = encodeIndexFrame(FrameType.snapshotBegin, index);
  let parts: Uint8Array[] = [begin];
  let bytes = begin.byteLength;
  for (const record of records) {
    const header = encodeFrameHeader(FrameType.snapshotRecord, record.byteLength);
    parts.push(header, record);
    bytes += header.byteLength + record.byteLength;
    if (bytes < snapshotPieceBytes) continue;
    yield Buffer.concat(parts, bytes);
    parts = [];
    bytes = 0;
  }
  parts.push(encodeIndexFrame(FrameType.snapshotEnd, index));
  yield Buffer.concat(parts);
}
