/** Time as the rest of the code sees it; composition roots pass the real one, tests a virtual one. */
export interface Clock {
  /** Wall-clock time in milliseconds since the Unix epoch. May jump. For timestamps and SigV4 dates only. */
  wallMs(): number;
  /** Milliseconds from an arbitrary origin, never going back. For deadlines and durations. */
  monotonicMs(): number;
}

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};
