import type { FaultCase } from './fault-case.js';
import type { StretchReport } from './load-protocol.js';

/** What one case showed. */
export interface CaseOutcome {
  /** While the fault was there. */
  readonly during: StretchReport;
  /** From its end until the last answer that was not right, or late; `null`: that had not ended after `tailMs`. */
  readonly recoveryMs: number | null;
  /** From its end until nobody looked any more. */
  readonly after: StretchReport;
  /** What the tokens could do at most meanwhile, in requests a second; of an overload only. */
  readonly capacity?: number;
}

/**
 * `not-judged`: the machine gave the load itself too little of a core for its latencies, and what follows from them, to
 * say anything; nothing was wrong.
 */
export type Verdict = 'ok' | 'failed' | 'not-judged';

/** Of the requests that were sent late because the load's process did not run. */
const sentLateShareMax = 0.01;

export function verdictOf(problems: readonly string[], outcome: CaseOutcome | null): Verdict {
  if (problems.length === 0) return 'ok';
  if (outcome === null || outcome.during.wrong + outcome.after.wrong > 0) return 'failed';
  const { sentLate, requests } = outcome.during;
  return sentLate > sentLateShareMax * requests ? 'not-judged' : 'failed';
}

/** With every token ill, and then one well. */
const recoveryMaxMs = 2_000;

/** Why a case has failed; empty when it has passed. */
export function problemsOf(
  faultCase: FaultCase,
  tokens: number,
  { during, recoveryMs, after, capacity }: CaseOutcome,
): readonly string[] {
  const problems: string[] = [];
  const wrong = during.wrong + after.wrong;
  if (during.requests === 0) problems.push('nothing was asked');
  if (wrong > 0) problems.push(`${wrong} wrong answers`);
  if (during.late > 0) problems.push(`${during.late} answers later than KMS waits`);
  if (recoveryMs === null) problems.push('it has not recovered');
  else if (recoveryMs > recoveryMaxMs)
    problems.push(`it took ${(recoveryMs / 1_000).toFixed(1)} s to recover`);
  if (faultCase.overload !== undefined)
    problems.push(...overloadProblems(faultCase.overload, during, capacity ?? Number.NaN));
  // A single token that is ill leaves nothing but to say so in time.
  if ((tokens > 1 && faultCase.breaksAll !== true) || faultCase.harmless === true) {
    const { failed, p99Ms } = faultCase.allowed;
    if (during.failed > failed) problems.push(`${during.failed} requests failed, ${failed} may`);
    if (!(during.p99Ms < p99Ms)) problems.push(`p99 is not below ${p99Ms} ms`);
  }
  return problems;
}

function overloadProblems(
  { capacityShareMin, servedP99Ms, refusedP99Ms }: NonNullable<FaultCase['overload']>,
  during: StretchReport,
  capacity: number,
): readonly string[] {
  const problems: string[] = [];
  const share = servedRate(during) / capacity;
  if (!(share >= capacityShareMin))
    problems.push(
      `${(100 * share).toFixed(1)}% of the capacity was served, ${100 * capacityShareMin}% is to be`,
    );
  if (!(during.servedP99Ms < servedP99Ms))
    problems.push(`p99 of what was served is not below ${servedP99Ms} ms`);
  if (!(during.refusedP99Ms < refusedP99Ms)) problems.push(`p99 of refusals is not below ${refusedP99Ms} ms`);
  return problems;
}

/** Requests a second that were served. */
export const servedRate = ({ requests, failed, wrong, seconds }: StretchReport): number =>
  (requests - failed - wrong) / seconds;
