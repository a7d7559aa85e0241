import { LatencyHistogram } from '../../bench/driver/latency-histogram.js';
import type { LoadResult } from '../../bench/driver/load-run.js';
import { failedOf, type RunReport } from '../../bench/report/bench-report.js';

/** A run of 200 requests without a fault, each answered in 1 ms for 100 µs of CPU, but for what is said. */
export function benchRun(name: string, load: Partial<LoadResult> = {}, cpuMicros = 20_000): RunReport {
  const latency = new LatencyHistogram();
  for (let answered = 0; answered < 200; answered++) latency.record(1_000);
  const all: LoadResult = {
    shape: { kind: 'open', rate: 100, seconds: 2 },
    scheduled: 200,
    sent: 200,
    answered: 200,
    dropped: 0,
    late: 0,
    failures: {},
    latency: { counts: latency.sparse(), maxMicros: latency.maxMicros },
    series: [],
    elapsedMs: 2_000,
    driverCpuMicros: 10_000,
    ...load,
  };
  return {
    name,
    // Each is accounted for.
    load: { ...all, scheduled: all.answered + failedOf(all) + all.dropped },
    verification: { verified: 10, wrong: 0, firstFault: null },
    processes: [{ pid: 1, role: 'serving', cpuMicros, pssKiB: 1_024 }],
  };
}
