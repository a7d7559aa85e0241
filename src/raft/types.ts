/**
 * What the consensus core works with. "The paper" is Ongaro and Ousterhout, _In Search of an Understandable Consensus
 * Algorithm_ (extended version); "the thesis" is Ongaro, _Consensus: Bridging Theory and Practice_.
 */

/** Random, minted once, never given to another member. Not empty. */
export type MemberId = string;

/**
 * `command`: the state machine's. `membership`: the state machine's too, and may change who is a member: at most one is
 * in the log and not yet applied. `noop`: what a leader begins its term with; `data` is empty.
 */
export type EntryKind = 'command' | 'membership' | 'noop';

export interface Entry {
  /** From 1, without gaps. */
  readonly index: number;
  readonly term: number;
  readonly kind: EntryKind;
  readonly data: Uint8Array;
}

/** Persisted in one record: they change together or not at all (paper §5, figure 2; commitIndex beyond it). */
export interface HardState {
  readonly term: number;
  readonly votedFor: MemberId | null;
  readonly commitIndex: number;
}

export interface LogPosition {
  readonly index: number;
  readonly term: number;
}

/** Effective when applied. A member is in one of the two at most. */
export interface Membership {
  readonly voters: readonly MemberId[];
  readonly learners: readonly MemberId[];
}

export type Role = 'follower' | 'preCandidate' | 'candidate' | 'leader';

interface Addressed {
  readonly from: MemberId;
  readonly to: MemberId;
  /** The sender's; in a preVote, the one it would campaign in. */
  readonly term: number;
}

export type Message = Addressed &
  (
    | {
        /** preVote: thesis §9.6. `leadershipTransfer`: heed it although a leader is known (thesis §4.2.3). */
        readonly kind: 'preVote' | 'vote';
        readonly lastLog: LogPosition;
        readonly leadershipTransfer: boolean;
        /**
         * As far as the sender knows the log to be committed: who asks and who answers tell each other. Known in `term`
         * at the latest; in a preVote and its grant, in the term before.
         */
        readonly committed: LogPosition;
      }
    | {
        readonly kind: 'preVoteResponse' | 'voteResponse';
        readonly granted: boolean;
        readonly committed: LogPosition;
      }
    | {
        readonly kind: 'append';
        readonly previous: LogPosition;
        readonly entries: readonly Entry[];
        readonly commitIndex: number;
      }
    | {
        readonly kind: 'appendResponse';
        /**
         * Of `append.previous` when rejected (0 in the answer to a leader of an earlier term); the last index now known
         * to match when not.
         */
        readonly index: number;
        readonly rejected: boolean;
        /** When rejected: where the leader should look next (index and term of the follower's nearest candidate). */
        readonly hint: LogPosition;
        /** The follower's last index, whatever the outcome. */
        readonly lastIndex: number;
      }
    /** `readId`: number of the heartbeat round; its answers confirm all reads asked before it. Comes back as it was. */
    | { readonly kind: 'heartbeat'; readonly commitIndex: number; readonly readId: string | null }
    | { readonly kind: 'heartbeatResponse'; readonly readId: string | null; readonly lastIndex: number }
    /** The follower needs a snapshot; the surroundings carry its bytes and then `step` this message at the follower. */
    | { readonly kind: 'snapshot'; readonly position: LogPosition; readonly membership: Membership }
    | { readonly kind: 'timeoutNow' }
    | { readonly kind: 'readIndex'; readonly readId: string }
    /** `index` null: asked of one who can't say (not leader, or no own-term entry committed yet); ask anew. */
    | { readonly kind: 'readIndexResponse'; readonly readId: string; readonly index: number | null }
  );

export type MessageKind = Message['kind'];

/**
 * What must be done before the core goes on, in this order: persist `entries` and `hardState` (one record, synced),
 * then send `messages`, then apply `committed`; then `advance`. Inputs may arrive meanwhile.
 */
export interface Ready {
  /** `null`: unchanged. */
  readonly hardState: HardState | null;
  /** Replace the log from `entries[0].index` on. */
  readonly entries: readonly Entry[];
  /** A snapshot stepped in that replaces log and state; to be made durable, then restored, before all else. */
  readonly snapshot: { readonly position: LogPosition; readonly membership: Membership } | null;
  readonly messages: readonly Message[];
  /** Durable once `entries` are; in order, each once. */
  readonly committed: readonly Entry[];
  /** Answers to `readIndex` asked here. `index` null: not to be had now; ask again with another id. */
  readonly reads: readonly { readonly readId: string; readonly index: number | null }[];
}

export type ProposeError =
  /** Followers don't propose: ask `leader`, if known. */
  | { readonly kind: 'not-leader'; readonly leader: MemberId | null }
  /** More than `uncommittedBytesMax` wait already. */
  | { readonly kind: 'overloaded' }
  /** Leadership is being handed over. */
  | { readonly kind: 'transferring' }
  /**
   * For membership only: the previous change, or the no-op of this term, is not applied yet (etcd-io/raft, thesis §4.1
   * erratum).
   */
  | { readonly kind: 'membership-pending' };

/** How a leader sees a member. */
export interface PeerProgress {
  readonly memberId: MemberId;
  readonly learner: boolean;
  readonly state: 'probe' | 'replicate' | 'snapshot';
  readonly matchIndex: number;
  readonly nextIndex: number;
  /** Answered since the last CheckQuorum round. */
  readonly recentlyActive: boolean;
  readonly inflightMessages: number;
  /**
   * Its log ended before what it had acknowledged in this term: a wiped or rolled-back disk. It is sent no entries and
   * counts for nothing until it is removed and added anew.
   */
  readonly lostAcknowledged: boolean;
}

export interface RaftStatus {
  readonly memberId: MemberId;
  readonly role: Role;
  readonly term: number;
  readonly votedFor: MemberId | null;
  readonly leader: MemberId | null;
  readonly commitIndex: number;
  readonly appliedIndex: number;
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly lastTerm: number;
  readonly membership: Membership;
  /** Empty unless leader. */
  readonly progress: readonly PeerProgress[];
  readonly transferee: MemberId | null;
  /** The log here ends before what this member acknowledged to the leader: a disk that was wiped or set back. */
  readonly lostAcknowledged: boolean;
}
