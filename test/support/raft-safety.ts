import type { Entry, MemberId, Ready } from '../../src/raft/types.js';
import { decode, type TestMember } from './raft-cluster.js';

/** The properties of the paper's figure 3, and some more, over everything that members do. Throws at the first breach. */
export class RaftSafety {
  readonly #leaders = new Map<number, MemberId>();
  readonly #votes = new Map<string, MemberId>();
  /** By `index@term`. */
  readonly #entries = new Map<string, string>();
  readonly #applied: (string | undefined)[] = [];
  readonly #seen = new Map<MemberId, { readonly term: number; readonly commitIndex: number }>();
  /** Greatest index applied anywhere. */
  appliedIndex = 0;
  elections = 0;

  static #fail(message: string): never {
    throw new Error(message);
  }

  /** After each input to `member`. */
  observe(member: TestMember): void {
    const { role, term, commitIndex } = member.node.status();
    const before = this.#seen.get(member.id);
    if (before !== undefined && before.term > term) RaftSafety.#fail(`${member.id}: term fell to ${term}`);
    if (before !== undefined && before.commitIndex > commitIndex) {
      RaftSafety.#fail(`${member.id}: commit index fell from ${before.commitIndex} to ${commitIndex}`);
    }
    this.#seen.set(member.id, { term, commitIndex });
    if (role !== 'leader') return;
    const leader = this.#leaders.get(term);
    if (leader === member.id) return;
    if (leader !== undefined)
      RaftSafety.#fail(`election safety: ${leader} and ${member.id} lead term ${term}`);
    this.#leaders.set(term, member.id);
    this.elections += 1;
    for (let index = member.node.status().firstIndex; index < this.#applied.length; index += 1) {
      const entry = member.node.entry(index);
      const applied = this.#applied[index];
      if (applied !== undefined && (entry === null || RaftSafety.#key(entry) !== applied)) {
        RaftSafety.#fail(`leader completeness: leader ${member.id} of term ${term} lacks ${applied}`);
      }
    }
  }

  static #key = ({ index, term }: Entry): string => `${index}@${term}`;

  /** Before `ready` is persisted. */
  check(member: TestMember, ready: Ready): void {
    const { entries, hardState, committed } = ready;
    if (hardState !== null && hardState.votedFor !== null) {
      const key = `${member.id} in ${hardState.term}`;
      const vote = this.#votes.get(key) ?? hardState.votedFor;
      if (vote !== hardState.votedFor) RaftSafety.#fail(`${key} voted twice`);
      this.#votes.set(key, vote);
    }
    const first = entries[0]?.index ?? 0;
    let previous = member.disk.entries.find(({ index }) => index === first - 1) ?? null;
    for (const entry of entries) {
      const key = RaftSafety.#key(entry);
      const content = `${entry.kind} ${decode(entry.data)}`;
      const known = this.#entries.get(key) ?? content;
      if (known !== content) RaftSafety.#fail(`log matching: ${key} is ${known} and ${content}`);
      this.#entries.set(key, content);
      if (previous !== null) {
        const chain = `before ${key}`;
        const before = RaftSafety.#key(previous);
        if ((this.#entries.get(chain) ?? before) !== before) RaftSafety.#fail(`log matching ${chain}`);
        this.#entries.set(chain, before);
      }
      previous = entry;
    }
    for (const entry of committed) {
      const key = RaftSafety.#key(entry);
      const applied = this.#applied[entry.index] ?? key;
      if (applied !== key) RaftSafety.#fail(`state machine safety: ${applied} and ${key} applied`);
      this.#applied[entry.index] = key;
      this.appliedIndex = Math.max(this.appliedIndex, entry.index);
    }
  }

  /** A crash may forget what was not durable. */
  crashed(member: TestMember): void {
    const { term, commitIndex } = member.disk.hardState;
    this.#seen.set(member.id, { term, commitIndex });
  }
}
