interface Inflight {
  readonly lastIndex: number;
  readonly bytes: number;
}

/** Appends sent to one member and not answered yet, oldest first: bounded in number and in bytes of entries. */
export class Inflights {
  readonly #messagesMax: number;
  readonly #bytesMax: number;
  readonly #sent: Inflight[] = [];
  #bytes = 0;

  constructor(limits: { readonly inflightMessagesMax: number; readonly inflightBytesMax: number }) {
    this.#messagesMax = limits.inflightMessagesMax;
    this.#bytesMax = limits.inflightBytesMax;
  }

  get count(): number {
    return this.#sent.length;
  }

  /** Full of bytes is found after the fact: the append that fills it was still sent. */
  get full(): boolean {
    return this.#sent.length >= this.#messagesMax || this.#bytes >= this.#bytesMax;
  }

  add(lastIndex: number, bytes: number): void {
    this.#sent.push({ lastIndex, bytes });
    this.#bytes += bytes;
  }

  /** All that end at or before `index` have arrived. */
  freeTo(index: number): void {
    let freed = 0;
    for (const { lastIndex, bytes } of this.#sent) {
      if (lastIndex > index) break;
      freed += 1;
      this.#bytes -= bytes;
    }
    if (freed > 0) this.#sent.splice(0, freed);
  }

  clear(): void {
    this.#sent.length = 0;
    this.#bytes = 0;
  }
}
