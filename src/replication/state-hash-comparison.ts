import type { MemberId } from '../raft/types.js';

/** Of a member's own hashes that are kept and reported. */
export const stateHashesMax = 64;
/** Members whose hashes are kept. */
const comparedMembersMax = 64;

export interface StateHash {
  readonly index: number;
  /** Hexadecimal. */
  readonly hash: string;
}

/**
 * The hashes of all members' states, compared at equal indexes (replication.md 9). It says who differs; a member is in
 * the minority only by a majority of those voters that reported the index, who are a majority of the voters.
 */
export class StateHashComparison {
  readonly #memberId: MemberId;
  /** By index, ascending. */
  #own: StateHash[] = [];
  readonly #reported = new Map<MemberId, readonly StateHash[]>();
  /** Index of the newest difference. */
  readonly #divergent = new Map<MemberId, number>();

  constructor(memberId: MemberId) {
    this.#memberId = memberId;
  }

  get own(): readonly StateHash[] {
    return this.#own;
  }

  get divergent(): readonly MemberId[] {
    return [...this.#divergent.keys()];
  }

  /** Our state's as of `index`, later than those before. Members found to differ, who did not before. */
  note(index: number, hash: string): readonly { readonly memberId: MemberId; readonly index: number }[] {
    this.#own = [...this.#own.slice(1 - stateHashesMax), { index, hash }];
    return [...this.#reported.keys()].flatMap((memberId) => this.#compare(memberId));
  }

  /** A member's, by index, ascending. */
  reported(
    memberId: MemberId,
    hashes: readonly StateHash[],
  ): readonly { readonly memberId: MemberId; readonly index: number }[] {
    if (!this.#reported.has(memberId) && this.#reported.size >= comparedMembersMax) return [];
    this.#reported.set(memberId, hashes.slice(-stateHashesMax));
    return this.#compare(memberId);
  }

  /** Our state was replaced as a whole: what it was before says nothing about it. */
  restored(): void {
    this.#own = [];
    this.#divergent.clear();
  }

  retain(members: ReadonlySet<MemberId>): void {
    for (const memberId of [...this.#reported.keys()]) {
      if (members.has(memberId)) continue;
      this.#reported.delete(memberId);
      this.#divergent.delete(memberId);
    }
  }

  /** The newest index at which a majority has another hash than we have; `null` when there is none. */
  minorityAt(voters: readonly MemberId[]): number | null {
    if (this.#divergent.size === 0) return null;
    const newestFirst = [...this.#own].reverse();
    return newestFirst.find((own) => this.#inMinority(own, voters))?.index ?? null;
  }

  #inMinority(own: StateHash, voters: readonly MemberId[]): boolean {
    const counts = new Map<string, number>();
    let reporters = 0;
    for (const voter of voters) {
      const hash =
        voter === this.#memberId
          ? own.hash
          : this.#reported.get(voter)?.find(({ index }) => index === own.index)?.hash;
      if (hash === undefined) continue;
      reporters += 1;
      counts.set(hash, (counts.get(hash) ?? 0) + 1);
    }
    if (reporters * 2 <= voters.length) return false;
    for (const [hash, count] of counts) if (hash !== own.hash && count * 2 > reporters) return true;
    return false;
  }

  /** At the newest index that both have: an equal state there is an equal state. */
  #compare(memberId: MemberId): readonly { readonly memberId: MemberId; readonly index: number }[] {
    const theirs = this.#reported.get(memberId) ?? [];
    let mine = this.#own.length - 1;
    let other = theirs.length - 1;
    for (;;) {
      const left = this.#own[mine];
      const right = theirs[other];
      if (left === undefined || right === undefined) return [];
      if (left.index > right.index) mine -= 1;
      else if (right.index > left.index) other -= 1;
      else if (left.hash === right.hash) {
        this.#divergent.delete(memberId);
        return [];
      } else {
        const before = this.#divergent.has(memberId);
        this.#divergent.set(memberId, left.index);
        return before ? [] : [{ memberId, index: left.index }];
      }
    }
  }
}
