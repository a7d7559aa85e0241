import type { Clock } from '../base/clock.js';
import { errorText } from '../base/guards.js';
import type { Logger } from '../base/logger.js';
import type { RandomSource } from '../base/random.js';
import type { Timers } from '../base/timers.js';
import { decodeCommand } from '../keystate/command-codec.js';
import type { KeyState } from '../keystate/key-state.js';
import { SnapshotReader } from '../keystate/snapshot-codec.js';
import type { Command, CommandResult } from '../keystate/types.js';
import {
  encodeFrame,
  encodeIndexFrame,
  encodeJsonFrame,
  FrameDecoder,
  readFreshPayload,
  readIndexPayload,
  readJsonPayload,
} from '../ops/frames.js';
import type { LinkConnection } from '../ops/link-connection.js';
import {
  type Frame,
  FrameType,
  frameBytesMax,
  type Hello,
  type HsmReply,
  type Standing,
} from '../ops/state-link.js';

/** Key state is taken in for so long before requests get their turn: 100,000 keys take many such slices. */
const sliceMs = 3;
export const reconnectFirstMs = 50;
export const reconnectMaxMs = 1_000;
/** Until the first link: the replica starts at the same time, and nobody is served before. */
const reconnectFirstLinkMaxMs = 100;
/** So many attempts may fail before it is worth a warning that no replica was ever there: about two seconds. */
const quietAttempts = 25;
/** What waits for a replica that does not read: reports beyond it are left out, the next one says the same. */
const writeBufferBytesMax = 1024 * 1024;

export interface StateClientOptions {
  /** To the replica's state socket. */
  readonly connect: () => LinkConnection;
  /** All but `linkedBefore`. */
  readonly hello: Omit<Hello, 'linkedBefore'>;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: RandomSource;
  readonly logger: Logger;
  /**
   * Key state is another one: `command` was applied to it with `result`, or, when `null`, it was replaced by a snapshot. It is in
   * force already, and acknowledged after this returns.
   */
  readonly onState: (state: KeyState, command: Command | null, result: CommandResult | null) => void;
  /** The link came up (key state is whole) or went. */
  readonly onLink: () => void;
  /** As of `asOfMs` (boot clock) the state now in force held everything that was acknowledged anywhere. */
  readonly onFresh: (asOfMs: number) => void;
  readonly onStanding: (standing: Standing) => void;
  /** Does what administration asks of the HSM. Never rejects. */
  readonly onHsmRequest: (request: Readonly<Record<string, unknown>>) => Promise<HsmReply | null>;
}

/** A snapshot on its way in. */
interface Incoming {
  readonly index: number;
  readonly reader: SnapshotReader;
}

/**
 * Key state of this process: a snapshot from the replica, then every later command in order. While the replica is away
 * the last state stays in force (replication.md, `on-isolation`), and it never goes back to an older one.
 */
export class StateClient {
  readonly #options: StateClientOptions;
  #state: KeyState | null = null;
  #link: Link | null = null;
  #linkedBefore = false;
  #failures = 0;
  #cancelReconnect: () => void = () => {};
  #closed = false;
  #lastReason: string | null = null;

  constructor(options: StateClientOptions) {
    this.#options = options;
  }

  /** `null` before the first snapshot was whole. Another object after every snapshot. */
  get state(): KeyState | null {
    return this.#state;
  }

  /** Whether the replica is there and `state` follows it. */
  get linked(): boolean {
    return this.#link?.whole === true;
  }

  /** Starts connecting, and goes on with it for ever. */
  start(): void {
    this.#connect();
  }

