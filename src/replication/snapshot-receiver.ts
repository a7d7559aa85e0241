import type { LogPosition, MemberId } from '../raft/types.js';
import type { PeerMessage } from './peer-message.js';
import { SnapshotAssembly } from './snapshot-bytes.js';
import type { SnapshotMessage } from './snapshot-sender.js';

type Chunk = Extract<PeerMessage, { kind: 'snapshotChunk' }>;

export interface ReceivedSnapshot {
  readonly message: SnapshotMessage;
  readonly records: readonly Uint8Array[];
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

/** Puts a snapshot together from chunks that may be lost, repeated or overtaken. One at a time, the newest. */
export class SnapshotReceiver {
  #origin: Origin | null = null;
  #assembly = new SnapshotAssembly();
  /** The last that was whole, and its length. */
  #whole: { readonly origin: Origin; readonly bytes: number } | null = null;

  /** `term`: ours; `commitIndex`: what we have without it. */
  receive(from: MemberId, chunk: Chunk, term: number, commitIndex: number): ChunkOutcome {
    const { message, offset, data, last } = chunk;
    const origin: Origin = { from, term: message.term, position: message.position };
    if (this.#whole !== null && sameOrigin(this.#whole.origin, origin)) {
      // The answer to its last chunk was lost.
      return { nextOffset: this.#whole.bytes, received: null, problem: null };
    }
    if (message.term < term || message.position.index <= commitIndex) return unwanted;
    if (this.#origin === null || !sameOrigin(this.#origin, origin)) {
      if (this.#origin !== null && !isNewer(origin, this.#origin)) return unwanted;
      this.#origin = origin;
      this.#assembly = new SnapshotAssembly();
    }
    const { nextOffset } = this.#assembly;
    const end = offset + data.byteLength;
    if (offset > nextOffset || end <= nextOffset) return { nextOffset, received: null, problem: null };
    const taken = this.#assembly.take(data.subarray(nextOffset - offset), last);
    if (!taken.ok) {
      this.#discard();
      return { nextOffset: -1, received: null, problem: taken.error };
    }
    if (taken.value === null) return { nextOffset: end, received: null, problem: null };
    this.#discard();
    this.#whole = { origin, bytes: end };
    return { nextOffset: end, received: { message, records: taken.value }, problem: null };
  }

  /** The one that was whole last was not wanted after all. */
  refused(): void {
    this.#whole = null;
  }

  /** What is committed here up to `commitIndex` needs no snapshot any more. */
  committed(commitIndex: number): void {
    if (this.#origin !== null && this.#origin.position.index <= commitIndex) this.#discard();
  }

  #discard(): void {
    this.#origin = null;
    this.#assembly = new SnapshotAssembly();
  }
}

function isNewer(origin: Origin, than: Origin): boolean {
  return (
    origin.term > than.term || (origin.term === than.term && origin.position.index > than.position.index)
  );
}
