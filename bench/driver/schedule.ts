/** When an open-loop driver sends: at fixed times, whatever becomes of the answers. */
export interface Schedule {
  /** Requests in all. */
  readonly total: number;
  /** Milliseconds after the start at which request `sequence` (from 0) is due. */
  dueMs(sequence: number): number;
  /** How many requests are due within the first `elapsedMs`, that moment included. */
  dueBy(elapsedMs: number): number;
}

/** `rate` requests a second for `seconds`, evenly. */
export function evenSchedule(rate: number, seconds: number): Schedule {
  const total = Math.round(rate * seconds);
  const intervalMs = 1_000 / rate;
  return {
    total,
    dueMs: (sequence) => sequence * intervalMs,
    dueBy: (elapsedMs) =>
      elapsedMs < 0 ? 0 : Math.min(total, Math.floor(elapsedMs / intervalMs + 1e-9) + 1),
  };
}

/** Whether request `sequence` of a mix is an Encrypt, `share` (0 to 1) of all being so, spread evenly. */
export function isEncrypt(sequence: number, share: number): boolean {
  return Math.floor((sequence + 1) * share + 1e-9) > Math.floor(sequence * share + 1e-9);
}
