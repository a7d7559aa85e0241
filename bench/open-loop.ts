import { performance } from 'node:perf_hooks';

export interface OpenLoopOptions {
  /** Requests per second. */
  readonly rate: number;
  readonly durationSeconds: number;
  /** Requests on the way at once; one that would exceed it is not sent and counts as dropped. */
  readonly inFlightMax: number;
  /** Told of each success: when it was scheduled (`performance.now()`), and how long from then to the answer. */
  readonly onAnswer?: (scheduledMs: number, latencyMs: number) => void;
}

export interface OpenLoopResult {
  readonly sent: number;
  readonly dropped: number;
  /** What went wrong → how often. */
  readonly failures: Readonly<Record<string, number>>;
  /** Milliseconds from the *scheduled* time to the answer, ascending: no coordinated omission. */
  readonly latenciesMs: Float64Array;
}

/**
 * Sends at fixed times whether or not earlier answers came back. `send` resolves to `null`, or to what went wrong.
 */
export function openLoop(
  options: OpenLoopOptions,
  send: (sequence: number) => Promise<string | null>,
): Promise<OpenLoopResult> {
  const total = Math.round(options.rate * options.durationSeconds);
  const intervalMs = 1_000 / options.rate;
  const latencies = new Float64Array(total);
  const failures: Record<string, number> = {};
  let [next, answered, inFlight, dropped] = [0, 0, 0, 0];
  const startMs = performance.now();
  return new Promise((resolve) => {
    const finishWhenDone = (): void => {
      if (next < total || inFlight > 0) return;
      resolve({
        sent: total - dropped,
        dropped,
        failures,
        latenciesMs: latencies.subarray(0, answered).sort(),
      });
    };
    const settle = (scheduledMs: number, failure: string | null): void => {
      inFlight -= 1;
      if (failure === null) {
        const latencyMs = performance.now() - scheduledMs;
        latencies[answered] = latencyMs;
        options.onAnswer?.(scheduledMs, latencyMs);
        answered += 1;
      } else {
        // Bounded: a failure text per request would be a table without end.
        const name = Object.keys(failures).length < 20 || failure in failures ? failure : 'other';
        failures[name] = (failures[name] ?? 0) + 1;
      }
      finishWhenDone();
    };
    const turn = (): void => {
      const nowMs = performance.now();
      while (next < total && startMs + next * intervalMs <= nowMs) {
        const scheduledMs = startMs + next * intervalMs;
        const sequence = next;
        next += 1;
        if (inFlight >= options.inFlightMax) {
          dropped += 1;
          continue;
        }
        inFlight += 1;
        send(sequence).then(
          (failure) => settle(scheduledMs, failure),
          (thrown: unknown) => settle(scheduledMs, String(thrown)),
        );
      }
      if (next < total) setTimeout(turn, Math.max(0, startMs + next * intervalMs - performance.now()));
      else finishWhenDone();
    };
    turn();
  });
}

/** `fraction` of the values of an ascending array are at most this; `NaN` of none. */
export function percentile(ascending: Float64Array, fraction: number): number {
  return ascending[Math.min(ascending.length - 1, Math.ceil(ascending.length * fraction) - 1)] ?? Number.NaN;
}
