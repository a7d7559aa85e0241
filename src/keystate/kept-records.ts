/**
 * An object's record in one piece: a character of code 0 to 255 for each byte of its UTF-8. A string and no bytes: it
 * lies in the heap without a view or a piece of memory outside for each of 100,000.
 */
export type KeptRecord = string;

/**
 * The records of objects of which there are many, by the objects' ids: a snapshot copies them instead of making them
 * anew, which for 100,000 keys takes most of a second. For a process that writes snapshots; they cost as much memory as
 * a snapshot is long. They don't depend on the active format, no more than the state hash does, which is over the same
 * bytes: if ever a record did, a change of the format had to make all of both anew.
 */
export class KeptRecords {
  readonly #records = new Map<string, KeptRecord>();

  /** @param record copied. */
  put(id: string, record: Uint8Array): void {
    const bytes = Buffer.from(record.buffer, record.byteOffset, record.byteLength);
    this.#records.set(id, bytes.toString('latin1'));
  }

  get(id: string): KeptRecord | undefined {
    return this.#records.get(id);
  }

  delete(id: string): void {
    this.#records.delete(id);
  }

  /** In the order in which their ids first came. */
  all(): Iterable<KeptRecord> {
    return this.#records.values();
  }
}

/** Bytes that are allocated at once for copies: for each record by itself costs more than the copying. */
const slabBytes = 64 * 1024;

/** Makes bytes of kept records, many in one piece of memory. */
export class KeptRecordCopies {
  #slab = Buffer.alloc(0);
  #used = 0;

  copy(record: KeptRecord): Buffer {
    if (record.length > this.#slab.byteLength - this.#used) {
      this.#slab = Buffer.allocUnsafeSlow(Math.max(slabBytes, record.length));
      this.#used = 0;
    }
    const start = this.#used;
    this.#used += this.#slab.write(record, start, 'latin1');
    return this.#slab.subarray(start, this.#used);
  }
}
