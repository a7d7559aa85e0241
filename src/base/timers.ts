/** Timers as the rest of the code sees them; composition roots pass the real ones, tests virtual ones. */
export interface Timers {
  /** Calls `run` once, `delayMs` from now, unless the function returned is called before. */
  after(delayMs: number, run: () => void): () => void;
}

export const systemTimers: Timers = {
  after: (delayMs, run) => {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
};
