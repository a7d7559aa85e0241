import { clusterLimits } from '../keystate/cluster-types.js';
import type { KeyStateQueries } from '../keystate/types.js';
import type { NodeReport, PeerAddress } from '../replication/peer-message.js';
import type { RefusalReason } from '../replication/transport/refusal.js';

export type Authorization = { readonly ok: true } | { readonly ok: false; readonly reason: RefusalReason };

/** What one said last of where the members are. */
interface Told {
  /** That its list is of. */
  readonly index: number;
  readonly members: readonly PeerAddress[];
}

/** Of those whom key state here does not know: a whole cluster may have been replaced while this node was off. */
const newcomersMax = clusterLimits.membersMax;

/** Who takes part, by key state, this node included. */
export const membersOf = (state: KeyStateQueries): readonly PeerAddress[] =>
  [...state.members()]
    .filter(({ status }) => status !== 'invited')
    .map(({ memberId, name, address }) => ({ memberId, name, address }));

/**
 * Who the other members are: by key state; while a node that joins has none yet, by what the member said that let it in;
 * and where other members have come further in the log than this node, by what they say, too. A node that was off while
 * members came, went and moved would else neither hear nor find those who have the entries that it lacks.
 *
 * The rule: a member by key state here (or one that let this node in) is believed where it is itself, and of others who
 * is a member that key state here does not know; as long as it has applied more than this node, and is a member. Whoever
 * is only named by others is believed where it is itself, and nothing else: nobody vouches for itself, nor goes on
 * vouching once it was removed. That decides whom to dial and whom to listen to, by their certificates, and never who has
 * a vote: that is the log's to say. It gives nobody a power: a member that is listened to could lead, and put other members
 * into the log. A newcomer may bear the name of a member that key state here knows or has known: a node whose disk was lost
 * comes back as another member under its name.
 */
export class PeerDirectory {
  readonly #state: () => KeyStateQueries;
  /** Whom key state here has not named since. */
  #introduced: readonly PeerAddress[] = [];
  /** By who said it. */
  readonly #told = new Map<string, Told>();

  constructor(state: () => KeyStateQueries) {
    this.#state = state;
  }

  /** Members that an answer to our joining named. */
  introduced(peers: readonly PeerAddress[]): void {
    this.#introduced = peers;
  }

  /** By `from`, which was authorized. */
  reported(from: string, { appliedIndex, members }: NodeReport): void {
    this.#told.delete(from);
    if (members !== undefined) this.#told.set(from, { index: appliedIndex, members });
    this.#forgetOutdated();
  }

  /** Members to connect to, ourselves included. */
  addresses(): readonly PeerAddress[] {
    const state = this.#state();
    const members = membersOf(state);
    if (members.length === 0) return this.#yetIntroduced();
    const known = members.map((member) => ({ ...member, address: this.#ownWord(member) }));
    return [...known, ...this.#newcomers().values()];
  }

  /** @param names in the certificate that was shown. */
  authorize(from: string, names: readonly string[]): Authorization {
    const state = this.#state();
    const introduced = this.#yetIntroduced();
    const member = state.member(from);
    if (member !== null && member.status !== 'invited') return byName(member.name, names);
    for (const { memberId } of state.formerMembers()) {
      if (memberId === from) return { ok: false, reason: 'removed' };
    }
    // Key state that is still on its way does not know those who send it.
    const named = introduced.find(({ memberId }) => memberId === from) ?? this.#newcomers().get(from);
    return named === undefined ? { ok: false, reason: 'unknown' } : byName(named.name, names);
  }

  /** Where a member says itself that it is, if it knows more than this node. */
  #ownWord({ memberId, address }: PeerAddress): string {
    const told = this.#told.get(memberId);
    if (told === undefined || told.index <= this.#state().appliedIndex) return address;
    return told.members.find((listed) => listed.memberId === memberId)?.address ?? address;
  }

  /** Those of them that key state here has not come to: from then on that says whether they are members. */
  #yetIntroduced(): readonly PeerAddress[] {
    if (this.#introduced.length > 0) {
      const isKnown = this.#known();
      this.#introduced = this.#introduced.filter(({ memberId }) => !isKnown(memberId));
    }
    return this.#introduced;
  }

  /** Whether key state here knows a member, or has known it. */
  #known(): (memberId: string) => boolean {
    const state = this.#state();
    const former = new Set([...state.formerMembers()].map(({ memberId }) => memberId));
    return (memberId) => isMember(state, memberId) || former.has(memberId);
  }

  /** Whom those believed name and key state here does not know, neither as a member nor as a former one. */
  #newcomers(): ReadonlyMap<string, PeerAddress> {
    const newcomers = new Map<string, PeerAddress>();
    const state = this.#state();
    const ahead = [...this.#told].filter(([, { index }]) => index > state.appliedIndex);
    if (ahead.length === 0) return newcomers;
    const isKnown = this.#known();
    const introduced = this.#yetIntroduced();
    const believed = ahead
      .filter(([from]) => isMember(state, from) || introduced.some(({ memberId }) => memberId === from))
      .sort(([, one], [, other]) => other.index - one.index);
    for (const [, { members }] of believed) {
      for (const listed of members) {
        if (newcomers.size >= newcomersMax) return newcomers;
        const { memberId } = listed;
        if (isKnown(memberId) || newcomers.has(memberId)) continue;
        newcomers.set(memberId, { ...listed, address: this.#ownWord(listed) });
      }
    }
    return newcomers;
  }

  /** What was said by those who are not listened to any more, or of what has been applied here. */
  #forgetOutdated(): void {
    const state = this.#state();
    const introduced = new Set(this.#yetIntroduced().map(({ memberId }) => memberId));
    const newcomers = this.#newcomers();
    for (const [from, { index }] of this.#told) {
      const isHeard = isMember(state, from) || introduced.has(from) || newcomers.has(from);
      if (!isHeard || index <= state.appliedIndex) this.#told.delete(from);
    }
  }
}

const isMember = (state: KeyStateQueries, memberId: string): boolean =>
  (state.member(memberId)?.status ?? 'invited') !== 'invited';

const byName = (name: string, names: readonly string[]): Authorization =>
  names.includes(name) ? { ok: true } : { ok: false, reason: 'wrong-name' };
