import type { MemberId, Message } from '../raft/types.js';
import type { PeerMessage } from './peer-message.js';
import type { SnapshotSource } from './snapshot-bytes.js';

export type SnapshotMessage = Extract<Message, { kind: 'snapshot' }>;
type ChunkResponse = Extract<PeerMessage, { kind: 'snapshotChunkResponse' }>;

/** Snapshots being sent at once, each to any number of members. */
export const snapshotSourcesMax = 4;
/** Chunks made in one go to get to where a member already is. */
const catchUpChunksMax = 16;
/** Chunks sent in vain before a member is given up for now. */
const silentChunksMax = 20;

interface Transfer {
  readonly to: MemberId;
  message: SnapshotMessage;
  source: SnapshotSource;
  /** Of the chunk to be sent, or on its way. */
  offset: number;
  /** Where the receiver said last that it is; lower than `offset` in an old answer, or when it began anew. */
  receiverOffset: number;
  /** When the chunk at `offset` was sent; `null`: not yet. */
  sentAtTick: number | null;
  /** Ends where the snapshot does; `null` while that is not known. */
  totalBytes: number | null;
  /** Chunks sent since the last answer. */
  silentChunks: number;
}

export interface SnapshotSenderOptions {
  /** Before a chunk is sent again. */
  readonly resendTicks: number;
  /** Of our state as it is now. */
  readonly capture: () => SnapshotSource;
  readonly send: (to: MemberId, message: PeerMessage) => void;
  /** The transfer to this member is over. */
  readonly report: (to: MemberId, delivered: boolean) => void;
}

/**
 * Carries snapshots to members that are too far behind for entries: one chunk on its way to each, sent again when no
 * answer comes, going on from where the receiver says it is.
 */
export class SnapshotSender {
  readonly #options: SnapshotSenderOptions;
  readonly #transfers = new Map<MemberId, Transfer>();
  #tick = 0;

  constructor(options: SnapshotSenderOptions) {
    this.#options = options;
  }

  get active(): boolean {
    return this.#transfers.size > 0;
  }

  /** The lowest index of a snapshot under way: the log after it is still wanted. `null` for none. */
  get lowestIndex(): number | null {
    let lowest: number | null = null;
    for (const { source } of this.#transfers.values()) {
      if (lowest === null || source.position.index < lowest) lowest = source.position.index;
    }
    return lowest;
  }

  /** The core wants `message.to` to get a snapshot. The log goes on from `logFromIndex`, so an older one won't do. */
  open(message: SnapshotMessage, logFromIndex: number): void {
    const { to } = message;
    const running = this.#transfers.get(to);
    if (running !== undefined && running.message.term === message.term) return;
    this.#transfers.delete(to);
    const source = this.#sourceFor(logFromIndex);
    if (source === null) {
      this.#options.report(to, false);
      return;
    }
    const transfer: Transfer = {
      to,
      message: { ...message, position: source.position, membership: source.membership },
      source,
      offset: 0,
      receiverOffset: 0,
      sentAtTick: null,
      totalBytes: null,
      silentChunks: 0,
    };
    this.#transfers.set(to, transfer);
    this.#pump(transfer);
  }

  answered(from: MemberId, response: ChunkResponse): void {
    const transfer = this.#transfers.get(from);
    if (transfer === undefined) return;
    const { position } = transfer.source;
    if (response.position.index !== position.index || response.position.term !== position.term) return;
    transfer.silentChunks = 0;
    const { nextOffset } = response;
    if (nextOffset < 0) {
      this.#end(transfer, false);
      return;
    }
    if (transfer.totalBytes !== null && nextOffset >= transfer.totalBytes) {
      this.#end(transfer, true);
      return;
    }
    transfer.receiverOffset = nextOffset;
    // An answer to a chunk sent twice comes twice: only progress sends the next at once, or there would be two on the way.
    if (nextOffset <= transfer.offset) return;
    transfer.offset = nextOffset;
    transfer.sentAtTick = null;
    this.#pump(transfer);
  }

  /** `lead`: whether we still do, and in which term. */
  tick(lead: { readonly term: number; readonly members: ReadonlySet<MemberId> } | null): void {
    this.#tick += 1;
    for (const transfer of [...this.#transfers.values()]) {
      if (lead === null || lead.term !== transfer.message.term || !lead.members.has(transfer.to)) {
        this.#transfers.delete(transfer.to);
      } else if (transfer.sentAtTick === null) {
        this.#pump(transfer);
      } else if (this.#tick - transfer.sentAtTick >= this.#options.resendTicks) {
        transfer.offset = transfer.receiverOffset;
        this.#pump(transfer);
      }
    }
  }

  close(): void {
    this.#transfers.clear();
  }

  /** One that has all from its start, as of `index` or later, or a new one; `null` when there are too many. */
  #sourceFor(index: number): SnapshotSource | null {
    const sources = new Set([...this.#transfers.values()].map(({ source }) => source));
    for (const source of sources) {
      if (source.position.index >= index && source.fromStart) return source;
    }
    return sources.size < snapshotSourcesMax ? this.#options.capture() : null;
  }

  #pump(transfer: Transfer): void {
    if (transfer.silentChunks >= silentChunksMax) {
      this.#end(transfer, false);
      return;
    }
    const chunk = transfer.source.chunkAt(transfer.offset, catchUpChunksMax);
    if (chunk === 'later') return;
    // It began anew when its first chunks are gone, or answers nonsense: a newer snapshot is as good.
    if (chunk === 'forgotten' || chunk === 'beyond') {
      this.#end(transfer, false);
      return;
    }
    if (chunk.last) transfer.totalBytes = chunk.offset + chunk.data.byteLength;
    transfer.sentAtTick = this.#tick;
    transfer.silentChunks += 1;
    const { to, message } = transfer;
    this.#options.send(to, { kind: 'snapshotChunk', message, ...chunk });
  }

  #end(transfer: Transfer, delivered: boolean): void {
    this.#transfers.delete(transfer.to);
    this.#options.report(transfer.to, delivered);
  }
}
