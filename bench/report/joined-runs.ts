import { LatencyHistogram } from '../driver/latency-histogram.js';
import type { LoadResult } from '../driver/load-run.js';
import type { SeriesPoint } from '../driver/load-series.js';
import { latencyOf, type ProcessFigures, type RunReport } from './bench-report.js';

/** Several runs of one shape, on the same processes, as if they had been one after the other. */
export function joinRuns(name: string, runs: readonly RunReport[]): RunReport {
  const [first] = runs;
  if (first === undefined) throw new Error('there is nothing to join');
  const loads = runs.map(({ load }) => load);
  const sum = (figure: (load: LoadResult) => number): number =>
    loads.reduce((total, load) => total + figure(load), 0);
  const latency = new LatencyHistogram();
  for (const load of loads) latency.add(latencyOf(load));
  const failures: Record<string, number> = {};
  for (const load of loads)
    for (const [reason, count] of Object.entries(load.failures))
      failures[reason] = (failures[reason] ?? 0) + count;
  const seconds = sum(({ shape }) => shape.seconds);
  const verified = runs.flatMap(({ verification }) => verification ?? []);
  return {
    name,
    load: {
      shape: { ...first.load.shape, seconds },
      scheduled: sum(({ scheduled }) => scheduled),
      sent: sum(({ sent }) => sent),
      answered: sum(({ answered }) => answered),
      dropped: sum(({ dropped }) => dropped),
      late: sum(({ late }) => late),
      failures,
      latency: { counts: latency.sparse(), maxMicros: latency.maxMicros },
      series: joinSeries(loads),
      elapsedMs: sum(({ elapsedMs }) => elapsedMs),
      driverCpuMicros: sum(({ driverCpuMicros }) => driverCpuMicros),
    },
    verification:
      verified.length === 0
        ? null
        : {
            verified: verified.reduce((total, one) => total + one.verified, 0),
            wrong: verified.reduce((total, one) => total + one.wrong, 0),
            firstFault: verified.find(({ firstFault }) => firstFault !== null)?.firstFault ?? null,
          },
    processes: joinProcesses(runs),
  };
}

function joinSeries(loads: readonly LoadResult[]): readonly SeriesPoint[] {
  let startSeconds = 0;
  return loads.flatMap(({ series, shape }) => {
    const points = series.map((point) => ({ ...point, atSeconds: point.atSeconds + startSeconds }));
    startSeconds += shape.seconds;
    return points;
  });
}

/** CPU added up, memory of the last run. Processes that were not there all the time are left out. */
function joinProcesses(runs: readonly RunReport[]): readonly ProcessFigures[] {
  return (runs.at(-1)?.processes ?? []).flatMap((last) => {
    const each = runs.map(({ processes }) => processes.find(({ pid }) => pid === last.pid));
    if (each.includes(undefined)) return [];
    return [{ ...last, cpuMicros: each.reduce((total, one) => total + (one?.cpuMicros ?? 0), 0) }];
  });
}
