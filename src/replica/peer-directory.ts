import type { KeyStateQueries } from '../keystate/types.js';
import type { NodeReport, PeerAddress } from '../replication/peer-message.js';
import type { RefusalReason } from '../replication/transport/refusal.js';

export type Authorization = { readonly ok: true } | { readonly ok: false; readonly reason: RefusalReason };

/** What one member said last of where the members are. */
interface Told {
  /** That its list is of. */
  readonly index: number;
  readonly members: readonly PeerAddress[];
}

/** Whose lists are kept. */
const tellersMax = 64;

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
 * The rule: a member that this node listens to already, known by its name and certificate, is believed where it is itself,
 * and of others who is a member that key state here does not know; as long as it has applied more than this node. That
 * decides whom to dial and whom to listen to, by their certificates, and never who has a vote: that is the log's to say.
 * It gives nobody a power: whoever is listened to could lead, and put other members into the log.
 */
export class PeerDirectory {
  readonly #state: () => KeyStateQueries;
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
    if (members === undefined || this.#told.size >= tellersMax) return;
    this.#told.set(from, { index: appliedIndex, members });
  }

  /** Members to connect to, ourselves included. */
  addresses(): readonly PeerAddress[] {
    const state = this.#state();
    const members = membersOf(state);
    if (members.length === 0) return this.#introduced;
    const known = members.map((member) => ({ ...member, address: this.#ownWord(member) }));
    return [...known, ...this.#newcomers().values()];
  }

  /** @param names in the certificate that was shown. */
  authorize(from: string, names: readonly string[]): Authorization {
    const state = this.#state();
    const member = state.member(from);
    if (member !== null && member.status !== 'invited') return byName(member.name, names);
    for (const { memberId } of state.formerMembers()) {
      if (memberId === from) return { ok: false, reason: 'removed' };
    }
    // Key state that is still on its way does not know those who send it.
    const named = this.#introduced.find(({ memberId }) => memberId === from) ?? this.#newcomers().get(from);
    return named === undefined ? { ok: false, reason: 'unknown' } : byName(named.name, names);
  }

  /** Where a member says itself that it is, if it knows more than this node. */
  #ownWord({ memberId, address }: PeerAddress): string {
    const told = this.#told.get(memberId);
    if (told === undefined || told.index <= this.#state().appliedIndex) return address;
    return told.members.find((listed) => listed.memberId === memberId)?.address ?? address;
  }

  /** Whom others name and key state here does not know, neither as a member nor as a former one. */
  #newcomers(): ReadonlyMap<string, PeerAddress> {
    const newcomers = new Map<string, PeerAddress>();
    const state = this.#state();
    const ahead = [...this.#told.values()].filter(({ index }) => index > state.appliedIndex);
    if (ahead.length === 0) return newcomers;
    const former = new Set([...state.formerMembers()].map(({ memberId }) => memberId));
    for (const { members } of ahead) {
      for (const listed of members) {
        const { memberId } = listed;
        const isKnown = (state.member(memberId)?.status ?? 'invited') !== 'invited' || former.has(memberId);
        if (!isKnown) newcomers.set(memberId, { ...listed, address: this.#ownWord(listed) });
      }
    }
    return newcomers;
  }
}

const byName = (name: string, names: readonly string[]): Authorization =>
  names.includes(name) ? { ok: true } : { ok: false, reason: 'wrong-name' };
