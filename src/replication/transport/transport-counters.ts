import type { PeerMessage } from '../peer-message.js';
import type { RefusalReason } from './refusal.js';

type ByKind = Record<PeerMessage['kind'], number>;
type ByReason = Record<RefusalReason, number>;

/** Totals since the start. */
export interface TransportCounters {
  /** Handed to a connection. */
  readonly sent: Readonly<ByKind>;
  /** Never handed to one: no connection, or no room in the queue. */
  readonly dropped: Readonly<ByKind>;
  readonly received: Readonly<ByKind>;
  /** Received, of a kind that a newer version knows. */
  readonly ignored: number;
  /** Streams and calls that we refused. */
  readonly refused: Readonly<ByReason>;
}

const noMessages = (): ByKind => ({
  raft: 0,
  propose: 0,
  proposeResponse: 0,
  snapshotChunk: 0,
  snapshotChunkResponse: 0,
  report: 0,
});

export class TransportTally implements TransportCounters {
  readonly sent = noMessages();
  readonly dropped = noMessages();
  readonly received = noMessages();
  readonly refused: ByReason = {
    removed: 0,
    'other-cluster': 0,
    'foreign-cluster': 0,
    unknown: 0,
    'wrong-name': 0,
    'wrong-member': 0,
    format: 0,
    malformed: 0,
  };
  ignored = 0;

  snapshot(): TransportCounters {
    return {
      sent: { ...this.sent },
      dropped: { ...this.dropped },
      received: { ...this.received },
      ignored: this.ignored,
      refused: { ...this.refused },
    };
  }
}
