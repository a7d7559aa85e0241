/** Timers as the rest of the code sees them; composition roots pass the real ones, tests virtual ones. */
export interface Timers {
  /** Calls `run` once, `delayMs` from now (0: in the next turn), unless the function returned is called before. */
  after(delayMs: number, run: () => void): () => void;
}

export const systemTimers: Timers = {
  after: (delayMs, run) => {
    if (delayMs === 0) {
      const turn = setImmediate(run);
      return () => clearImmediate(turn);
    }
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
};
