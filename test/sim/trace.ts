/** Lines kept for whoever looks into a violation. */
const linesMax = 50_000;

/**
 * What happened, as a running hash over every event; and as readable lines when asked for. Two runs of one seed have the
 * same hash, or something in them isn't drawn from the seed.
 */
export class Trace {
  #low = 0x811c9dc5;
  #high = 0x2545f491;
  readonly #lines: string[] | null;

  constructor(readable: boolean) {
    this.#lines = readable ? [] : null;
  }

  get readable(): boolean {
    return this.#lines !== null;
  }

  mix(value: number): void {
    this.#low = Math.imul(this.#low ^ (value | 0), 0x01000193);
    this.#high = (Math.imul(this.#high, 31) + (this.#low >>> 7)) | 0;
  }

  mixText(text: string): void {
    for (let i = 0; i < text.length; i += 1) this.mix(text.charCodeAt(i));
  }

  /** @param line only made when somebody reads it. */
  say(atMs: number, line: () => string): void {
    const lines = this.#lines;
    if (lines === null) return;
    if (lines.length >= 2 * linesMax) lines.splice(0, linesMax);
    lines.push(`${(atMs / 1_000).toFixed(4).padStart(10)}  ${line()}`);
  }

  hash(): string {
    return (this.#high >>> 0).toString(16).padStart(8, '0') + (this.#low >>> 0).toString(16).padStart(8, '0');
  }

  tail(count: number): readonly string[] {
    return this.#lines?.slice(-count) ?? [];
  }
}
