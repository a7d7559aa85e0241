import { LatencyHistogram } from '../../bench/driver/latency-histogram.js';
import type { AnswerVerdict } from './answers.js';
import type { Stretch, StretchReport } from './load-protocol.js';

/** KMS gives up after this (X-T5). */
export const kmsTimeoutMs = 250;

interface Entry {
  readonly dueMs: number;
  /** `null`: no answer yet. */
  latencyMs: number | null;
  verdict: AnswerVerdict | null;
  readonly sentLate: boolean;
}

/** What became of every request. Times are milliseconds of one clock. */
export class LoadRecord {
  readonly #entries: Entry[] = [];
  #lastFailureMs = 0;

  /** @returns the number that `answered` wants. */
  due(dueMs: number, sentLate: boolean): number {
    this.#entries.push({ dueMs, latencyMs: null, verdict: null, sentLate });
    return this.#entries.length - 1;
  }

  answered(number: number, verdict: AnswerVerdict, nowMs: number): void {
    const entry = this.#entries[number];
    if (entry === undefined) return;
    entry.verdict = verdict;
    entry.latencyMs = nowMs - entry.dueMs;
    if (verdict.kind !== 'right' || entry.latencyMs > kmsTimeoutMs) this.#lastFailureMs = nowMs;
  }

  /** Whether nobody waits for its answer any more, while it was not even sent: it counts as unanswered. */
  hasWaited(number: number, nowMs: number): boolean {
    const entry = this.#entries[number];
    if (entry === undefined || nowMs - entry.dueMs <= kmsTimeoutMs) return false;
    this.#lastFailureMs = nowMs;
    return true;
  }

  /** When the last answer came that was not right or too late, 0 for none. */
  get lastFailureMs(): number {
    return this.#lastFailureMs;
  }

  report({ fromMs, untilMs }: Stretch): StretchReport {
    const all = new LatencyHistogram();
    const served = new LatencyHistogram();
    const refused = new LatencyHistogram();
    const said: Record<string, number> = {};
    let [requests, failed, late, wrong, sentLate] = [0, 0, 0, 0, 0];
    for (const entry of this.#entries) {
      if (entry.dueMs < fromMs || entry.dueMs >= untilMs) continue;
      requests += 1;
      if (entry.sentLate) sentLate += 1;
      const verdict = entry.verdict ?? unanswered;
      if (entry.latencyMs === null || entry.latencyMs > kmsTimeoutMs) late += 1;
      if (entry.latencyMs !== null) {
        const micros = entry.latencyMs * 1_000;
        all.record(micros);
        if (verdict.kind === 'right') served.record(micros);
        else if (verdict.isRefusal === true) refused.record(micros);
      }
      if (verdict.kind === 'right') continue;
      said[verdict.what] = (said[verdict.what] ?? 0) + 1;
      if (verdict.kind === 'wrong') wrong += 1;
      else failed += 1;
    }
    return {
      seconds: (untilMs - fromMs) / 1_000,
      requests,
      failed,
      late,
      wrong,
      p99Ms: all.percentile(0.99) / 1_000,
      maxMs: all.percentile(1) / 1_000,
      servedP99Ms: served.percentile(0.99) / 1_000,
      refusedP99Ms: refused.percentile(0.99) / 1_000,
      said,
      sentLate,
    };
  }
}

const unanswered: AnswerVerdict = { kind: 'failed', what: 'no answer' };
