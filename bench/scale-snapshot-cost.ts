import { percentile } from './open-loop.js';
import type { Findings } from './scale-findings.js';
import type { Interval } from './scale-watch.js';

/** What p99 of the requests begun during a snapshot may be, to that without. */
const ratioMax = 1.25;
/** The 99th percentile of fewer is their slowest alone. */
const requestsMin = 100;

/** An answered request. */
export interface Sample {
  readonly scheduledMs: number;
  readonly latencyMs: number;
}

/** What was sent in all turns with a snapshot, and in as many without. */
export interface SnapshotTurns {
  readonly without: readonly Sample[];
  readonly among: readonly Sample[];
  /** When a snapshot was being made in the turns with one. */
  readonly snapshots: readonly Interval[];
}

const p99 = (samples: readonly Sample[]): number =>
  percentile(Float64Array.from(samples.map(({ latencyMs }) => latencyMs)).sort(), 0.99);

/**
 * What a snapshot costs those whose requests come meanwhile. All of a turn would say little of it: a snapshot of less
 * than a hundredth of the turn, however long it holds them up, is beyond the turn's p99.
 */
export function judgeSnapshotCost({ without, among, snapshots }: SnapshotTurns, findings: Findings): void {
  const ms = (value: number): string => `${value.toFixed(1)} ms`;
  const during = among.filter(({ scheduledMs }) =>
    snapshots.some(({ fromMs, toMs }) => scheduledMs >= fromMs && scheduledMs <= toMs),
  );
  const ratio = p99(during) / p99(without);
  findings.note('p99 of the requests of the turns without a snapshot', ms(p99(without)));
  findings.note('p99 of all requests of the turns with one', ms(p99(among)));
  findings.note('p99 of the requests begun during one', ms(p99(during)));
  findings.judge(
    '  how many these were',
    String(during.length),
    `${requestsMin} or more`,
    during.length >= requestsMin,
  );
  findings.judge('  during/without', ratio.toFixed(2), `≤ ${ratioMax}`, ratio <= ratioMax);
}
