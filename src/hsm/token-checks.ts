import type { FailedCheck } from './health-check.js';
import {
  freshHealth,
  type HealthCheck,
  type HealthRecord,
  type HealthVerdict,
  judgeHealth,
  withCheck,
} from './token-health.js';

/** Checks that fail one after the other before the module is opened anew. */
const failedChecksMax = 5;
/** The same when the test key is gone: twice as many after each time that did not bring it back, up to so many. */
const lostKeyChecksMax = 60;

/** What is to be opened anew after a check: nothing, the module, or the module in case it has lost sight of the key. */
export type Reopening = 'none' | 'module' | 'for-lost-key';

/** What the checks on a test key say of its token, and when they call for a new beginning. Pure: it is told of them. */
export class TokenChecks {
  #health: HealthRecord;
  #failedChecks = 0;
  /** How often the module was opened anew for the test key, since a check passed. */
  #openedForLostKey = 0;

  constructor(nowMs: number) {
    this.#health = freshHealth(nowMs, false);
  }

  /** Nothing is known any more of a token that has just become usable, or has another test key. */
  begin(nowMs: number, hasTestKey: boolean): void {
    this.#health = freshHealth(nowMs, hasTestKey);
    this.#failedChecks = 0;
  }

  get lastPassed(): boolean {
    return this.#health.last?.kind === 'passed';
  }

  verdict(nowMs: number): HealthVerdict {
    return judgeHealth(this.#health, nowMs);
  }

  /** @param isOpening the module is being opened anew as it is. */
  checked(
    check: Exclude<HealthCheck, { readonly kind: 'failed' }> | FailedCheck,
    isOpening: boolean,
  ): Reopening {
    this.#health = withCheck(this.#health, check);
    if (check.kind === 'passed') {
      this.#failedChecks = 0;
      this.#openedForLostKey = 0;
    }
    return check.kind === 'failed' ? this.#failed(check, isOpening) : 'none';
  }

  #failed(check: FailedCheck, isOpening: boolean): Reopening {
    this.#failedChecks += 1;
    if (check.worthReopening === 'never' || isOpening) return 'none';
    const isLost = check.worthReopening === 'later';
    const checksMax = isLost
      ? Math.min(lostKeyChecksMax, failedChecksMax * 2 ** this.#openedForLostKey)
      : failedChecksMax;
    if (this.#failedChecks < checksMax) return 'none';
    if (!isLost) return 'module';
    this.#openedForLostKey += 1;
    return 'for-lost-key';
  }
}
