import type { Verdict } from './verdict.js';

/** One operation on one register, as its client saw it. Values are unique: each is the request that wrote it. */
export interface RegisterOperation {
  readonly register: number;
  readonly kind: 'write' | 'read';
  readonly value: number;
  readonly invokedMs: number;
  /** Infinite: the client never learned; it may have happened at any time since, or not at all. */
  readonly respondedMs: number;
}

interface Cluster {
  readonly value: number;
  write: RegisterOperation | null;
  earliestResponseMs: number;
  latestInvocationMs: number;
  reads: number;
}

/** Value of a register that nothing was written to. */
export const initialValue = 0;

/**
 * Whether the history of each register is linearizable. With unique values it is known which write each read saw, and
 * Gibbons and Korach's zones decide in n log n: the operations of one value form a cluster; where all of a cluster
 * can't be at one moment, the register has its value throughout [first response, last invocation], and no other
 * cluster may need the register inside that.
 */
export function checkRegisters(operations: readonly RegisterOperation[], verdict: Verdict): void {
  const registers = new Map<number, RegisterOperation[]>();
  for (const operation of operations) {
    const list = registers.get(operation.register);
    if (list === undefined) registers.set(operation.register, [operation]);
    else list.push(operation);
  }
  for (const [register, list] of registers) {
    const problem = registerProblem(list);
    if (problem !== null) verdict.broken('linearizable history', `register ${register}: ${problem}`);
  }
}

function clustersOf(operations: readonly RegisterOperation[]): Map<number, Cluster> {
  const clusters = new Map<number, Cluster>();
  const clusterOf = (value: number): Cluster => {
    let cluster = clusters.get(value);
    if (cluster === undefined) {
      cluster = {
        value,
        write: null,
        earliestResponseMs: Number.POSITIVE_INFINITY,
        latestInvocationMs: Number.NEGATIVE_INFINITY,
        reads: 0,
      };
      clusters.set(value, cluster);
    }
    return cluster;
  };
  const initial = clusterOf(initialValue);
  initial.earliestResponseMs = Number.NEGATIVE_INFINITY;
  for (const operation of operations) {
    const cluster = clusterOf(operation.value);
    if (operation.kind === 'write') cluster.write = operation;
    else cluster.reads += 1;
    cluster.earliestResponseMs = Math.min(cluster.earliestResponseMs, operation.respondedMs);
    cluster.latestInvocationMs = Math.max(cluster.latestInvocationMs, operation.invokedMs);
  }
  return clusters;
}

function registerProblem(operations: readonly RegisterOperation[]): string | null {
  const clusters = clustersOf(operations);
  for (const { kind, value, respondedMs } of operations) {
    if (kind !== 'read' || value === initialValue) continue;
    const write = clusters.get(value)?.write ?? null;
    if (write === null) return `a read returned ${value}, which nobody wrote`;
    if (respondedMs < write.invokedMs) return `a read returned ${value} before it was written`;
  }
  const forward: Cluster[] = [];
  const backward: Cluster[] = [];
  for (const cluster of clusters.values()) {
    // A write that nobody saw and whose client never learned of it need not have happened.
    if (cluster.reads === 0 && cluster.write?.respondedMs === Number.POSITIVE_INFINITY) continue;
    if (cluster.latestInvocationMs === Number.NEGATIVE_INFINITY) continue;
    if (cluster.earliestResponseMs < cluster.latestInvocationMs) forward.push(cluster);
    else backward.push(cluster);
  }
  forward.sort((left, right) => left.earliestResponseMs - right.earliestResponseMs);
  for (const [place, cluster] of forward.entries()) {
    const next = forward[place + 1];
    if (next !== undefined && next.earliestResponseMs < cluster.latestInvocationMs) {
      return `values ${cluster.value} and ${next.value} were each seen before and after the other`;
    }
  }
  for (const cluster of backward) {
    const around = zoneAround(forward, cluster);
    if (around !== null)
      return `value ${cluster.value} was written and seen only while it had to be ${around.value}`;
  }
  return null;
}

/** The forward zone that the whole of `inner` lies in. Zones don't overlap: it can only be the last to start before. */
function zoneAround(forward: readonly Cluster[], inner: Cluster): Cluster | null {
  let low = 0;
  let high = forward.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((forward[middle]?.earliestResponseMs ?? 0) < inner.latestInvocationMs) low = middle + 1;
    else high = middle;
  }
  const zone = forward[low - 1];
  return zone !== undefined && inner.earliestResponseMs < zone.latestInvocationMs ? zone : null;
}
