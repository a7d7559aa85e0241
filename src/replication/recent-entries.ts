import type { AppliedEntry } from './ordered-log.js';

/** Entries applied last that are remembered: an answer to a forwarded proposal may come after its entry. */
export const recentEntriesMax = 512;

/** The last entries applied here, by index, each with its term. */
export class RecentEntries<R> {
  readonly #entries: (AppliedEntry<R> | undefined)[] = new Array(recentEntriesMax);
  readonly #terms: number[] = new Array(recentEntriesMax).fill(0);

  add(term: number, entry: AppliedEntry<R>): void {
    const place = entry.index % recentEntriesMax;
    this.#entries[place] = entry;
    this.#terms[place] = term;
  }

  /** `null`: applied too long ago, or jumped over by a snapshot. */
  find(index: number): { readonly term: number; readonly entry: AppliedEntry<R> } | null {
    const place = index % recentEntriesMax;
    const entry = this.#entries[place];
    if (entry === undefined || entry.index !== index) return null;
    return { term: this.#terms[place] ?? 0, entry };
  }
}
