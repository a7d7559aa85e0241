import { invariant } from '../base/guards.js';
import type { KeptRecord, KeptRecords } from './kept-records.js';
import type { ObjectHash } from './object-hash.js';
import { encodeRecord } from './snapshot-records.js';
import type { CommandRefusal } from './types.js';

export const requestLimits = {
  /** Remembered; over half an hour of changes at ten a second. */
  requestIdsMax: 20_000,
  /** An id this much older than its own command's time is refused, and those remembered are forgotten. */
  horizonMs: 24 * 3_600_000,
  /**
   * Forgotten with one command, at most: a node's serving processes do this between requests, and after a quiet week
   * all ids are due at once.
   */
  prunesPerCommandMax: 4,
  floorsMax: 64,
  refusalCharactersMax: 512,
} as const;

/** What became of a request id's command. */
export interface RequestRecord {
  readonly requestId: string;
  /** Where it was executed. */
  readonly index: number;
  /** What was to be changed: `changeDigest`. */
  readonly change: string;
  /** One of the two is `null`. */
  readonly revision: number | null;
  readonly refusal: CommandRefusal | null;
}

const movesUpAfter = 1_024;

/** Ids whose first six digits are the same were minted within 2^24 ms (4.7 hours). */
const spanOf = (requestId: string): string => requestId.slice(0, 6);

/**
 * Request ids that were executed lately, in order of their time, and how far they have been forgotten. Ids are
 * forgotten from the oldest on; the newest one forgotten within its span of time is that span's _floor_, and no id at
 * or below the floor of its span can execute any more. A floor for each span, not one for all: a node whose clock ran
 * years ahead leaves a floor there, and nothing of today is below it.
 */
export class RequestTable {
  readonly #hash: ObjectHash;
  readonly #kept: KeptRecords | null;
  readonly #records = new Map<string, RequestRecord>();
  /** Ascending from `#first` on; what is before it is forgotten. */
  #ids: string[] = [];
  #first = 0;
  /** By span. */
  readonly #floors = new Map<string, string>();

  /** @param kept the records, for snapshots; `null`: they are not kept. */
  constructor(hash: ObjectHash, kept: KeptRecords | null) {
    this.#hash = hash;
    this.#kept = kept;
  }

  get(requestId: string): RequestRecord | null {
    return this.#records.get(requestId) ?? null;
  }

  get size(): number {
    return this.#records.size;
  }

  get floorCount(): number {
    return this.#floors.size;
  }

  /** In order of time. */
  records(): Iterable<RequestRecord> {
    return this.#inOrder(this.#records);
  }

  /** `records` as a snapshot has them, in the same order; `null` where they are not kept. */
  keptRecords(): Iterable<KeptRecord> | null {
    return this.#kept === null ? null : this.#inOrder(this.#kept);
  }

  *#inOrder<T>(found: { get(id: string): T | undefined }): Iterable<T> {
    for (let place = this.#first; place < this.#ids.length; place += 1) {
      const record = found.get(this.#ids[place] ?? '');
      if (record !== undefined) yield record;
    }
  }

  /** Newest id forgotten of each span, in the order in which spans got one. */
  floors(): Iterable<string> {
    return this.#floors.values();
  }

  /** Whether an id that is not remembered may have been. */
  isForgotten(requestId: string): boolean {
    const floor = this.#floors.get(spanOf(requestId));
    if (floor !== undefined) return requestId <= floor;
    return this.#floors.size >= requestLimits.floorsMax && spanOf(requestId) < this.#oldestSpan();
  }

  /** Remembers an id that neither is nor may have been. @param encoded its record, where it is at hand. */
  put(record: RequestRecord, encoded: Uint8Array = encodeRecord('request', record)): void {
    const { requestId } = record;
    invariant(!this.#records.has(requestId), `request ${requestId} twice`);
    this.#records.set(requestId, record);
    this.#ids.splice(this.#placeOf(requestId), 0, requestId);
    this.#hash.add('request', record, encoded);
    this.#kept?.put(requestId, encoded);
  }

  /** Forgets the oldest: those beyond the limit, and some of those before `beforeId`. */
  prune(beforeId: string): void {
    for (let count = 0; count < requestLimits.prunesPerCommandMax; count += 1) {
      const oldest = this.#ids[this.#first];
      if (oldest === undefined) return;
      if (this.size <= requestLimits.requestIdsMax && oldest >= beforeId) return;
      this.#forget(oldest);
    }
  }

  /** @returns false when there are `floorsMax` already, or one of its span. */
  putFloor(requestId: string): boolean {
    if (this.#floors.size >= requestLimits.floorsMax || this.#floors.has(spanOf(requestId))) return false;
    this.#setFloor(requestId);
    return true;
  }

  #forget(oldest: string): void {
    const record = this.#records.get(oldest);
    invariant(record !== undefined, `request ${oldest} is listed and not there`);
    this.#first += 1;
    // Moved up once in a while, not at every one.
    if (this.#first >= movesUpAfter) {
      this.#ids = this.#ids.slice(this.#first);
      this.#first = 0;
    }
    this.#records.delete(oldest);
    this.#kept?.delete(oldest);
    this.#hash.remove('request', record);
    this.#setFloor(oldest);
    if (this.#floors.size <= requestLimits.floorsMax) return;
    const [first = '', second = ''] = [...this.#floors.keys()].sort();
    // What is below the oldest is closed. Where the others are far above it they are a clock's that runs ahead, and
    // nothing of today would be above them: of those the oldest goes, which is beyond the horizon of that clock.
    const isApart = Number.parseInt(second, 16) - Number.parseInt(first, 16) > requestLimits.floorsMax;
    this.#dropFloor(isApart ? second : first);
  }

  #setFloor(requestId: string): void {
    const span = spanOf(requestId);
    const before = this.#floors.get(span);
    if (before !== undefined && before >= requestId) return;
    this.#dropFloor(span);
    this.#floors.set(span, requestId);
    this.#hash.add('requestFloor', { requestId });
  }

  #dropFloor(span: string): void {
    const requestId = this.#floors.get(span);
    if (requestId === undefined) return;
    this.#floors.delete(span);
    this.#hash.remove('requestFloor', { requestId });
  }

  #oldestSpan(): string {
    let oldest = 'g';
    for (const span of this.#floors.keys()) if (span < oldest) oldest = span;
    return oldest;
  }

  #placeOf(requestId: string): number {
    let low = this.#first;
    let high = this.#ids.length;
    // Nearly always the newest.
    if (low === high || requestId > (this.#ids[high - 1] ?? '')) return high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ids[middle] ?? '') < requestId) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
