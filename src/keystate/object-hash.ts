import { encodeRecord, type ObjectKind, type RecordValues } from './snapshot-records.js';
import { StateHash } from './state-hash.js';

/** The hash over key state's objects, each as a snapshot has it. */
export class ObjectHash {
  readonly #hash = new StateHash();
  #format = 1;

  /** @param encoded `value` as its record, where it is at hand: a restore has all of them. */
  add<K extends ObjectKind>(kind: K, value: RecordValues[K], encoded?: Uint8Array): void {
    this.#hash.add(encoded ?? encodeRecord(kind, value));
  }

  remove<K extends ObjectKind>(kind: K, value: RecordValues[K]): void {
    this.#hash.remove(encodeRecord(kind, value));
  }

  replace<K extends ObjectKind>(
    kind: K,
    before: RecordValues[K] | null | undefined,
    after: RecordValues[K],
    encoded?: Uint8Array,
  ): void {
    if (before !== null && before !== undefined) this.remove(kind, before);
    this.add(kind, after, encoded);
  }

  /** The active format, which snapshots have in their header. */
  setFormat(format: number): void {
    this.#hash.remove(formatObject(this.#format));
    this.#hash.add(formatObject(format));
    this.#format = format;
  }

  hex(): string {
    return this.#hash.hex();
  }
}

const formatObject = (format: number): Uint8Array => Buffer.from(`format ${format}`, 'latin1');
