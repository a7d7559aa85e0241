import { err } from '../base/result.js';
import type { Timers } from '../base/timers.js';
import type { ManagementResult } from '../hsm/management-protocol.js';
import type { AdministeredToken } from './key-objects.js';

/**
 * How long administration waits for one token. Together with what else a request does they stay below the 20 s for which
 * the replica waits: one that hangs must not take the answers of the others with it.
 */
const answerWithinMs = {
  /** Up to a thousand objects with their attributes. */
  listing: 15_000,
  /** Up to three of these, and two operations with a deadline of 5 s, are one request. */
  finding: 3_000,
  login: 15_000,
  probe: 15_000,
  /** From the start of the process. */
  firstAttempt: 15_000,
} as const;

/** The same token, of which it is said that it does not answer once that has taken too long. The call itself goes on. */
export function answering(token: AdministeredToken, timers: Timers): AdministeredToken {
  const bounded = <T>(limitMs: number, answer: Promise<ManagementResult<T>>): Promise<ManagementResult<T>> =>
    within(timers, limitMs, answer, () =>
      err({ code: 'token-unavailable', rv: null, functionName: null, message: silence(limitMs) }),
    );
  const { management } = token;
  return {
    crypto: token.crypto,
    management: {
      listObjects: () => bounded(answerWithinMs.listing, management.listObjects()),
      findObject: (wanted) => bounded(answerWithinMs.finding, management.findObject(wanted)),
      // Asked of one token alone, which may take its time: whether it made a key must be known.
      generateKey: (key) => management.generateKey(key),
    },
    status: () => token.status(),
    firstAttempt: within(timers, answerWithinMs.firstAttempt, token.firstAttempt, () => {}),
    canary: () => token.canary(),
    retryLogin: (forgive) =>
      within(timers, answerWithinMs.login, token.retryLogin(forgive), () => ({
        ...token.status(),
        state: 'UNAVAILABLE',
        reason: silence(answerWithinMs.login),
      })),
    probe: (accept) =>
      within(timers, answerWithinMs.probe, token.probe(accept), () => err(silence(answerWithinMs.probe))),
  };
}

const silence = (limitMs: number): string => `the token does not answer: nothing for ${limitMs / 1_000} s`;

function within<T>(timers: Timers, limitMs: number, answer: Promise<T>, late: () => T): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = timers.after(limitMs, () => resolve(late()));
    answer.finally(cancel).then(resolve, reject);
  });
}
