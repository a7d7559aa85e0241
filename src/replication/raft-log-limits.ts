import type { LoopLimits } from './replication-loop.js';

/**
 * A leader that is gone is missed after 500 to 950 ms and replaced within 1.5 s; a heartbeat every 100 ms may be lost
 * four times in a row.
 */
export const raftLogLimits: LoopLimits = {
  tickMs: 50,
  electionTicks: 10,
  heartbeatTicks: 2,
  /** Proposals that wait at once. */
  proposalsMax: 1_024,
  /** Longest command. */
  commandBytesMax: 64 * 1024,
  /** A snapshot is made after so many entries or bytes of log, whichever comes first, if not a little earlier. */
  snapshotEntries: 10_000,
  snapshotBytes: 16 * 1024 * 1024,
  freshnessIntervalMs: 500,
  reportIntervalMs: 1_000,
  stateHashInterval: 8,
};

/** Unless the caller says otherwise. */
export const proposeTimeoutMsDefault = 5_000;
export const readTimeoutMsDefault = 2_000;

/** Reads that wait at once. */
export const readsMax = 1_024;

/** How long closing waits for proposals and reads that wait for others. */
export const closeWaitMsMax = 2_000;
