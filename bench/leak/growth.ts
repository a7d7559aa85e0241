/** How something that ought to stay as it is went over time. Pure. */

export interface Point {
  readonly atSeconds: number;
  readonly value: number;
}

/** Until caches are filled, and heaps and pools have found their size, nothing can be said: that share of the time is left out. */
export const settlingShare = 1 / 3;

/** Least-squares slope, per second; 0 for fewer than two points. */
export function slopePerSecond(points: readonly Point[]): number {
  const meanAt = points.reduce((sum, { atSeconds }) => sum + atSeconds, 0) / points.length;
  const mean = points.reduce((sum, { value }) => sum + value, 0) / points.length;
  let covariance = 0;
  let variance = 0;
  for (const { atSeconds, value } of points) {
    covariance += (atSeconds - meanAt) * (value - mean);
    variance += (atSeconds - meanAt) ** 2;
  }
  return variance === 0 ? 0 : covariance / variance;
}

/** Those of a run's points by which it is judged. */
export function settled(points: readonly Point[]): readonly Point[] {
  const last = points.at(-1)?.atSeconds ?? 0;
  return points.filter(({ atSeconds }) => atSeconds >= last * settlingShare);
}

/** What it would have grown by in the time that was judged, going by the slope. */
export function growth(points: readonly Point[]): number {
  const judged = settled(points);
  const [first] = judged;
  const last = judged.at(-1);
  return first === undefined || last === undefined
    ? 0
    : slopePerSecond(judged) * (last.atSeconds - first.atSeconds);
}
