/**
 * X-H3: what the background checks on a token say of it. Pure: the caller probes and tells, time is passed in.
 */

/** Between two checks of a token. */
export const healthIntervalMs = 1_000;
/** A check that takes longer failed: a call outstanding for so long means that the token hangs. */
export const healthDeadlineMs = 1_000;
/** An encrypt and a decrypt that take longer leave a request little of its 150 ms. */
export const healthSlowMs = 100;
/** Older results say nothing. */
export const healthAgeMaxMs = 5_000;

export type TokenState = 'ACTIVE' | 'DEGRADED' | 'UNAVAILABLE';

/** The outcome of an encrypt and a decrypt on the test key. */
export type HealthCheck =
  | { readonly kind: 'passed'; readonly atMs: number; readonly tookMs: number }
  /** Refused for want of a free session or cell: we are busy, the token may be well. */
  | { readonly kind: 'busy'; readonly atMs: number }
  | { readonly kind: 'failed'; readonly atMs: number; readonly reason: string };

/** What is known of a token that is logged in. */
export interface HealthRecord {
  /** When it became usable. */
  readonly usableSinceMs: number;
  /** Whether there is a test key to check it with. */
  readonly hasTestKey: boolean;
  readonly last: HealthCheck | null;
  readonly lastPassedAtMs: number | null;
}

export const freshHealth = (nowMs: number, hasTestKey: boolean): HealthRecord => ({
  usableSinceMs: nowMs,
  hasTestKey,
  last: null,
  lastPassedAtMs: null,
});

export const withCheck = (record: HealthRecord, check: HealthCheck): HealthRecord => ({
  ...record,
  last: check,
  lastPassedAtMs: check.kind === 'passed' ? check.atMs : record.lastPassedAtMs,
});

export interface HealthVerdict {
  readonly state: TokenState;
  /** For people; `null` when ACTIVE. */
  readonly reason: string | null;
}

export function judgeHealth(record: HealthRecord, nowMs: number): HealthVerdict {
  if (!record.hasTestKey) {
    return {
      state: 'DEGRADED',
      reason: 'there is no test key on it to check it with; run: xksctl hsm prepare',
    };
  }
  if (record.last?.kind === 'failed') {
    return { state: 'UNAVAILABLE', reason: record.last.reason };
  }
  if (nowMs - (record.lastPassedAtMs ?? record.usableSinceMs) > healthAgeMaxMs) {
    return {
      state: 'UNAVAILABLE',
      reason: `the check on its test key has not passed for ${healthAgeMaxMs / 1000} s`,
    };
  }
  if (record.last === null)
    return { state: 'DEGRADED', reason: 'the first check on its test key is under way' };
  if (record.last.kind === 'busy')
    return { state: 'DEGRADED', reason: 'busy: no session was free for a check' };
  if (record.last.tookMs > healthSlowMs) {
    return {
      state: 'DEGRADED',
      reason: `slow: an encrypt and a decrypt took over ${healthSlowMs} ms`,
    };
  }
  return { state: 'ACTIVE', reason: null };
}
