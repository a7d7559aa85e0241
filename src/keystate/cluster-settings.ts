import type { ClusterSettings } from './cluster-types.js';

export const defaultSettings: ClusterSettings = {
  electionTicks: 10,
  tickMs: 50,
  heartbeatTicks: 2,
  freshnessIntervalMs: 500,
  serveStaleMaxMs: 24 * 3_600_000,
};

export const settingsLimits = {
  tickMsMin: 10,
  tickMsMax: 500,
  /** One heartbeat or two may be lost before anybody campaigns. */
  heartbeatsPerElectionMin: 3,
  /** Shorter ones are over whenever a disk or an event loop is slow for once; a write that takes as long ends a lead. */
  electionMsMin: 100,
  /** From the leader's death (replication.md, the kill switch contract). */
  newLeaderWithinMs: 1_500,
  /** Of that, for votes to go around after the longest election timeout, and for the no-op to commit. */
  electionRoundMs: 300,
  freshnessIntervalMsMin: 100,
  /**
   * A node just lost to its leader is fresh again before the smallest D (`isolationBoundMsMin`) is over, also when the
   * new leader takes all its time and some rounds are lost: killing a leader fences nobody.
   */
  freshnessIntervalMsMax: 1_000,
  serveStaleMaxMsMin: 60_000,
  serveStaleMaxMsMax: 30 * 24 * 3_600_000,
} as const;

/** What is wrong with settings, each and against each other; `null` when nothing is. Worded for operators. */
export function settingsProblem(settings: ClusterSettings): string | null {
  const { electionTicks, tickMs, heartbeatTicks, freshnessIntervalMs, serveStaleMaxMs } = settings;
  const l = settingsLimits;
  if (tickMs < l.tickMsMin || tickMs > l.tickMsMax) {
    return `a tick has ${l.tickMsMin} to ${l.tickMsMax} ms`;
  }
  if (heartbeatTicks < 1) return 'a heartbeat takes at least one tick';
  if (electionTicks < l.heartbeatsPerElectionMin * heartbeatTicks) {
    return `an election timeout has ${l.heartbeatsPerElectionMin} heartbeats at least`;
  }
  if (electionTicks * tickMs < l.electionMsMin) {
    return `an election timeout has ${l.electionMsMin} ms at least, and this one ${electionTicks} × ${tickMs}`;
  }
  // The timeout is drawn from one to two times `electionTicks` (paper §5.2).
  if (2 * electionTicks * tickMs + l.electionRoundMs > l.newLeaderWithinMs) {
    return `a new leader must stand within ${l.newLeaderWithinMs} ms: election-ticks × tick-ms may be ${(l.newLeaderWithinMs - l.electionRoundMs) / 2} ms at most`;
  }
  if (freshnessIntervalMs < l.freshnessIntervalMsMin || freshnessIntervalMs > l.freshnessIntervalMsMax) {
    return `freshness is asked for every ${l.freshnessIntervalMsMin} to ${l.freshnessIntervalMsMax} ms`;
  }
  return serveStaleMaxMs < l.serveStaleMaxMsMin || serveStaleMaxMs > l.serveStaleMaxMsMax
    ? `serve-stale-max-ms is ${l.serveStaleMaxMsMin} to ${l.serveStaleMaxMsMax}`
    : null;
}
