import { SafetyCheckers } from './checkers/safety.js';
import type { Verdict } from './checkers/verdict.js';

/**
 * One cluster and all that is known of its log: a recovery from lost quorum begins another. What was committed in one
 * says nothing about the other, and nothing of one may come into the other.
 */
export interface History {
  readonly clusterId: string;
  readonly checkers: SafetyCheckers;
}

export const beginHistory = (clusterId: string, verdict: Verdict): History => ({
  clusterId,
  checkers: new SafetyCheckers(verdict),
});
