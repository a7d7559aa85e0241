import { invariant } from './guards.js';

/** An entry of one list at a time, which keeps its place in it; both `null` before. */
export interface Arrival<T> {
  /** The list's own. */
  before: T | null;
  after: T | null;
}

/**
 * Entries in the order in which they came, each taken out from wherever it is, without an allocation. A `Set` does the
 * same, but makes itself a new table after every few removals: where entries come and go with each request, tables that
 * have grown old keep alive those that took their place, and the garbage collector moves them for nothing.
 */
export class ArrivalList<T extends Arrival<T>> {
  #first: T | null = null;
  #last: T | null = null;
  #size = 0;

  get first(): T | null {
    return this.#first;
  }

  get size(): number {
    return this.#size;
  }

  /** `entry` is in no list. */
  add(entry: T): void {
    invariant(entry.before === null && entry.after === null && this.#last !== entry, 'in a list already');
    entry.before = this.#last;
    if (this.#last === null) this.#first = entry;
    else this.#last.after = entry;
    this.#last = entry;
    this.#size += 1;
  }

  /** `entry` is in this list. */
  remove(entry: T): void {
    const { before, after } = entry;
    if (before === null) {
      // Else all the others would be lost with an entry that is no more in it.
      invariant(this.#first === entry, 'not in this list');
      this.#first = after;
    } else before.after = after;
    if (after === null) this.#last = before;
    else after.before = before;
    entry.before = null;
    entry.after = null;
    this.#size -= 1;
  }

  /** In their order. `visit` may take out the entry that it is given, and no other; what it adds may be left out. */
  each(visit: (entry: T) => void): void {
    let entry = this.#first;
    while (entry !== null) {
      const { after } = entry;
      visit(entry);
      entry = after;
    }
  }
}
