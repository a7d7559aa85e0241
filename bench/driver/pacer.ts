import { performance } from 'node:perf_hooks';

/** Shorter waits are taken in slices; Node's own timers know whole milliseconds only. */
const sliceFromMs = 2;
const sliceMs = 0.1;

const slice = new Int32Array(new SharedArrayBuffer(4));

/**
 * Calls `turn` as soon as it is due, to a tenth of a millisecond or two: `turn` returns when it wants to be called
 * next, `null` never. The event loop goes on in between.
 */
export function pace(turn: () => number | null): void {
  const step = (): void => {
    const dueMs = turn();
    if (dueMs === null) return;
    const waitMs = dueMs - performance.now();
    if (waitMs >= sliceFromMs) {
      setTimeout(step, Math.floor(waitMs - 1));
      return;
    }
    // The kernel sleeps; an answer that comes meanwhile waits no longer than the slice.
    if (waitMs > 0) Atomics.wait(slice, 0, 0, Math.min(waitMs, sliceMs));
    setImmediate(step);
  };
  step();
}
