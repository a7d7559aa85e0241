import { Progress } from './progress.js';
import { quorumSize, quorumValue } from './quorum.js';
import type { MemberId, Membership } from './types.js';

const sorted = (ids: readonly MemberId[]): readonly MemberId[] => [...ids].sort();

const sameIds = (left: readonly MemberId[], right: readonly MemberId[]): boolean =>
  left.length === right.length && left.every((id, at) => id === right[at]);

/** Who the members are, and, while this member leads, how far each of the others is. Always in the order of their ids. */
export class ProgressTracker {
  readonly #memberId: MemberId;
  readonly #limits: { readonly inflightMessagesMax: number; readonly inflightBytesMax: number };
  #membership: Membership;
  #isVoter = false;
  #peers: readonly Progress[] = [];
  readonly #byId = new Map<MemberId, Progress>();
  readonly #voterPeers: Progress[] = [];
  /** Refilled at each count, to make no garbage. */
  readonly #scratch: number[] = [];

  constructor(
    memberId: MemberId,
    limits: { readonly inflightMessagesMax: number; readonly inflightBytesMax: number },
    membership: Membership,
  ) {
    this.#memberId = memberId;
    this.#limits = limits;
    this.#membership = membership;
    this.#adopt(membership);
  }

  #adopt(membership: Membership): void {
    this.#membership = { voters: sorted(membership.voters), learners: sorted(membership.learners) };
    this.#isVoter = membership.voters.includes(this.#memberId);
  }

  get membership(): Membership {
    return this.#membership;
  }

  get voters(): readonly MemberId[] {
    return this.#membership.voters;
  }

  /** Whether this member is one. */
  get isVoter(): boolean {
    return this.#isVoter;
  }

  /** The others; none unless `start` was called. */
  get peers(): readonly Progress[] {
    return this.#peers;
  }

  peer(memberId: MemberId): Progress | undefined {
    return this.#byId.get(memberId);
  }

  /** False when nothing is other than before. */
  setMembership(membership: Membership): boolean {
    const before = this.#membership;
    // The usual case, before anything is allocated.
    if (membership === before) return false;
    if (sameIds(membership.voters, before.voters) && sameIds(membership.learners, before.learners))
      return false;
    this.#adopt(membership);
    return !(
      sameIds(this.#membership.voters, before.voters) && sameIds(this.#membership.learners, before.learners)
    );
  }

  /** A term as leader begins: of nobody is it known where its log matches (paper §5.3). */
  start(nextIndex: number): void {
    this.stop();
    this.reconfigure(nextIndex);
    for (const peer of this.#peers) peer.recentlyActive = false;
  }

  stop(): void {
    this.#peers = [];
    this.#byId.clear();
    this.#voterPeers.length = 0;
  }

  /** Keeps what is known of members that stay. */
  reconfigure(nextIndex: number): void {
    const { voters, learners } = this.#membership;
    const peers: Progress[] = [];
    const track = (memberId: MemberId, learner: boolean): void => {
      if (memberId === this.#memberId) return;
      const known = this.#byId.get(memberId);
      const peer = known ?? new Progress(memberId, learner, nextIndex, this.#limits);
      peer.learner = learner;
      // A new member gets a whole round of CheckQuorum to answer.
      if (known === undefined) peer.recentlyActive = true;
      peers.push(peer);
    };
    for (const memberId of voters) track(memberId, false);
    for (const memberId of learners) track(memberId, true);
    peers.sort((left, right) => (left.memberId < right.memberId ? -1 : 1));
    this.#peers = peers;
    this.#byId.clear();
    this.#voterPeers.length = 0;
    for (const peer of peers) {
      this.#byId.set(peer.memberId, peer);
      if (!peer.learner) this.#voterPeers.push(peer);
    }
  }

  /** The greatest index that a majority of the voters holds durably. */
  quorumMatchIndex(ownStableIndex: number): number {
    this.#scratch.length = 0;
    if (this.#isVoter) this.#scratch.push(ownStableIndex);
    for (const peer of this.#voterPeers) this.#scratch.push(peer.lostAcknowledged ? 0 : peer.matchIndex);
    return quorumValue(this.#scratch);
  }

  /** The newest heartbeat round that a majority of the voters has answered, `ownRound` being ours. */
  quorumRound(ownRound: number): number {
    this.#scratch.length = 0;
    if (this.#isVoter) this.#scratch.push(ownRound);
    for (const peer of this.#voterPeers) this.#scratch.push(peer.lostAcknowledged ? 0 : peer.ackedRound);
    return quorumValue(this.#scratch);
  }

  /** CheckQuorum (thesis §6.2): whether a majority was heard of since the last time this was asked. */
  takeQuorumActive(): boolean {
    let active = this.#isVoter ? 1 : 0;
    for (const peer of this.#voterPeers) if (peer.recentlyActive && !peer.lostAcknowledged) active += 1;
    for (const peer of this.#peers) peer.recentlyActive = false;
    return active >= quorumSize(this.#membership.voters.length);
  }

  /** Of the voters that could take over, the one that holds most. */
  mostCaughtUpVoter(): Progress | null {
    let best: Progress | null = null;
    for (const peer of this.#voterPeers) {
      if (!peer.lostAcknowledged && (best === null || peer.matchIndex > best.matchIndex)) best = peer;
    }
    return best;
  }
}
