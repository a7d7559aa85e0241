import type { LogPosition } from '../../../src/raft/types.js';
import type { CommittedEntries } from './committed-entries.js';
import type { Verdict } from './verdict.js';

interface Acknowledged {
  /** True time. */
  readonly atMs: number;
  /** The greatest index acknowledged by then. */
  readonly index: number;
}

/**
 * What was acknowledged to clients and when: it must be there for good; a read that starts afterwards must see it; and
 * nobody may call himself fresh as of a moment at which he lacked it.
 */
export class Acknowledgements {
  readonly #verdict: Verdict;
  readonly #committed: CommittedEntries;
  /** Only where the index rises. */
  readonly #rises: Acknowledged[] = [];
  readonly #requests = new Map<number, number>();

  constructor(verdict: Verdict, committed: CommittedEntries) {
    this.#verdict = verdict;
    this.#committed = committed;
  }

  /** Greatest index acknowledged so far. */
  get index(): number {
    return this.#rises.at(-1)?.index ?? 0;
  }

  /** Where each request acknowledged is. */
  *positions(): Iterable<readonly [request: number, position: LogPosition]> {
    for (const [request, index] of this.#requests) {
      const entry = this.#committed.at(index);
      if (entry !== null) yield [request, entry];
    }
  }

  acknowledged(atMs: number, index: number, request: number, command: Uint8Array): void {
    const entry = this.#committed.at(index);
    if (entry === null) {
      this.#verdict.broken(
        'acknowledged is present',
        `index ${index} was acknowledged before it was applied`,
      );
    } else if (entry.data !== command && Buffer.compare(entry.data, command) !== 0) {
      this.#verdict.broken('acknowledged is present', `request ${request} is not what index ${index} holds`);
    }
    this.#requests.set(request, index);
    if (index > this.index) this.#rises.push({ atMs, index });
  }

  /** A read that started when `index` was `startIndex` ended with `index` at a node that has applied `appliedIndex`. */
  read(member: string, startIndex: number, index: number, appliedIndex: number): void {
    if (index < startIndex) {
      this.#verdict.broken(
        'linearizable reads',
        `a read at ${member} got index ${index}; ${startIndex} was acknowledged before it began`,
      );
    }
    if (appliedIndex < index) {
      this.#verdict.broken(
        'linearizable reads',
        `a read at ${member} got index ${index}, which it has yet to apply (${appliedIndex})`,
      );
    }
  }

  /** `member` calls itself fresh as of true time `asOfMs` with all up to `index`. */
  fresh(member: string, asOfMs: number, index: number, appliedIndex: number): void {
    const acknowledged = this.#indexBefore(asOfMs);
    if (acknowledged > index) {
      this.#verdict.broken(
        'freshness',
        `${member} is fresh as of ${asOfMs.toFixed(3)} ms with index ${index}; ${acknowledged} was acknowledged before`,
      );
    }
    if (appliedIndex < index) {
      this.#verdict.broken(
        'freshness',
        `${member} is fresh with index ${index} and has applied ${appliedIndex}`,
      );
    }
  }

  /** The greatest index acknowledged before `atMs`. */
  #indexBefore(atMs: number): number {
    let low = 0;
    let high = this.#rises.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#rises[middle]?.atMs ?? 0) < atMs) low = middle + 1;
      else high = middle;
    }
    return this.#rises[low - 1]?.index ?? 0;
  }

  /** At the end: `member` has applied all up to `appliedIndex`. */
  finallyAt(member: string, appliedIndex: number): void {
    if (appliedIndex >= this.index) return;
    this.#verdict.broken(
      'acknowledged is present',
      `${member} ends with index ${appliedIndex}; ${this.index} was acknowledged`,
    );
  }
}
