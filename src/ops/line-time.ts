/** ISO 8601 in UTC with milliseconds; what changes only once a second is made only once a second. */
export class LineTime {
  #second = Number.NaN;
  #beforeMs = '';

  /** @param wallMs whole milliseconds since the Unix epoch. */
  text(wallMs: number): string {
    const second = Math.floor(wallMs / 1_000);
    if (second !== this.#second) {
      this.#second = second;
      this.#beforeMs = new Date(second * 1_000).toISOString().slice(0, -'000Z'.length);
    }
    return `${this.#beforeMs}${String(wallMs - second * 1_000).padStart(3, '0')}Z`;
  }
}
