import type { LogPosition, MemberId } from '../raft/types.js';
import type { Restoration } from './ordered-log.js';
import type { PeerMessage } from './peer-message.js';
import { SnapshotAssembly } from './snapshot-bytes.js';
import type { SnapshotMessage } from './snapshot-sender.js';

type Chunk = Extract<PeerMessage, { kind: 'snapshotChunk' }>;

export interface ReceivedSnapshot {
  readonly message: SnapshotMessage;
  readonly records: readonly Uint8Array[];
  /** Has taken all of them in. */
  readonly restoration: Restoration;
}

export interface ChunkOutcome {
  /** For the answer. */
  readonly nextOffset: number;
  /** The snapshot, if this chunk made it whole. */
  readonly received: ReceivedSnapshot | null;
  /** Why it can't be taken; for the operator. */
  readonly problem: string | null;
}

/** Which snapshot a chunk is of: another leader's bytes, or another term's, are another sequence. */
interface Origin {
  readonly from: MemberId;
  readonly term: number;
  readonly position: LogPosition;
}

const sameOrigin = (left: Origin, right: Origin): boolean =>
  left.from === right.from &&
  left.term === right.term &&
  left.position.index === right.position.index &&
  left.position.term === right.position.term;

const unwanted: ChunkOutcome = { nextOffset: -1, received: null, problem: null };

/** A snapshot on its way in. */
interface Incoming {
  readonly origin: Origin;
  readonly assembly: SnapshotAssembly;
  readonly restoration: Restoration;
}

/**
 * Puts a snapshot together from chunks that may be lost, repeated or overtaken. One at a time, the newest. Each chunk is
 * taken into a restoration as it comes: the event loop turns between two, and after the last little is left to do.
 */
export class SnapshotReceiver {
  readonly #beginRestore: () => Restoration;
  #incoming: Incoming | null = null;
  /** The last that was whole, and its length. */
  #whole: { readonly origin: Origin; readonly bytes: number } | null = null;

  constructor(beginRestore: () => Restoration) {
    this.#beginRestore = beginRestore;
  }

  /** `term`: ours; `commitIndex`: what we have without it. */
  receive(from: MemberId, chunk: Chunk, term: number, commitIndex: number): ChunkOutcome {
    const { message, offset, data, last } = chunk;
    const origin: Origin = { from, term: message.term, position: message.position };
    if (this.#whole !== null && sameOrigin(this.#whole.origin, origin)) {
      // The answer to its last chunk was lost.
      return { nextOffset: this.#whole.bytes, received: null, problem: null };
    }
    if (message.term < term || message.position.index <= commitIndex) return unwanted;
    if (this.#incoming === null || !sameOrigin(this.#incoming.origin, origin)) {
      if (this.#incoming !== null && !isNewer(origin, this.#incoming.origin)) return unwanted;
      this.#incoming = this.#begin(origin);
    }
    const { assembly, restoration } = this.#incoming;
    const { nextOffset } = assembly;
    const end = offset + data.byteLength;
    if (offset > nextOffset || end <= nextOffset) return { nextOffset, received: null, problem: null };
    const taken = assembly.take(data.subarray(nextOffset - offset), last);
    if (!taken.ok) {
      this.#incoming = null;
      return { nextOffset: -1, received: null, problem: taken.error };
    }
    if (taken.value === null) return { nextOffset: end, received: null, problem: null };
    this.#incoming = null;
    this.#whole = { origin, bytes: end };
    return { nextOffset: end, received: { message, records: taken.value, restoration }, problem: null };
  }

  /** The one that was whole last was not wanted after all. */
  refused(): void {
    this.#whole = null;
  }

  /** What is committed here up to `commitIndex` needs no snapshot any more. */
  committed(commitIndex: number): void {
    if (this.#incoming !== null && this.#incoming.origin.position.index <= commitIndex) this.#incoming = null;
  }

  /** Nothing more comes. */
  close(): void {
    this.#incoming = null;
  }

  #begin(origin: Origin): Incoming {
    const restoration = this.#beginRestore();
    return { origin, restoration, assembly: new SnapshotAssembly((record) => restoration.take(record)) };
  }
}

function isNewer(origin: Origin, than: Origin): boolean {
  return (
    origin.term > than.term || (origin.term === than.term && origin.position.index > than.position.index)
  );
}