  /** Sends a report up, unless the replica does not read. */
  send(frame: Buffer): void {
    // Not before the hello, which goes first (state-link.ts).
    if (this.#link?.whole === true) this.#link.send(frame);
  }

  close(): void {
    this.#closed = true;
    this.#cancelReconnect();
    this.#link?.end();
    this.#link = null;
  }

  #connect(): void {
    if (this.#closed) return;
    const { connect, hello, clock } = this.#options;
    const link: Link = new Link(connect(), clock, {
      onConnect: () => {
        link.send(encodeJsonFrame(FrameType.hello, { ...hello, linkedBefore: this.#linkedBefore }));
      },
      onFrame: (frame) => this.#take(link, frame),
      onSliceEnd: () => this.#acknowledge(link),
      onEnd: (reason) => this.#ended(link, reason),
    });
    this.#link = link;
  }

  #ended(link: Link, reason: string): void {
    if (this.#link !== link) return;
    this.#link = null;
    if (this.#closed) return;
    this.#logEnd(link, reason);
    if (link.whole) this.#options.onLink();
    // A link that goes again at once is no success: a fault that repeats must not have snapshots sent for ever.
    const heldMs = this.#options.clock.monotonicMs() - link.wholeSinceMs;
    this.#failures = heldMs >= reconnectMaxMs ? 1 : this.#failures + 1;
    this.#cancelReconnect = this.#options.timers.after(this.#backOffMs(), () => this.#connect());
  }

  /** One line per reason, not per attempt. */
  #logEnd(link: Link, reason: string): void {
    const { logger } = this.#options;
    if (this.#state === null && this.#failures < quietAttempts) {
      if (reason !== this.#lastReason) logger.info('waiting for the replica', { reason });
    } else if (this.#state === null) {
      if (reason !== this.#lastReason || this.#failures === quietAttempts) {
        logger.warn('no link to the replica, and no key state yet', { reason });
      }
    } else if (link.whole || reason !== this.#lastReason) {
      logger.warn('no link to the replica: going on with the key state at hand', {
        reason,
        appliedIndex: this.#state.appliedIndex,
      });
    }
    this.#lastReason = reason;
  }

  /** Doubles from `reconnectFirstMs`; half of it at random, so that a node's processes don't all come at once. */
  #backOffMs(): number {
    const maxMs = this.#linkedBefore ? reconnectMaxMs : reconnectFirstLinkMaxMs;
    const fullMs = Math.min(maxMs, reconnectFirstMs * 2 ** Math.min(this.#failures - 1, 10));
    const [byte = 0] = this.#options.random.bytes(1);
    return Math.ceil(fullMs / 2 + (fullMs / 2) * (byte / 255));
  }

  /** Returns why the link must end; `null` when all is well. */
  #take(link: Link, frame: Frame): string | null {
    switch (frame.type) {
      case FrameType.snapshotBegin:
        return this.#beginSnapshot(link, frame.payload);
      case FrameType.snapshotRecord:
        if (link.incoming === null) return 'a snapshot record outside a snapshot';
        link.incoming.reader.push(frame.payload);
        return null;
      case FrameType.snapshotEnd:
        return this.#endSnapshot(link, frame.payload);
      case FrameType.entry:
        return this.#takeEntry(link, frame.payload);
      case FrameType.fresh:
        return this.#takeFreshness(link, frame.payload);
      case FrameType.standing:
        return this.#takeStanding(frame.payload);
      case FrameType.hsmRequest:
        return this.#takeHsmRequest(link, frame.payload);
      default:
        return `frame type ${frame.type} does not go this way`;
    }
  }

  #beginSnapshot(link: Link, payload: Buffer): string | null {
    const index = readIndexPayload(payload)?.index;
    if (index === undefined) return 'a malformed snapshot begin';
    const appliedIndex = this.#state?.appliedIndex ?? 0;
    if (index < appliedIndex) {
      return `the replica's key state (index ${index}) is older than ours (index ${appliedIndex}): its data directory may have been replaced by an older one; restart xksd if that is meant`;
    }
    link.incoming = { index, reader: new SnapshotReader() };
    return null;
  }

  #endSnapshot(link: Link, payload: Buffer): string | null {
    const index = readIndexPayload(payload)?.index;
    const { incoming } = link;
    link.incoming = null;
    if (incoming === null || index !== incoming.index) return 'a snapshot end without its begin';
    const finished = incoming.reader.finish();
    if (!finished.ok) return finished.error;
    const state = finished.value;
    if (state.appliedIndex !== index) return `a snapshot of index ${state.appliedIndex}, not ${index}`;
    const ours = this.#state?.cluster()?.clusterId;
    const theirs = state.cluster()?.clusterId;
    if (ours !== undefined && theirs !== ours) {
      return `the replica's key state is of cluster ${theirs ?? '(none)'}, ours of ${ours}; restart xksd if that is meant`;
    }
    this.#state = state;
    this.#linkedBefore = true;
    this.#lastReason = null;
    link.wholeSinceMs = this.#options.clock.monotonicMs();
    link.unacknowledged = true;
    this.#options.logger.info('key state received', { appliedIndex: index, ...state.counts() });
    this.#options.onState(state, null, null);
    this.#options.onLink();
    return null;
  }

  #takeEntry(link: Link, payload: Buffer): string | null {
    const entry = readIndexPayload(payload);
    if (entry === null) return 'a malformed entry';
    const state = this.#state;
    if (!link.whole || state === null) return 'an entry before a whole snapshot';
    if (entry.index !== state.appliedIndex + 1) {
      return `entry ${entry.index} does not follow ${state.appliedIndex}`;
    }
    if (entry.rest.byteLength === 0) {
      // The log's own (ordered-log.ts): nothing changes but the index.
      state.skip(entry.index);
      link.unacknowledged = true;
      return null;
    }
    const command = decodeCommand(entry.rest);
    // It was committed: to skip it would be to diverge. A snapshot may bring what this version can read.
    if (!command.ok) return `the command at index ${entry.index} cannot be decoded: ${command.error}`;
    const result = state.apply(entry.index, command.value);
    link.unacknowledged = true;
    this.#options.onState(state, command.value, result);
    return null;
  }

  #takeFreshness(link: Link, payload: Buffer): string | null {
    const fresh = readFreshPayload(payload);
    if (fresh === null) return 'a malformed freshness';
    if (!link.whole || this.#state === null) return 'a freshness before a whole snapshot';
    // It comes after every entry up to its index, so that a lower one means that entries are missing.
    if (this.#state.appliedIndex < fresh.index) return `freshness of index ${fresh.index} came too early`;
    this.#options.onFresh(fresh.asOfMs);
    return null;
  }

  #takeStanding(payload: Buffer): string | null {
    const json = readJsonPayload(payload);
    const { mayServe, reason, fleetSize } = json ?? {};
    if (typeof mayServe !== 'boolean' || typeof reason !== 'string' || typeof fleetSize !== 'number') {
      return 'a malformed standing';
    }
    this.#options.onStanding({ mayServe, reason, fleetSize });
    return null;
  }

  #takeHsmRequest(link: Link, payload: Buffer): string | null {
    const request = readJsonPayload(payload);
    if (request === null) return 'a malformed HSM request';
    void this.#options.onHsmRequest(request).then((reply) => {
      if (reply !== null) link.send(hsmReplyFrame(reply));
    });
    return null;
  }

  /** What is acknowledged is in force: no answer is made any more from the state before it. */
  #acknowledge(link: Link): void {
    if (!link.unacknowledged || this.#state === null) return;
    link.unacknowledged = false;
    link.send(encodeIndexFrame(FrameType.applied, this.#state.appliedIndex));
  }
}

/** A reply too long for a frame becomes one that says so. */
function hsmReplyFrame(reply: HsmReply): Buffer {
  const payload = Buffer.from(JSON.stringify(reply), 'utf8');
  if (payload.byteLength < frameBytesMax) return encodeFrame(FrameType.hsmReply, payload);
  const { id } = reply;
  const message = `the answer has ${payload.byteLength} bytes, more than the state link takes`;
  const failed: HsmReply = { id, ok: false, code: 'failed', message };
  return encodeJsonFrame(FrameType.hsmReply, failed);
}

interface LinkEvents {
  onConnect(): void;
  /** Returns why the link must end; `null` when all is well. */
  onFrame(frame: Frame): string | null;
  /** The frames that were there have been taken, or time was up. */
  onSliceEnd(): void;
  /** Once. */
  onEnd(reason: string): void;
}

/** One connection to the replica. Takes frames in slices; reads no further while some are left. */
class Link {
  /** When a snapshot had arrived as a whole (monotonic); infinite before. */
  wholeSinceMs = Number.POSITIVE_INFINITY;
  incoming: Incoming | null = null;
  unacknowledged = false;
  readonly #socket: LinkConnection;
  readonly #clock: Clock;
  readonly #events: LinkEvents;
  readonly #decoder = new FrameDecoder();
  #frames: readonly Frame[] = [];
  #taken = 0;
  #ended = false;

  constructor(socket: LinkConnection, clock: Clock, events: LinkEvents) {
    this.#socket = socket;
    this.#clock = clock;
    this.#events = events;
    let failure = 'the replica closed the link';
    socket.on('error', (error) => {
      failure = errorText(error);
    });
    socket.on('close', () => this.#end(failure));
    socket.on('connect', () => events.onConnect());
    socket.on('data', (chunk) => this.#push(chunk));
  }

  /** Whether a snapshot has arrived as a whole. */
  get whole(): boolean {
    return this.wholeSinceMs !== Number.POSITIVE_INFINITY;
  }

  send(frame: Buffer): void {
    if (this.#ended || this.#socket.writableLength > writeBufferBytesMax) return;
    this.#socket.write(frame);
  }

  end(): void {
    this.#ended = true;
    this.#socket.destroy();
  }

  #end(reason: string): void {
    if (this.#ended) return;
    this.end();
    this.#events.onEnd(reason);
  }

  #push(chunk: Buffer): void {
    const frames = this.#decoder.push(chunk);
    if (!frames.ok) {
      this.#end(frames.error.message);
      return;
    }
    this.#frames = frames.value;
    this.#taken = 0;
    this.#slice();
  }

  #slice(): void {
    const endMs = this.#clock.monotonicMs() + sliceMs;
    while (!this.#ended && this.#taken < this.#frames.length) {
      const frame = this.#frames[this.#taken];
      this.#taken += 1;
      const fault = frame === undefined ? null : this.#events.onFrame(frame);
      if (fault !== null) {
        this.#end(fault);
        return;
      }
      if (this.#clock.monotonicMs() >= endMs) break;
    }
    if (this.#ended) return;
    this.#events.onSliceEnd();
    if (this.#taken < this.#frames.length) {
      this.#socket.pause();
      setImmediate(() => this.#slice());
    } else {
      this.#frames = [];
      this.#socket.resume();
    }
  }
}
