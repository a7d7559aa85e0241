import type { KeyStateQueries } from '../keystate/types.js';
import type { PeerAddress } from '../replication/transport/peer-transport.js';
import type { RefusalReason } from '../replication/transport/refusal.js';

export type Authorization = { readonly ok: true } | { readonly ok: false; readonly reason: RefusalReason };

/**
 * Who the other members are: by key state, and, while a node that joins has none yet, by what the member said that let
 * it in.
 */
export class PeerDirectory {
  readonly #state: () => KeyStateQueries;
  #introduced: readonly PeerAddress[] = [];

  constructor(state: () => KeyStateQueries) {
    this.#state = state;
  }

  /** Members that an answer to our joining named. */
  introduced(peers: readonly PeerAddress[]): void {
    this.#introduced = peers;
  }

  /** Members to connect to, ourselves included. */
  addresses(): readonly PeerAddress[] {
    const members = [...this.#state().members()].filter(({ status }) => status !== 'invited');
    return members.length > 0 ? members : this.#introduced;
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
    const introduced = this.#introduced.find(({ memberId }) => memberId === from);
    return introduced === undefined ? { ok: false, reason: 'unknown' } : byName(introduced.name, names);
  }
}

const byName = (name: string, names: readonly string[]): Authorization =>
  names.includes(name) ? { ok: true } : { ok: false, reason: 'wrong-name' };
