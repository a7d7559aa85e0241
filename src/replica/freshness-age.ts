import type { ClusterControl } from './cluster-control.js';

/**
 * How old what this node knows may be, ms: since a quorum last confirmed that it knew everything; `null`: none has since
 * this replica started.
 */
export function freshnessAgeMs(engine: Pick<ClusterControl, 'status' | 'bootTimeMs'>): number | null {
  const { freshAsOfMs } = engine.status();
  return freshAsOfMs === null ? null : Math.max(0, Math.round(engine.bootTimeMs() - freshAsOfMs));
}
