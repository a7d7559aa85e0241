import type { EntryKind, LogPosition, MemberId, Message } from '../raft/types.js';

/** Of one snapshot chunk's data. */
export const snapshotChunkBytes = 256 * 1024;

export interface PeerAddress {
  readonly memberId: MemberId;
  /** Of its node, as in its certificate. */
  readonly name: string;
  /** `host:port`. */
  readonly address: string;
}

/** What members tell each other all the time, leader or not: for `status`, drift alerts and the state hash. */
export interface NodeReport {
  readonly nodeName: string;
  readonly version: string;
  /** Newest format of messages, records and commands that this build reads and writes. */
  readonly formatMax: number;
  readonly configHash: string;
  /** Wall clock at sending, ms. */
  readonly wallMs: number;
  readonly appliedIndex: number;
  /** Applied by all serving processes of that node. */
  readonly servingAppliedIndex: number;
  readonly readyServingProcesses: number;
  /** At index multiples of `stateHashInterval`, newest last. */
  readonly stateHashes: readonly { readonly index: number; readonly hash: string }[];
  /** Who takes part, as of `appliedIndex` or later, itself included; not from earlier releases. */
  readonly members?: readonly PeerAddress[];
}

/** What goes from one member to another. Each may be lost, repeated or overtaken. */
export type PeerMessage =
  | { readonly kind: 'raft'; readonly message: Message }
  /** To the leader: append this. `proposalId` is the sender's own, minted by `forwardedId`: it names the leader's term. */
  | {
      readonly kind: 'propose';
      readonly proposalId: string;
      readonly entryKind: Exclude<EntryKind, 'noop'>;
      readonly command: Uint8Array;
    }
  /** `position`: where the leader appended it; `null`: it did not, and won't. */
  | {
      readonly kind: 'proposeResponse';
      readonly proposalId: string;
      readonly position: LogPosition | null;
      readonly reason: string;
    }
  /** Part of the snapshot as of `position`, as one byte sequence from `offset` on. `message`: the raft message it is for. */
  | {
      readonly kind: 'snapshotChunk';
      readonly message: Extract<Message, { kind: 'snapshot' }>;
      readonly offset: number;
      readonly data: Uint8Array;
      readonly last: boolean;
    }
  /** The receiver has all up to `nextOffset`; -1: it wants no such snapshot. */
  | {
      readonly kind: 'snapshotChunkResponse';
      readonly position: LogPosition;
      readonly nextOffset: number;
    }
  | { readonly kind: 'report'; readonly report: NodeReport };

export interface PeerEnvelope {
  /** Format of this message: `peerFormat` of the sender, within what the receiver reads. */
  readonly format: number;
  readonly clusterId: string;
  readonly from: MemberId;
  readonly to: MemberId;
  readonly message: PeerMessage;
}
